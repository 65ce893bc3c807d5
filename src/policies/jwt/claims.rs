//! What the claims of a genuine token must say. Asked for each request, of a cached token too: time passes, and expressions
//! may look at the request.

use super::{FORMATS, refusal::Refusal, token::Verified};
use crate::{
    expression::{Datum, Template, Value},
    policies::{Exchange, reading::Reading},
};

#[derive(Debug)]
pub struct Claims {
    pub exp_mandatory: bool,
    pub nbf_mandatory: bool,
    pub aud_mandatory: bool,
    /// One of these must be among the token's; none where that is not checked.
    pub audiences: Option<Box<[Box<str>]>>,
    pub mandatory: Box<[Custom]>,
    /// Only checked where the claim is there.
    pub others: Box<[Custom]>,
}

#[derive(Debug)]
pub struct Custom {
    pub name: Box<str>,
    pub value: Template,
}

impl Claims {
    pub fn check(&self, token: &Verified, exchange: &Exchange<'_>, now: u64) -> Result<(), Refusal> {
        match token.exp {
            None if self.exp_mandatory => return Err(Refusal::ExpMissing),
            Some(exp) if exp <= now => return Err(Refusal::Expired),
            _ => {}
        }
        match token.nbf {
            None if self.nbf_mandatory => return Err(Refusal::NbfMissing),
            Some(nbf) if nbf > now => return Err(Refusal::NotYet),
            _ => {}
        }
        self.check_audience(token.claim("aud"))?;
        let claims = |_: &str| Value::from(token.claims());
        let reading = Reading::request(exchange).with_variables(&claims).with_payload(&FORMATS);
        if !self.mandatory.iter().all(|custom| custom.is_met(token, &reading).unwrap_or(false)) {
            return Err(Refusal::MandatoryClaim);
        }
        if !self.others.iter().all(|custom| custom.is_met(token, &reading).unwrap_or(true)) {
            return Err(Refusal::OtherClaim);
        }
        Ok(())
    }

    fn check_audience(&self, claim: Option<&Datum>) -> Result<(), Refusal> {
        let Some(claim) = claim else {
            return if self.aud_mandatory { Err(Refusal::AudMissing) } else { Ok(()) };
        };
        let Some(audiences) = &self.audiences else { return Ok(()) };
        let is_ours = |audience: &Datum| match audience {
            Datum::String(audience) => audiences.contains(audience),
            _ => false,
        };
        // RFC 7519, section 4.1.3: one string, or a list of nothing but strings.
        let is_met = match claim {
            Datum::List(list) => list.iter().all(|item| matches!(item, Datum::String(_))) && list.iter().any(is_ours),
            claim => is_ours(claim),
        };
        if is_met { Ok(()) } else { Err(Refusal::Aud) }
    }
}

impl Custom {
    /// None where the token has no such claim.
    fn is_met(&self, token: &Verified, reading: &Reading<'_, '_>) -> Option<bool> {
        let claim = token.claim(&self.name)?;
        Some(match &self.value {
            Template::Literal(wanted) => Value::from(claim).into_text().is_ok_and(|text| *text == **wanted),
            // Nothing but `true` will do: the text `true` may be the token's own.
            Template::Expression(expression) => matches!(expression.evaluate(reading), Ok(Value::Boolean(true))),
        })
    }
}
