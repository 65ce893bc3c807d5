//! Why a request is refused: every answer that there is, made once for each core.
//!
//! No text repeats what the client sent, and none says more of a token than who made it would know.

use std::rc::Rc;

use crate::policies::{Answers, LocalResponse, bearer::NoBearer};

pub const MISSING: Answers = Answers { status: 400, reason: "jwt_missing", when: "there is no token" };
pub const NOT_BEARER: Answers =
    Answers { status: 400, reason: "jwt_not_bearer", when: "`authorization` is not `Bearer TOKEN`" };
pub const UNPARSABLE: Answers = Answers { status: 401, reason: "jwt_unparsable", when: "the token is malformed" };
pub const UNVERIFIED: Answers = Answers {
    status: 401,
    reason: "jwt_unverified",
    when: "the signature is wrong, or by a key, an algorithm or with an extension that is not taken",
};
pub const CLAIMS: Answers =
    Answers { status: 401, reason: "jwt_claims", when: "a claim is missing, or not what it must be" };
pub const NO_KEYS: Answers =
    Answers { status: 503, reason: "jwt_no_keys", when: "no key set that could have the token's key has come yet" };
pub const CLIENT: Answers =
    Answers { status: 403, reason: "jwt_client", when: "no contract of the API is that of the token's client" };

/// Declares each refusal with its kind and its text.
macro_rules! refusals {
    ($($name:ident $answer:ident $text:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($name,)*
        }

        impl Refusal {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its kind, and what the client reads.
            pub fn said(self) -> (Answers, &'static str) {
                match self {
                    $(Self::$name => ($answer, $text),)*
                }
            }
        }
    };
}

refusals! {
    NoToken MISSING "JWT Token is required.";
    NotBearer NOT_BEARER "Invalid token. Not a bearer authorization header.";
    BearerMalformed NOT_BEARER "Bearer malformed.";
    NotText UNPARSABLE "Token parsing error: not a text.";
    TooLong UNPARSABLE "Token parsing error: too long.";
    Encrypted UNPARSABLE "Token parsing error: encrypted tokens are not supported.";
    Parts UNPARSABLE "Token parsing error: not three parts.";
    Encoding UNPARSABLE "Token parsing error: not base64url.";
    Header UNPARSABLE "Token parsing error: malformed header.";
    Claims UNPARSABLE "Token parsing error: malformed claims.";
    Time UNPARSABLE "Token parsing error: a time that is not a number of seconds.";
    Algorithm UNVERIFIED "Invalid token. JWT Policy validation error: wrong signature algorithm.";
    Critical UNVERIFIED "Invalid token. JWT Policy validation error: unknown critical extension.";
    Signature UNVERIFIED "Invalid token. JWT Policy validation error: wrong signature.";
    KidMissing UNVERIFIED "Invalid token. Missing 'kid' header.";
    KeyUnknown UNVERIFIED "Invalid token. JWT Policy validation error: unknown key.";
    NoKeys NO_KEYS "The keys that tokens are checked with are not available.";
    ExpMissing CLAIMS "Invalid token. Exp claim not present.";
    Expired CLAIMS "Invalid token. Exp claim validation error.";
    NbfMissing CLAIMS "Invalid token. Nb claim not present.";
    NotYet CLAIMS "Invalid token. Nb claim validation error.";
    AudMissing CLAIMS "Invalid token. Aud claim not present.";
    Aud CLAIMS "Invalid token. Aud claim validation error.";
    MandatoryClaim CLAIMS "Invalid token. Mandatory custom claim mismatch or not present.";
    OtherClaim CLAIMS "Invalid token. Non mandatory custom claim mismatch.";
    Client CLIENT "Invalid client.";
}

impl From<NoBearer> for Refusal {
    fn from(why: NoBearer) -> Self {
        match why {
            NoBearer::Missing => Self::NoToken,
            NoBearer::Other => Self::NotBearer,
            NoBearer::Empty => Self::BearerMalformed,
        }
    }
}

/// One core's answers: who sends bad tokens costs no allocation for them.
pub struct Refusals(Box<[Rc<LocalResponse>]>);

impl Refusals {
    pub fn new() -> Self {
        Self(Refusal::ALL.iter().map(|refusal| Rc::new(answer(*refusal))).collect())
    }

    pub fn answer(&self, refusal: Refusal) -> Rc<LocalResponse> {
        self.0[refusal as usize].clone()
    }
}

fn answer(refusal: Refusal) -> LocalResponse {
    let (Answers { status, reason, .. }, text) = refusal.said();
    let response = LocalResponse::error_json(status, text, reason);
    // RFC 9110, section 15.5.2: a 401 says how to do better.
    if status == 401 { response.with_header("www-authenticate", "Bearer error=\"invalid_token\"") } else { response }
}
