//! Blocks every request that its rules select, or all of an API: for what must be closed without being taken away.

use std::rc::Rc;

use serde::Deserialize;

use super::{Answers, Category, ConfigError, Core, Exchange, Flow, LocalResponse, Policy, Site, Turn};

const BLOCKED: Answers = Answers { status: 403, reason: "access_blocked", when: "the policy applies to the request" };

/// There is nothing to write.
#[derive(Deserialize)]
pub struct Config {}

#[derive(Debug)]
pub struct AccessBlock;

impl Policy for AccessBlock {
    type Config = Config;
    /// The refusal, made once.
    type State = Rc<LocalResponse>;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const ANSWERS: &'static [Answers] = &[BLOCKED];

    fn compile(_: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn state(&self, _: &Core) -> Self::State {
        Rc::new(LocalResponse::error_json(BLOCKED.status, "Access is blocked", BLOCKED.reason))
    }

    fn on_request(&self, turn: Turn<'_, Self>, _: &mut Exchange<'_>) -> Flow {
        Flow::Respond(turn.state.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    #[test]
    fn every_request_is_refused() {
        let policy = testing::compile::<AccessBlock>("{}").expect("valid");
        let state = policy.state(&Core::default());
        for method in ["GET", "POST", "OPTIONS"] {
            let mut trial = testing::Trial::new(method, "/", &[("Authorization", "Basic dTpw")]);
            let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut () }, exchange));
            let Flow::Respond(answer) = flow else { panic!("{method} passed") };
            assert_eq!((answer.status, answer.reason), (403, "access_blocked"));
            assert_eq!(&*answer.body, br#"{"error":"Access is blocked"}"#);
        }
    }

    #[test]
    fn a_parameter_is_remarked_on_and_changes_nothing() {
        let remarks = testing::remarks::<AccessBlock>("{status: 404}");
        assert_eq!(remarks.len(), 1, "{remarks:?}");
    }
}
