//! What an authorization server says of a token (RFC 7662, section 2.2).
//!
//! A token has one answer: JSON in which no name is repeated. What is no such answer is none, never a good one.

use crate::expression::{Datum, Object, Value};

const ACTIVE: &str = "active";
const SCOPE: &str = "scope";
const EXP: &str = "exp";
const NBF: &str = "nbf";
const ISSUER: &str = "iss";

/// A token that the server knows.
#[derive(Debug, PartialEq)]
pub struct Token {
    fields: Object,
    /// Seconds since 1970.
    pub exp: Option<u64>,
    pub nbf: Option<u64>,
}

#[derive(Debug, PartialEq)]
pub enum Said {
    Active(Token),
    /// With the time that it would have been good to, where the server says so all the same.
    Inactive {
        exp: Option<u64>,
    },
}

/// `None`: that is no answer.
pub fn read(body: &[u8]) -> Option<Said> {
    let Datum::Object(fields) = Datum::from_json_without_repetition(std::str::from_utf8(body).ok()?)? else {
        return None;
    };
    let is_active = match fields.get(ACTIVE)? {
        Datum::Boolean(is_active) => *is_active,
        _ => return None,
    };
    let exp = seconds(fields.get(EXP));
    if !is_active {
        return Some(Said::Inactive { exp: exp.ok().flatten() });
    }
    let (exp, nbf) = (exp.ok()?, seconds(fields.get(NBF)).ok()?);
    Some(Said::Active(Token { fields, exp, nbf }))
}

impl Token {
    pub fn fields(&self) -> &Object {
        &self.fields
    }

    pub fn text(&self, name: &str) -> &str {
        self.fields.text(name).unwrap_or_default()
    }

    pub fn scope(&self) -> Option<&Datum> {
        self.fields.get(SCOPE)
    }

    /// Whether it was issued by this one, as far as it says.
    pub fn may_be_of(&self, issuer: &str) -> bool {
        match self.fields.get(ISSUER) {
            None | Some(Datum::Null) => true,
            Some(Datum::String(said)) => said.trim_end_matches('/') == issuer,
            Some(_) => false,
        }
    }
}

/// The fields that are told upstream: of one value, and not those that say how long or for what the token is good.
pub fn told(fields: &Object) -> impl Iterator<Item = (&str, String)> {
    let is_told = |name: &str| name != SCOPE && name != EXP;
    fields.entries().iter().filter(move |(name, _)| is_told(name)).filter_map(|(name, value)| {
        let text = match value {
            Datum::String(text) => text.to_string(),
            Datum::Boolean(value) => value.to_string(),
            Datum::Number(_) => Value::from(value).into_text().ok()?.into_owned(),
            _ => return None,
        };
        Some((&**name, text))
    })
}

/// A moment, in whole seconds since 1970; some servers write it as text. One before that is over.
fn seconds(field: Option<&Datum>) -> Result<Option<u64>, ()> {
    let seconds = match field {
        None | Some(Datum::Null) => return Ok(None),
        Some(number @ Datum::Number(_)) => match Value::from(number) {
            Value::Number(value, _) => value,
            _ => return Err(()),
        },
        Some(Datum::String(text)) if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) => {
            text.parse().map_err(|_| ())?
        }
        Some(_) => return Err(()),
    };
    // What does not fit is the end of time.
    Ok(Some(seconds.max(0.0) as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_says_whether_and_until_when() {
        let times = |body: &str| match read(body.as_bytes()) {
            Some(Said::Active(token)) => Ok((token.exp, token.nbf)),
            Some(Said::Inactive { exp }) => Err(Some(exp)),
            None => Err(None),
        };
        for (body, expected) in [
            (r#"{"active": true}"#, Ok((None, None))),
            (r#" {"active":true,"exp":7,"nbf":3} "#, Ok((Some(7), Some(3)))),
            (r#"{"active": true, "exp": 7.9, "nbf": -1}"#, Ok((Some(7), Some(0)))),
            (r#"{"active": true, "exp": "7"}"#, Ok((Some(7), None))),
            (r#"{"active": true, "exp": null}"#, Ok((None, None))),
            (r#"{"active": true, "exp": 1e300}"#, Ok((Some(u64::MAX), None))),
            (r#"{"active": true, "exp": 1e999}"#, Err(None)),
            (r#"{"active": true, "exp": "soon"}"#, Err(None)),
            (r#"{"active": true, "exp": ""}"#, Err(None)),
            (r#"{"active": true, "exp": "inf"}"#, Err(None)),
            (r#"{"active": true, "exp": {}}"#, Err(None)),
            (r#"{"active": true, "nbf": []}"#, Err(None)),
            (r#"{"active": false}"#, Err(Some(None))),
            (r#"{"active": false, "exp": 7}"#, Err(Some(Some(7)))),
            (r#"{"active": false, "exp": "soon"}"#, Err(Some(None))),
            (r#"{"active": "true"}"#, Err(None)),
            (r#"{"active": 1}"#, Err(None)),
            (r#"{"active": null}"#, Err(None)),
            (r#"{"active": true, "active": true}"#, Err(None)),
            (r#"{"active": false, "active": true}"#, Err(None)),
            (r#"{"Active": true}"#, Err(None)),
            (r#"[{"active": true}]"#, Err(None)),
            (r#"{"active": true"#, Err(None)),
            (r#"{"active": true} {}"#, Err(None)),
            ("true", Err(None)),
            ("", Err(None)),
        ] {
            assert_eq!(times(body), expected, "{body}");
        }
        assert_eq!(read(b"{\"active\": true, \"a\": \"\xff\"}"), None);
        let nested = format!("{{\"active\": true, \"a\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(read(nested.as_bytes()), None);
    }

    #[test]
    fn fields_of_one_value_are_told() {
        let body =
            r#"{"active": true, "client_id": "c", "n": 1.50, "scope": "a", "exp": 7, "o": {}, "l": [1], "z": null}"#;
        let Some(Said::Active(token)) = read(body.as_bytes()) else { panic!("it is good") };
        let told: Vec<String> = told(token.fields()).map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(told, ["active=true", "client_id=c", "n=1.50"]);
    }

    #[test]
    fn a_token_of_another_issuer_says_so() {
        let may_be = |issuer: &str| {
            let body = format!(r#"{{"active": true{issuer}}}"#);
            let Some(Said::Active(token)) = read(body.as_bytes()) else { panic!("it is good") };
            token.may_be_of("https://a.test")
        };
        assert!(may_be("") && may_be(r#", "iss": "https://a.test""#) && may_be(r#", "iss": "https://a.test/""#));
        assert!(!may_be(r#", "iss": "https://b.test""#) && !may_be(r#", "iss": ["https://a.test"]"#));
    }

    proptest! {
        #[test]
        fn any_bytes_may_come(body in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&body);
        }
    }
}
