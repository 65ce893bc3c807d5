use super::{ConfigError, Core, Policy};

#[derive(serde::Deserialize)]
pub struct Config {}

#[derive(Debug)]
pub struct HeaderRemoval;

impl Policy for HeaderRemoval {
    type Config = Config;
    type State = ();
    fn compile(_config: Config) -> Result<Self, ConfigError> {
        Ok(Self)
    }
    fn state(&self, _: &Core) {}
}
