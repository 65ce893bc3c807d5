//! Keys that an expression gives for each request.

use super::*;

fn custom(rest: &str) -> JwtValidation {
    policy(&format!("{{jwtKeyOrigin: customExpression, {rest}}}"))
}

const BY_HEADER: &str = "customKeyExpression: \"#[attributes.headers['x-key']]\"";

/// What becomes of a token of a request with this key.
fn ask_with(policy: &JwtValidation, state: &State, key: Option<&str>, token: &str) -> Result<(), String> {
    let bearer = format!("Bearer {token}");
    let lines = [("authorization", &*bearer), ("x-key", key.unwrap_or_default())];
    outcome(policy, state, &lines[..1 + usize::from(key.is_some())]).0
}

#[test]
fn each_request_may_have_a_key_of_its_own() {
    let policy = custom(BY_HEADER);
    let state = policy.state(&Core::default());
    let (rsa, stranger) = (BASE64.encode(KEYS.rsa_der()), {
        let der = AsDer::as_der(KEYS.stranger.public_key()).expect("DER");
        BASE64.encode(der.as_ref())
    });
    let token = token(RS256, CLAIMS, rs256);
    let unknown = refused("Invalid token. JWT Policy validation error: unknown key.");
    let wrong = refused("Invalid token. JWT Policy validation error: wrong signature.");
    assert_eq!(ask_with(&policy, &state, Some(&rsa), &token), Ok(()));
    // What one key has verified another one has not.
    assert_eq!(ask_with(&policy, &state, Some(&stranger), &token), wrong);
    assert_eq!(ask_with(&policy, &state, Some(&rsa), &token), Ok(()));
    assert_eq!(ask_with(&policy, &state, None, &token), unknown);
    assert_eq!(ask_with(&policy, &state, Some(&rsa), &token), Ok(()));
    for no_key in ["", "x", "-----BEGIN PRIVATE KEY-----AAAA-----END PRIVATE KEY-----", &"A".repeat(20_000)] {
        assert_eq!(ask_with(&policy, &state, Some(no_key), &token), unknown, "{no_key}");
    }
    assert_eq!(ask_with(&policy, &state, Some(&rsa), "a.b"), refused("Token parsing error: not three parts."));
}

#[test]
fn a_public_key_is_not_taken_for_a_secret() {
    let policy = custom(&format!("signingMethod: hmac, {BY_HEADER}"));
    let state = policy.state(&Core::default());
    let rsa = BASE64.encode(KEYS.rsa_der());
    let header = r#"{"alg":"HS256"}"#;
    let by_public = token(header, CLAIMS, |message| hs(hmac::HMAC_SHA256, rsa.as_bytes(), message));
    let unknown = refused("Invalid token. JWT Policy validation error: unknown key.");
    assert_eq!(ask_with(&policy, &state, Some(&rsa), &by_public), unknown);
    let by_secret = token(header, CLAIMS, hs256);
    assert_eq!(ask_with(&policy, &state, Some(SECRET), &by_secret), Ok(()));
    assert_eq!(ask_with(&policy, &state, Some("short"), &by_secret), unknown);
}

#[test]
fn what_gives_the_key_may_read_the_body_and_need_not_be_a_text() {
    assert_eq!(custom("customKeyExpression: '#[payload.key]'").needs().request, Need::Buffer);
    let policy = custom("customKeyExpression: '#[1]'");
    assert_eq!(
        ask(&policy, &token(RS256, CLAIMS, rs256)),
        refused("Invalid token. JWT Policy validation error: unknown key.")
    );
    // With `none` there is nothing to check.
    let unchecked = custom(&format!("signingMethod: none, {BY_HEADER}"));
    assert_eq!(ask(&unchecked, &token(RS256, CLAIMS, rs256)), Ok(()));
}

#[test]
fn a_key_of_the_request_itself_is_remarked_on() {
    let remarks = |expression: &str| {
        let config = format!(
            "{{jwtKeyOrigin: customExpression, mandatoryExpClaim: true, customKeyExpression: \"#[{expression}]\"}}"
        );
        testing::remarks::<JwtValidation>(&config)
    };
    let told = ["config.customKeyExpression: who sends a request says which key counts for it"];
    assert_eq!(remarks("attributes.headers['x-key']"), told);
    assert_eq!(remarks("payload.key"), told);
    assert_eq!(remarks("authentication.properties.key"), [""; 0]);
}
