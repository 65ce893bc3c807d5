use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaSigningAlgorithm, KeyPair},
};
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};

use super::*;
use crate::policies::{
    jwt::{algorithm::Algorithm, keys::Key},
    testing::{self, Trial},
};

/// A private key in PEM, and the public one in the form that verifies.
struct Pair {
    private: String,
    public: Vec<u8>,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
}

fn curve(algorithm: &'static EcdsaSigningAlgorithm) -> Pair {
    let document = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("a key");
    let pair = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).expect("a key");
    Pair { private: pem("PRIVATE KEY", document.as_ref()), public: pair.public_key().as_ref().to_vec() }
}

fn rsa() -> Pair {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let document: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("a document");
    Pair { private: pem("PRIVATE KEY", document.as_ref()), public: pair.public_key().as_ref().to_vec() }
}

const SECRET: &str = "a secret of sixty-four characters, which is as long as SHA-512 is";

/// A policy that signs with a secret, unless it is told another thing.
fn config(more: &str) -> String {
    format!("{{signingMethod: HS256, privateKey: '{SECRET}', exp: 60, {more}}}")
}

/// One core of a policy.
struct Trying {
    policy: JwtGeneration,
    state: State,
}

impl Trying {
    fn new(config: &str) -> Self {
        let policy: JwtGeneration = testing::compile(config).expect("valid");
        Self { state: policy.state(&Core::default()), policy }
    }

    /// The token that goes upstream, for a request at this time.
    fn token(&self, sent: &[(&str, &str)], now: SystemTime) -> Result<String, (u16, &'static str)> {
        let mut trial = Trial::new("GET", "/a", sent);
        trial.authentication.set_principal("ada");
        let flow = trial.with(0, |exchange| {
            exchange.set_now(Some(now));
            self.policy.on_request(Turn { state: &self.state, kept: &mut () }, exchange)
        });
        if let Some(answer) = testing::answer(flow) {
            return Err((answer.status, answer.reason));
        }
        let values: Vec<_> = trial.request.fields.values(b"authorization").collect();
        let [value] = values[..] else { panic!("one header") };
        let text = str::from_utf8(value).expect("text");
        Ok(text.strip_prefix("Bearer ").expect("a bearer token").to_owned())
    }

