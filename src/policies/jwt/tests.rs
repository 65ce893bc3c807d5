//! Tokens that pass and why others do not; published examples; what one core remembers.

mod abuse;
mod custom_key;
mod issuers;
mod keys;

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};

use super::*;
use crate::{
    http::head::RequestHead,
    policies::{
        Need,
        contract::Client,
        testing::{self, Trial},
    },
};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Keys {
    rsa: RsaKeyPair,
    stranger: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
    stranger: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key"),
    ed25519: Ed25519KeyPair::generate().expect("a key"),
});

impl Keys {
    fn rsa_der(&self) -> Vec<u8> {
        AsDer::as_der(self.rsa.public_key()).expect("DER").as_ref().to_vec()
    }

    fn p256_der(&self) -> Vec<u8> {
        AsDer::as_der(self.p256.public_key()).expect("DER").as_ref().to_vec()
    }

    fn p384_der(&self) -> Vec<u8> {
        AsDer::as_der(self.p384.public_key()).expect("DER").as_ref().to_vec()
    }

    fn ed25519_der(&self) -> Vec<u8> {
        AsDer::as_der(self.ed25519.public_key()).expect("DER").as_ref().to_vec()
    }
}

fn rsa_signature(key: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("a signature");
    signature
}

fn rs256(message: &[u8]) -> Vec<u8> {
    rsa_signature(&KEYS.rsa, &RSA_PKCS1_SHA256, message)
}

fn ps256(message: &[u8]) -> Vec<u8> {
    rsa_signature(&KEYS.rsa, &RSA_PSS_SHA256, message)
}

fn es256(message: &[u8]) -> Vec<u8> {
    KEYS.p256.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
}

fn es384(message: &[u8]) -> Vec<u8> {
    KEYS.p384.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
}

fn eddsa(message: &[u8]) -> Vec<u8> {
    KEYS.ed25519.sign(message).as_ref().to_vec()
}

