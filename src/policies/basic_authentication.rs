use super::{ConfigError, Core, Policy};

#[derive(serde::Deserialize)]
pub struct Config {}

#[derive(Debug)]
pub struct BasicAuthentication;

impl Policy for BasicAuthentication {
    type Config = Config;
    type State = ();
    fn compile(_config: Config) -> Result<Self, ConfigError> {
        Ok(Self)
    }
    fn state(&self, _: &Core) {}
}