    /// Both of its parts.
    fn parts(&self, sent: &[(&str, &str)]) -> (Json, Json) {
        let token = self.token(sent, at(1_000)).expect("a token");
        let mut parts = token.split('.');
        let mut part = || {
            let bytes = BASE64URL.decode(parts.next().expect("a part")).expect("base64url");
            serde_json::from_slice(&bytes).expect("JSON")
        };
        (part(), part())
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn what_is_signed_verifies_by_the_other_half_and_by_no_other_key() {
    let (p256, p384, rsa) = (curve(&ECDSA_P256_SHA256_FIXED_SIGNING), curve(&ECDSA_P384_SHA384_FIXED_SIGNING), rsa());
    let secret = Pair { private: SECRET.to_owned(), public: Vec::new() };
    for (name, pair) in [
        ("RS256", &rsa),
        ("RS384", &rsa),
        ("RS512", &rsa),
        ("HS256", &secret),
        ("HS384", &secret),
        ("HS512", &secret),
        ("ES256", &p256),
        ("ES384", &p384),
    ] {
        let algorithm = Algorithm::named(name).expect("an algorithm");
        let config = json!({"signingMethod": name, "privateKey": pair.private}).to_string();
        let token = Trying::new(&config).token(&[], at(1)).expect("a token");
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let signature = BASE64URL.decode(signature).expect("base64url");
        let public = if pair.public.is_empty() { SECRET.to_owned() } else { BASE64.encode(&pair.public) };
        let key = Key::from_text(&public, &[algorithm]).expect("a key");
        assert!(key.verifies(algorithm, message.as_bytes(), &signature), "{name}");
        assert!(!key.verifies(algorithm, b"another", &signature), "{name}");
    }
}

#[test]
fn claims_and_headers_are_as_written_and_of_their_types() {
    let more = "nbf: 5, customHeaders: [{name: kid, value: k1}], customClaims: [{name: iss, value: us}, \
                {name: sub, value: '#[authentication.principal]'}, {name: n, value: \"#[sizeOf('ab')]\"}, \
                {name: list, value: \"#['a,b' splitBy ',']\"}, {name: aud, value: \"'https://a.test'\"}, {name: none, value: '#[attributes.headers.nobody]'}, \
                {name: \"#['x-' ++ attributes.method]\", value: 'a\"b'}]";
    let (header, claims) = Trying::new(&config(more)).parts(&[]);
    assert_eq!(header, json!({"alg": "HS256", "typ": "JWT", "kid": "k1"}));
    let expected = json!({
        "iat": 1000, "exp": 1060, "nbf": 1005, "iss": "us", "sub": "ada", "n": 2, "list": ["a", "b"], "aud": "https://a.test", "x-GET": "a\"b",
    });
    assert_eq!(claims, expected);
    let bare = format!("{{signingMethod: HS256, privateKey: '{SECRET}', iat: false}}");
    assert_eq!(Trying::new(&bare).parts(&[]).1, json!({}));
}

#[test]
fn one_token_serves_until_shortly_before_its_end() {
    let trying = Trying::new(&config("customClaims: [{name: sub, value: '#[attributes.headers.user]'}]"));
    let token = |user: &str, seconds| trying.token(&[("user", user)], at(seconds)).expect("a token");
    let first = token("a", 1_000);
    assert_eq!(token("a", 1_054), first);
    assert_ne!(token("a", 1_055), first, "it would run out on its way");
    let other = token("b", 1_056);
    assert_ne!(other, token("a", 1_056), "what one may say is nothing for another");
    assert_ne!(token("a", 900), token("a", 1_056), "a clock that was set back");
    let endless = Trying::new(&format!("{{signingMethod: HS256, privateKey: '{SECRET}'}}"));
    let token = |seconds| endless.token(&[], at(seconds)).expect("a token");
    assert_eq!(token(1_000), token(1_299));
    assert_ne!(token(1_000), token(1_300));
}

#[test]
fn what_the_client_sent_goes() {
    let trying = Trying::new(&config(""));
    trying.token(&[("authorization", "theirs"), ("AUTHORIZATION", "more")], at(1)).expect("one header alone");
}

#[test]
fn a_claim_that_cannot_be_said_is_no_token() {
    for custom in [
        "{name: a, value: '#[upper(attributes.headers)]'}",
        "{name: '#[attributes.headers.x]', value: b}",
        "{name: '#[attributes.headers.nobody]', value: b}",
        "{name: a, value: '#[attributes.headers.long ++ attributes.headers.long]'}",
    ] {
        let trying = Trying::new(&config(&format!("customClaims: [{custom}]")));
        let long = "x".repeat(8 << 10);
        let token = trying.token(&[("x", "exp"), ("long", &long)], at(1));
        assert_eq!(token, Err((500, "policy_failed")), "{custom}");
    }
    let algorithm = Trying::new(&config("customHeaders: [{name: '#[attributes.headers.x]', value: none}]"));
    assert_eq!(algorithm.token(&[("x", "alg")], at(1)), Err((500, "policy_failed")));
}

#[test]
fn every_fault_is_reported_and_no_secret_shown() {
    let faults = |config: &str| testing::faults::<JwtGeneration>(config).join("\n");
    let all = faults(
        "{signingMethod: HS512, privateKey: '', exp: 10, nbf: 10, customHeaders: [{name: alg, value: none}], \
         customClaims: [{name: exp, value: x}, {name: a, value: x}, {name: ' a', value: x}, {name: '', value: x}, \
         {name: b, value: '#[nobody]'}]}",
    );
    for text in [
        "privateKey: must not be empty",
        "nbf: must be less than `exp`",
        "customHeaders[0].name: `alg` is said by the policy itself",
        "customClaims[0].name: `exp` is said by the policy itself",
        "customClaims[2].name: `a` stands here twice",
        "customClaims[3].name: must not be empty",
        "customClaims[4].value: ",
    ] {
        assert!(all.contains(&format!("config.{text}")), "{text} in {all}");
    }
    let (p256, rsa) = (curve(&ECDSA_P256_SHA256_FIXED_SIGNING).private, rsa());
    let key = |method: &str, key: &str| faults(&json!({"signingMethod": method, "privateKey": key}).to_string());
    assert!(key("ES384", &p256).ends_with("ES384 takes a private key of the curve P-384, and this is none"));
    assert!(key("RS256", &p256).contains("RS256 takes an RSA private key"));
    assert!(key("ES256", &rsa.private).contains("ES256 takes a private key of the curve P-256"));
    assert!(key("HS256", &p256).contains("takes a secret, and this is a key in PEM"));
    assert!(
        key("RS256", &pem("RSA PRIVATE KEY", b"x")).contains("`openssl pkcs8 -topk8 -nocrypt` makes the one of it")
    );
    assert!(key("RS256", &pem("PUBLIC KEY", &rsa.public)).contains("this PEM block is called `PUBLIC KEY`"));
    assert!(key("RS256", "x y z").contains("not Base64") && key("RS256", "").contains("must not be empty"));
    assert!(!format!("{:?}", testing::compile::<JwtGeneration>(&config(""))).contains("sixty"));
    let remarks = testing::remarks::<JwtGeneration>(&format!("{{signingMethod: HS256, privateKey: '{SECRET}'}}"));
    assert_eq!(remarks, ["config.exp: a token that never ends is good for whoever finds it"]);
    let remarks = testing::remarks::<JwtGeneration>("{signingMethod: HS256, privateKey: my-secret-key, exp: 3600}");
    assert!(
        remarks[0].starts_with("config.privateKey: HS256 wants a secret of at least 32 characters, and this has 13")
    );
}