fn hs(algorithm: hmac::Algorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

fn hs256(message: &[u8]) -> Vec<u8> {
    hs(hmac::HMAC_SHA256, SECRET.as_bytes(), message)
}

/// A token of these two texts, whatever they are.
fn token(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
    let signature = BASE64URL.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

const RS256: &str = r#"{"alg":"RS256"}"#;
const CLAIMS: &str = r#"{"sub":"ada","exp":1800000001}"#;

fn rsa_config(rest: &str) -> String {
    format!("{{textKey: '{}', {rest}}}", BASE64.encode(KEYS.rsa_der()))
}

fn policy(config: &str) -> JwtValidation {
    testing::compile(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"))
}

/// Without what is remarked on most of these configurations.
fn faults(config: &str) -> Vec<String> {
    let mut faults = testing::compile_with::<JwtValidation>(config, Vec::new()).expect_err("faults");
    faults.retain(|fault| !fault.starts_with("config.mandatoryExpClaim"));
    faults
}

/// Whether the request passes at [`NOW`], or with which text it is refused.
fn outcome(policy: &JwtValidation, state: &State, lines: &[(&str, &str)]) -> (Result<(), String>, Trial) {
    let mut trial = Trial::new("GET", "/orders", lines);
    let flow = trial.with(0, |exchange| policy.decide(state, exchange, NOW));
    let outcome = match testing::answer(flow) {
        None => Ok(()),
        Some(answer) => {
            assert!(trial.authentication.properties().is_none(), "{lines:?}");
            let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            Err(body["error"].as_str().expect("a text").to_owned())
        }
    };
    (outcome, trial)
}

fn ask(policy: &JwtValidation, token: &str) -> Result<(), String> {
    let state = policy.state(&Core::default());
    outcome(policy, &state, &[("authorization", &format!("Bearer {token}"))]).0
}

/// The claims by themselves, in a token that is genuine.
fn ask_claims(config: &str, claims: &str) -> Result<(), String> {
    ask(&policy(&rsa_config(config)), &token(RS256, claims, rs256))
}

fn refused(text: &str) -> Result<(), String> {
    Err(text.to_owned())
}

#[test]
fn each_method_takes_what_its_key_has_signed() {
    let method = |method: &str, key: Vec<u8>| format!("{{signingMethod: {method}, textKey: '{}'}}", BASE64.encode(key));
    let hmac = format!("{{signingMethod: hmac, textKey: {SECRET}, signingKeyLength: ");
    type Sign = fn(&[u8]) -> Vec<u8>;
    let cases: [(String, &str, Sign); 7] = [
        (method("rsa", KEYS.rsa_der()), "RS256", rs256),
        (method("es", KEYS.p256_der()), "ES256", es256),
        (format!("{{signingKeyLength: 384, {}", &method("es", KEYS.p384_der())[1..]), "ES384", es384),
        (format!("{hmac}256}}"), "HS256", hs256),
        (format!("{hmac}384}}"), "HS384", |message| hs(hmac::HMAC_SHA384, SECRET.as_bytes(), message)),
        (format!("{hmac}512}}"), "HS512", |message| hs(hmac::HMAC_SHA512, SECRET.as_bytes(), message)),
        ("{signingMethod: none}".to_owned(), "RS256", |_| b"anything".to_vec()),
    ];
    for (config, algorithm, sign) in &cases {
        let header = format!(r#"{{"typ":"JWT","alg":"{algorithm}","kid":"any"}}"#);
        assert_eq!(ask(&policy(config), &token(&header, CLAIMS, sign)), Ok(()), "{algorithm}");
        let broken = ask(&policy(config), &token(&header, CLAIMS, |message| sign(&message[1..])));
        assert_eq!(broken.is_ok(), config.contains("none"), "{algorithm}");
    }
}

#[test]
fn algorithms_may_be_named_as_jose_does() {
    let config = |algorithms: &str, key: &[u8]| {
        format!("{{textKey: '{}', ringway: {{algorithms: [{algorithms}]}}}}", BASE64.encode(key))
    };
    let both = policy(&config("RS256, PS256", &KEYS.rsa_der()));
    assert_eq!(ask(&both, &token(RS256, CLAIMS, rs256)), Ok(()));
    assert_eq!(ask(&both, &token(r#"{"alg":"PS256"}"#, CLAIMS, ps256)), Ok(()));
    let wrong = refused("Invalid token. JWT Policy validation error: wrong signature.");
    assert_eq!(ask(&both, &token(RS256, CLAIMS, ps256)), wrong);
    assert_eq!(ask(&both, &token(r#"{"alg":"PS256"}"#, CLAIMS, rs256)), wrong);
    let eddsa_only = policy(&config("EdDSA", &KEYS.ed25519_der()));
    assert_eq!(ask(&eddsa_only, &token(r#"{"alg":"EdDSA"}"#, CLAIMS, eddsa)), Ok(()));

    assert_eq!(
        faults(&config("RS256, rs256", &KEYS.rsa_der())),
        ["config.ringway.algorithms[1]: `rs256` is none of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, \
             PS512, ES256, ES384, EdDSA"]
    );
    let fault = faults(&config("RS256, ES256", &KEYS.rsa_der()));
    assert_eq!(fault, ["config.textKey: ES256 takes a public key of the curve P-256, and this is none"]);
    let fault = faults(&config("RS256, HS256", &KEYS.rsa_der()));
    assert_eq!(fault, ["config.textKey: one key cannot be both a secret and a public key"]);
    // A list says what counts, whatever stands beside it.
    let beside = format!("{{signingMethod: none, {}", &config("RS256", &KEYS.rsa_der())[1..]);
    assert_eq!(ask(&policy(&beside), &token(RS256, CLAIMS, |_| Vec::new())), wrong);
}

#[test]
fn a_key_may_come_with_its_frame_and_in_lines() {
    let digits = BASE64.encode(KEYS.rsa_der());
    let (first, rest) = digits.split_at(64);
    let framed = format!("-----BEGIN PUBLIC KEY-----\\n{first}\\n{rest}\\n-----END PUBLIC KEY-----\\n");
    for key in [framed, format!("{first}\\n{rest}\\n"), format!(" {first} {rest}")] {
        let policy = policy(&format!("{{textKey: \"{key}\"}}"));
        assert_eq!(ask(&policy, &token(RS256, CLAIMS, rs256)), Ok(()));
    }
    // PKCS #1, as `openssl rsa -RSAPublicKey_out` writes it.
    let pkcs1 = format!("{{textKey: '{}'}}", BASE64.encode(KEYS.rsa.public_key().as_ref()));
    assert_eq!(ask(&policy(&pkcs1), &token(RS256, CLAIMS, rs256)), Ok(()));
}

#[test]
fn keys_that_cannot_be_meant_are_faults() {
    let der = BASE64.encode(KEYS.rsa_der());
    let small = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDdlatRjRjogo3WojgGHFHYLugdUWAY9iR3fy4arWNA1KoS8kVw33cJibXr8bvwUAUparCwlvdbH6\
                 dvEOfou0/gCFQsHUfQrSDv+MuSUMAe8jzKE4qW+jK+xQU9a03GUnKHkkle+Q0pX/g6jXZ7r1/xAK5Do2kQ+X5xK9cipRgEKwIDAQAB";
    for (config, fault) in [
        ("{}".to_owned(), "textKey: must not be empty"),
        ("{textKey: ''}".to_owned(), "textKey: must not be empty"),
        ("{textKey: '!'}".to_owned(), "textKey: no public key in PEM: not Base64"),
        ("{textKey: AAAA}".to_owned(), "textKey: RS256 takes an RSA public key, and this is none"),
        (
            format!("{{textKey: '{der}', signingMethod: es}}"),
            "textKey: ES256 takes a public key of the curve P-256, and this is none",
        ),
        (format!("{{textKey: '{small}'}}"), "textKey: an RSA key of 1024 bits; fewer than 2048 are not safe"),
        (
            "{textKey: '-----BEGIN PRIVATE KEY-----AAAA-----END PRIVATE KEY-----'}".to_owned(),
            "textKey: a public key is expected, and this PEM block is called `PRIVATE KEY`",
        ),
        (
            "{textKey: short, signingMethod: hmac}".to_owned(),
            "textKey: HS256 takes a secret of at least 32 characters, and this has 5",
        ),
        (
            format!("{{textKey: '-----BEGIN PUBLIC KEY-----{der}-----END PUBLIC KEY-----', signingMethod: hmac}}"),
            "textKey: a secret is expected, and this is a key in PEM",
        ),
        (
            format!("{{textKey: '{der}', signingMethod: hmac}}"),
            "textKey: a secret is expected, and this is a key in PEM",
        ),
        (
            format!("{{textKey: {SECRET}, signingMethod: hmac, signingKeyLength: 128}}"),
            "signingKeyLength: must be 256, 384 or 512",
        ),
        (
            format!("{{textKey: '{der}', signingMethod: es, signingKeyLength: 512}}"),
            "signingKeyLength: must be 256 or 384",
        ),
        (rsa_config("claimsToHeaders: [{a: b}]"), "claimsToHeaders: claims as headers: not implemented yet"),
        ("{jwtKeyOrigin: jwks}".to_owned(), "jwksUrl: must not be empty"),
        ("{jwtKeyOrigin: jwks, jwksUrl: ' , '}".to_owned(), "jwksUrl: must not be empty"),
        (
            "{jwtKeyOrigin: jwks, jwksUrl: 'https://a/b, login.example/keys'}".to_owned(),
            "jwksUrl: address 2: expected protocol://host:port",
        ),
        (
            format!(
                "{{jwtKeyOrigin: jwks, jwksUrl: '{}'}}",
                (0..17).fold(String::new(), |list, n| list + &format!("https://a/{n},"))
            ),
            "jwksUrl: at most 16 addresses",
        ),
        (
            "{jwtKeyOrigin: jwks, jwksUrl: 'https://a/b', jwksServiceTimeToLive: 0}".to_owned(),
            "jwksServiceTimeToLive: must be at least 1",
        ),
        (
            "{jwtKeyOrigin: jwks, jwksUrl: 'https://a/b', ringway: {jwksCoolDownSeconds: 0}}".to_owned(),
            "ringway.jwksCoolDownSeconds: must be at least 1",
        ),
        (
            "{jwtKeyOrigin: jwks, jwksUrl: 'https://a/b', signingMethod: hmac}".to_owned(),
            "signingMethod: a key set has public keys, and HS256 takes a secret",
        ),
        (
            "{jwtKeyOrigin: jwks, jwksUrl: 'https://a/b', ringway: {algorithms: [ES256, HS512]}}".to_owned(),
            "ringway.algorithms: a key set has public keys, and HS512 takes a secret",
        ),
        ("{jwtKeyOrigin: customExpression}".to_owned(), "customKeyExpression: must not be empty"),
        (
            "{jwtKeyOrigin: customExpression, customKeyExpression: key}".to_owned(),
            "customKeyExpression: an expression stands in `#[` and `]`",
        ),
        (
            "{jwtKeyOrigin: customExpression, customKeyExpression: '#[1]', ringway: {algorithms: [ES256, HS512]}}"
                .to_owned(),
            "ringway.algorithms: one key cannot be both a secret and a public key",
        ),
        (
            rsa_config("jwtOrigin: customExpression, jwtExpression: attributes.method"),
            "jwtExpression: an expression stands in `#[` and `]`",
        ),
        (
            rsa_config("validateCustomClaim: true, mandatoryCustomClaims: [{key: '', value: a}]"),
            "mandatoryCustomClaims[0].key: must not be empty",
        ),
    ] {
        assert_eq!(faults(&config).first(), Some(&format!("config.{fault}")), "{config}");
    }
}

#[test]
fn a_body_is_read_ahead_only_where_an_expression_reads_it() {
    let need = |config: &str| testing::compile::<JwtValidation>(&rsa_config(config)).expect("valid").needs().request;
    assert_eq!(need("jwtOrigin: customExpression, jwtExpression: '#[attributes.headers.jwt]'"), Need::None);
    assert_eq!(need("jwtExpression: '#[payload]'"), Need::None);
    assert_eq!(need("jwtOrigin: customExpression, jwtExpression: '#[payload.jwt]'"), Need::Buffer);
    let claim = "validateCustomClaim: true, nonMandatoryCustomClaims: [{key: a, value: '#[payload == 1]'}]";
    assert_eq!(need(claim), Need::Buffer);
}

#[test]
fn what_does_not_apply_is_not_looked_at() {
    let config = "jwtExpression: '#[payload]', jwksUrl: '', customKeyExpression: '#[', clientIdExpression: '#[', \
                  mandatoryCustomClaims: [{key: a, value: '#['}], claimsToHeaders: []";
    assert_eq!(ask_claims(config, CLAIMS), Ok(()));
}

#[test]
fn doubtful_configurations_are_remarked_on() {
    let remarks = |config: &str| testing::remarks::<JwtValidation>(&rsa_config(config));
    assert_eq!(remarks("mandatoryExpClaim: true"), [""; 0]);
    assert_eq!(remarks(""), ["config.mandatoryExpClaim: a token without `exp` never expires; `true` refuses such"]);
    let checked = "mandatoryExpClaim: true, ";
    for (config, remark) in [
        ("signingMethod: none", "signingMethod: signatures are not checked: anybody can make up a token"),
        ("validateAudClaim: true", "supportedAudiences: is empty: every token with an `aud` is refused"),
        (
            "mandatoryAudClaim: true",
            "mandatoryAudClaim: `aud` must be there, and may be any: `validateAudClaim` is false",
        ),
        (
            "mandatoryCustomClaims: [{key: a, value: b}]",
            "validateCustomClaim: is false: the lists of custom claims are not looked at",
        ),
        ("supportedAudiences: a", "supportedAudiences: the list is not looked at: `validateAudClaim` is false"),
        ("validateCustomClaim: true", "validateCustomClaim: both lists of custom claims are empty: none is checked"),
        (
            "validateCustomClaim: true, mandatoryCustomClaims: [{key: a, value: ' #[vars.claimSet.a'}]",
            "mandatoryCustomClaims[0].value: begins like an expression, and is taken as it stands: there is no `]` at \
             its end",
        ),
        (
            "validateCustomClaim: true, nonMandatoryCustomClaims: [{key: a, value: 'a #[true]'}]",
            "nonMandatoryCustomClaims[0].value: has `#[` behind other text, and is taken as it stands: an expression is \
             the whole value",
        ),
    ] {
        assert_eq!(remarks(&format!("{checked}{config}")), [format!("config.{remark}")]);
    }
    for sound in [
        "supportedAudiences: ' , '",
        "validateAudClaim: true, supportedAudiences: a",
        "validateCustomClaim: true, mandatoryCustomClaims: [{key: a, value: ' #[vars.claimSet.a == 1] '}]",
    ] {
        assert_eq!(remarks(&format!("{checked}{sound}")), [""; 0], "{sound}");
    }
}

#[test]
fn the_token_stands_where_the_configuration_says() {
    let genuine = token(RS256, CLAIMS, rs256);
    let bearer = format!("Bearer {genuine}");
    let policy_of = |config: &str| policy(&rsa_config(config));
    let check = |policy: &JwtValidation, lines: &[(&str, &str)], expected: Result<(), String>| {
        let state = policy.state(&Core::default());
        assert_eq!(outcome(policy, &state, lines).0, expected, "{lines:?}");
    };
    let (missing, not_bearer) =
        (refused("JWT Token is required."), refused("Invalid token. Not a bearer authorization header."));
    let malformed = refused("Bearer malformed.");
    let encoding = refused("Token parsing error: malformed header.");
    let header = policy_of("");
    check(&header, &[("Authorization", &bearer)], Ok(()));
    check(&header, &[], missing.clone());
    check(&header, &[("jwt", &genuine)], missing.clone());
    for value in
        ["", "Basic YTpi", &genuine, &bearer.replace("Bearer", "bearer"), &bearer.replace("Bearer ", "Bearer\t")]
    {
        check(&header, &[("authorization", value)], not_bearer.clone());
    }
    check(&header, &[("authorization", "Bearer")], malformed.clone());
    check(&header, &[("authorization", "Bearer ")], malformed);
    check(&header, &[("authorization", &bearer.replace("Bearer ", "Bearer  "))], encoding.clone());
    check(&header, &[("authorization", &bearer), ("authorization", &bearer)], not_bearer.clone());
    check(&header, &[("authorization", &bearer), ("authorization", "Bearer x")], not_bearer);

    let custom = policy_of("jwtOrigin: customExpression");
    check(&custom, &[("jwt", &genuine)], Ok(()));
    check(&custom, &[("authorization", &bearer)], missing.clone());
    check(&custom, &[("jwt", "")], missing.clone());
    check(
        &custom,
        &[("jwt", &genuine), ("jwt", &genuine)],
        refused("Token parsing error: encrypted tokens are not supported."),
    );
    let split = policy_of(
        "jwtOrigin: customExpression, jwtExpression: \"#[splitBy(attributes.headers['Authorization'], ' ')[1]]\"",
    );
    check(&split, &[("authorization", &bearer)], Ok(()));
    check(&split, &[("authorization", "Bearer")], missing.clone());
    check(&split, &[], missing);
    let odd = policy_of("jwtOrigin: customExpression, jwtExpression: '#[attributes.headers]'");
    check(&odd, &[("a", "b")], refused("Token parsing error: not a text."));
}

#[test]
fn times_are_checked_wherever_they_are() {
    let (expired, not_yet) =
        (refused("Invalid token. Exp claim validation error."), refused("Invalid token. Nb claim validation error."));
    for (claims, expected) in [
        (r#"{}"#, Ok(())),
        (r#"{"exp":1800000001}"#, Ok(())),
        (r#"{"exp":1800000001.9}"#, Ok(())),
        (r#"{"exp":1.800000001e9}"#, Ok(())),
        (r#"{"exp":8210266876799}"#, Ok(())),
        (r#"{"exp":1800000000}"#, expired.clone()),
        (r#"{"exp":1800000000.9}"#, expired.clone()),
        (r#"{"exp":0}"#, expired),
        (r#"{"nbf":1800000000}"#, Ok(())),
        (r#"{"nbf":1800000000.9}"#, Ok(())),
        (r#"{"nbf":0}"#, Ok(())),
        (r#"{"nbf":1800000001}"#, not_yet),
    ] {
        assert_eq!(ask_claims("", claims), expected, "{claims}");
    }
    assert_eq!(ask_claims("mandatoryExpClaim: true", "{}"), refused("Invalid token. Exp claim not present."));
    assert_eq!(ask_claims("mandatoryNbfClaim: true", "{}"), refused("Invalid token. Nb claim not present."));
    assert_eq!(ask_claims("mandatoryExpClaim: true, mandatoryNbfClaim: true", r#"{"exp":1800000001,"nbf":1}"#), Ok(()));
}

#[test]
fn one_audience_must_be_ours() {
    let wrong = refused("Invalid token. Aud claim validation error.");
    let optional = "validateAudClaim: true, supportedAudiences: 'orders, stock'";
    for (claims, expected) in [
        (r#"{}"#, Ok(())),
        (r#"{"aud":"orders"}"#, Ok(())),
        (r#"{"aud":["x","stock"]}"#, Ok(())),
        (r#"{"aud":"Orders"}"#, wrong.clone()),
        (r#"{"aud":"orders, stock"}"#, wrong.clone()),
        (r#"{"aud":""}"#, wrong.clone()),
        (r#"{"aud":[]}"#, wrong.clone()),
        (r#"{"aud":["x"]}"#, wrong.clone()),
        (r#"{"aud":["orders",1]}"#, wrong.clone()),
        (r#"{"aud":[["orders"]]}"#, wrong.clone()),
        (r#"{"aud":{"orders":"orders"}}"#, wrong.clone()),
        (r#"{"aud":null}"#, wrong.clone()),
        (r#"{"aud":true}"#, wrong.clone()),
    ] {
        assert_eq!(ask_claims(optional, claims), expected, "{claims}");
    }
    let missing = refused("Invalid token. Aud claim not present.");
    assert_eq!(ask_claims(&format!("{optional}, mandatoryAudClaim: true"), "{}"), missing);
    assert_eq!(ask_claims("mandatoryAudClaim: true", "{}"), missing);
    assert_eq!(ask_claims("validateAudClaim: true", r#"{"aud":"a"}"#), wrong);
    assert_eq!(ask_claims("supportedAudiences: a", r#"{"aud":"b"}"#), Ok(()));
}

#[test]
fn custom_claims_are_literals_or_conditions() {
    let mandatory = refused("Invalid token. Mandatory custom claim mismatch or not present.");
    let other = refused("Invalid token. Non mandatory custom claim mismatch.");
    let check = |value: &str, claims: &str, expected: Result<(), ()>| {
        for (list, refusal) in [("mandatoryCustomClaims", &mandatory), ("nonMandatoryCustomClaims", &other)] {
            let config = format!("validateCustomClaim: true, {list}: [{{key: role, value: \"{value}\"}}]");
            assert_eq!(ask_claims(&config, claims), expected.or(refusal.clone()), "{list} {value} {claims}");
            let absent = if list.starts_with("non") { Ok(()) } else { mandatory.clone() };
            assert_eq!(ask_claims(&config, r#"{"Role":"admin"}"#), absent, "{list}");
        }
    };
    check("admin", r#"{"role":"admin"}"#, Ok(()));
    check("admin", r#"{"role":"Admin"}"#, Err(()));
    check("admin", r#"{"role":["admin"]}"#, Err(()));
    check("admin", r#"{"role":null}"#, Err(()));
    check("7", r#"{"role":7}"#, Ok(()));
    check("true", r#"{"role":true}"#, Ok(()));
    check("#[vars.claimSet.role contains 'admin']", r#"{"role":["user","admin"]}"#, Ok(()));
    check("#[vars.claimSet.role contains 'admin']", r#"{"role":["user"]}"#, Err(()));
    check("#[vars.claimSet.role]", r#"{"role":true}"#, Ok(()));
    // The token must not say so itself in a text; a failure is no yes.
    check("#[vars.claimSet.role]", r#"{"role":"true"}"#, Err(()));
    check("#[vars.claimSet.role]", r#"{"role":1}"#, Err(()));
    check("#[vars.claimSet.role ++ null]", r#"{"role":"a"}"#, Err(()));
    check("#[attributes.method == 'GET']", r#"{"role":"a"}"#, Ok(()));
    check("#[attributes.method == 'POST']", r#"{"role":"a"}"#, Err(()));
}

#[test]
fn later_policies_read_the_claims() {
    let policy = policy(&rsa_config(""));
    let genuine = token(RS256, r#"{"sub":"ada","exp":1800000001,"roles":["a"]}"#, rs256);
    let state = policy.state(&Core::default());
    for _ in 0..2 {
        let (outcome, mut trial) = outcome(&policy, &state, &[("authorization", &format!("Bearer {genuine}"))]);
        assert_eq!(outcome, Ok(()));
        for (text, value) in [
            ("#[authentication.properties.claims.sub]", "ada"),
            ("#[authentication.properties.claims.exp]", "1800000001"),
            ("#[authentication.properties.claims.roles[0]]", "a"),
            ("#[authentication.properties.jwt]", &genuine),
        ] {
            let template = Template::compile(text, &Bindings::request()).expect(text);
            trial.with(0, |exchange| {
                let reading = Reading::request(exchange);
                let found = template.evaluate(&reading).and_then(Value::into_text).expect(text);
                assert_eq!(found, value, "{text}");
            });
        }
        assert_eq!(trial.authentication.client_id(), None);
        assert_eq!(testing::lines(&trial.request.fields).len(), 1);
    }
}

#[test]
fn a_token_is_remembered_until_it_expires() {
    let policy = policy(&rsa_config(""));
    let state = policy.state(&Core::default());
    let ask = |token: &str, now: u64| {
        let mut trial = Trial::new("GET", "/", &[("authorization", &format!("Bearer {token}"))]);
        let flow = trial.with(0, |exchange| policy.decide(&state, exchange, now));
        (matches!(flow, Flow::Continue), state.verified.borrow().len())
    };
    let genuine = token(RS256, CLAIMS, rs256);
    assert_eq!(ask(&genuine, NOW), (true, 1));
    assert_eq!(ask(&genuine, NOW), (true, 1));
    // The same signature below other claims is another token.
    let (_, signature) = genuine.rsplit_once('.').expect("three parts");
    let other = token(RS256, r#"{"sub":"eve"}"#, rs256);
    let (message, _) = other.rsplit_once('.').expect("three parts");
    assert_eq!(ask(&format!("{message}.{signature}"), NOW), (false, 1));
    assert_eq!(ask(&genuine, NOW + 1), (false, 0));
    assert_eq!(ask(&genuine, NOW + 1), (false, 0));
}

#[test]
fn what_is_remembered_is_bounded() {
    let policy = policy("{signingMethod: none}");
    let state = policy.state(&Core::default());
    for number in 0..5000 {
        let token = token(RS256, "{}", |_| format!("{number:032}").into_bytes());
        assert_eq!(outcome(&policy, &state, &[("authorization", &format!("Bearer {token}"))]).0, Ok(()));
    }
    assert!(state.verified.borrow().len() <= 1024);
    let padding = "x".repeat(10_000);
    for number in 0..400 {
        let token = token(RS256, format!(r#"{{"a":"{padding}"}}"#), |_| format!("{number:032}").into_bytes());
        assert_eq!(outcome(&policy, &state, &[("authorization", &format!("Bearer {token}"))]).0, Ok(()));
    }
    assert!(state.verified.borrow().len() <= 2 * 79, "a mebibyte of each generation");
    let long = token(RS256, format!(r#"{{"a":"{}"}}"#, "x".repeat(16 << 10)), |_| Vec::new());
    let refusal = outcome(&policy, &state, &[("authorization", &format!("Bearer {long}"))]).0;
    assert_eq!(refusal, refused("Token parsing error: too long."));
}

#[test]
fn a_secret_is_not_shown() {
    let policy = policy(&format!("{{signingMethod: hmac, textKey: {SECRET}}}"));
    assert!(!format!("{policy:?}").contains(&SECRET[..8]), "{policy:?}");
    assert!(format!("{policy:?}").contains("keys: One([Hs256])"), "{policy:?}");
}

/// The examples of RFC 7515, appendix A, and RFC 8037, appendix A.4.
#[test]
fn published_examples_verify() {
    let decode = |text: &str| BASE64URL.decode(text).expect("base64url");
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let check = |key: Result<Key, String>, token: String| {
        let key = key.expect("a key");
        let verified = token::verify(token.as_bytes(), |signed| key.check(signed)).expect("genuine");
        assert_eq!(verified.exp, Some(1_300_819_380));
        assert_eq!(verified.token(), token);
        // A bit less is no token any more.
        assert!(token::verify(&token.as_bytes()[1..], |signed| key.check(signed)).is_err());
    };
    let secret = decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    let signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
    check(Key::from_bytes(&secret, &[Algorithm::Hs256]), format!("{header}.{claims}.{signature}"));

    let modulus = decode(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs\
         D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV\
         MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    );
    let pkcs1 = [&[0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0], &modulus[..], &[2, 3, 1, 0, 1]].concat();
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1\
                     dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu\
                     sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    check(Key::from_der(&pkcs1, &[Algorithm::Rs256]), format!("eyJhbGciOiJSUzI1NiJ9.{claims}.{signature}"));

    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let point = [&[4], &decode(x)[..], &decode(y)].concat();
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    check(Key::from_der(&point, &[Algorithm::Es256]), format!("eyJhbGciOiJFUzI1NiJ9.{claims}.{signature}"));

    // A.4 is ES512, which nobody can configure, and A.5 is unsecured.
    let key = Key::from_der(&point, &[Algorithm::Es256]).expect("a key");
    let es512 = format!("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.{}", "A".repeat(176));
    assert_eq!(token::verify(es512.as_bytes(), |signed| key.check(signed)).err(), Some(Refusal::Algorithm));
    let unsecured = format!("eyJhbGciOiJub25lIn0.{claims}.");
    assert_eq!(token::verify(unsecured.as_bytes(), |signed| key.check(signed)).err(), Some(Refusal::Algorithm));
    assert!(token::verify(unsecured.as_bytes(), |_| Ok(())).is_ok());

    let key =
        Key::from_der(&decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"), &[Algorithm::EdDsa]).expect("a key");
    let signature = decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert!(key.verifies(Algorithm::EdDsa, message, &signature));
    assert!(!key.verifies(Algorithm::EdDsa, &message[1..], &signature));
}

#[test]
fn clients_are_those_of_the_contracts() {
    let policy = policy(&rsa_config("skipClientIdValidation: false, clientIdExpression: '#[vars.claimSet.client_id]'"));
    let state = policy.state(&Core::default());
    let publish = |ids: &[&str]| {
        let client = |id: &&str| Client { id: (*id).into(), secret: None, name: Some("Client One".into()) };
        policy.publish(&state, &testing::published(ids.iter().map(client).map(testing::contract).collect()));
    };
    let check = |claims: &str, client: Option<&str>| {
        let line = format!("Bearer {}", token(RS256, claims, rs256));
        let (outcome, trial) = outcome(&policy, &state, &[("authorization", &line)]);
        assert_eq!(outcome, client.map(|_| ()).ok_or("Invalid client.".to_owned()), "{claims}");
        assert_eq!(trial.authentication.client_id(), client);
        assert_eq!(trial.authentication.client_name(), client.map(|_| "Client One"));
    };
    check(r#"{"client_id":"c1"}"#, None);
    publish(&["c1", "c3"]);
    check(r#"{"client_id":"c1"}"#, Some("c1"));
    check(r#"{"client_id":"c3"}"#, Some("c3"));
    publish(&["c1"]);
    check(r#"{"client_id":"c3"}"#, None);
    for claims in [r#"{"client_id":"c2"}"#, r#"{"client_id":""}"#, r#"{"client_id":["c1"]}"#, "{}"] {
        check(claims, None);
    }
}

#[test]
fn no_bytes_make_it_panic() {
    use proptest::prelude::*;
    let key = Key::from_bytes(SECRET.as_bytes(), &[Algorithm::Hs256]).expect("a key");
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..200), header in "\\PC{0,40}", claims in "\\PC{0,40}")| {
        prop_assert!(token::verify(&bytes, |signed| key.check(signed)).is_err());
        let made = token(&header, &claims, hs256);
        prop_assert!(token::verify(made.as_bytes(), |signed| key.check(signed)).is_err());
        let mut head = RequestHead::default();
        head.fields.append(b"authorization", &bytes);
        prop_assert!(bearer::bearer(&head.fields).is_err() || bytes.starts_with(b"Bearer "));
    });
}
