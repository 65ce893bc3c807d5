//! Keys from the sets that issuers publish: what is taken of a set, which key a token may be signed by, what a core does when
//! keys come and go, and what attackers make of all that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    super::key_set::{KEY_SET_BYTES_MAX, KeySet},
    *,
};
use crate::{calls::Destination, policies::wants::PublishedKeySet};

const KID_MISSING: &str = "Invalid token. Missing 'kid' header.";
const UNKNOWN: &str = "Invalid token. JWT Policy validation error: unknown key.";
const ALGORITHM: &str = "Invalid token. JWT Policy validation error: wrong signature algorithm.";
const SIGNATURE: &str = "Invalid token. JWT Policy validation error: wrong signature.";
const NO_KEYS: &str = "The keys that tokens are checked with are not available.";

const A: &str = "https://a.example/keys";
const B: &str = "https://b.example/keys";

/// The modulus stands behind the heads of the sequence and of its own.
fn modulus(key: &RsaKeyPair) -> String {
    BASE64URL.encode(&key.public_key().as_ref()[9..265])
}

fn rsa_jwk(key: &RsaKeyPair, rest: &str) -> String {
    format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB",{rest}}}"#, modulus(key))
}

fn ec_jwk(curve: &str, key: &EcdsaKeyPair, rest: &str) -> String {
    let point = key.public_key().as_ref();
    let (x, y) = point[1..].split_at(point.len() / 2);
    format!(r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}",{rest}}}"#, BASE64URL.encode(x), BASE64URL.encode(y))
}

fn ed25519_jwk(rest: &str) -> String {
    format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}",{rest}}}"#, BASE64URL.encode(KEYS.ed25519.public_key().as_ref()))
}

fn set(jwks: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, jwks.join(","))
}

fn read(jwks: &[String]) -> (KeySet, Vec<String>) {
    KeySet::parse(set(jwks).as_bytes()).expect("a set")
}

/// A policy with one core's state, and what it asks of the management thread.
struct Trying {
    policy: JwtValidation,
    state: State,
    published: Published,
    asked: Arc<AtomicUsize>,
}

impl Trying {
    fn new(config: &str) -> Self {
        let policy = policy(config);
        let state = policy.state(&Core::default());
        Self { policy, state, published: Published::default(), asked: Arc::default() }
    }

    fn of(algorithms: &str, jwks: &[String]) -> Self {
        let config = format!("{{jwtKeyOrigin: jwks, jwksUrl: '{A}', ringway: {{algorithms: [{algorithms}]}}}}");
        Self::new(&config).publish(A, Some(&set(jwks)))
    }

    /// `None`: it is known that the set is wanted, and nothing has come.
    fn publish(mut self, url: &str, set: Option<&str>) -> Self {
        self.replace(url, set);
        self
    }

    fn replace(&mut self, url: &str, set: Option<&str>) {
        let asked = self.asked.clone();
        let set = set.map(|set| Arc::new(KeySet::parse(set.as_bytes()).expect("a set").0));
        let one = PublishedKeySet { set, ..PublishedKeySet::new(move || _ = asked.fetch_add(1, Ordering::Relaxed)) };
        self.published.key_sets.insert(WebAddress::parse(url).expect("an address"), one);
        self.policy.publish(&self.state, &self.published);
    }

    fn ask(&self, token: &str) -> Result<(), String> {
        outcome(&self.policy, &self.state, &[("authorization", &format!("Bearer {token}"))]).0
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn remembered(&self) -> usize {
        self.state.verified.borrow().len()
    }
}

fn named(algorithm: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#)
}

fn by_rsa(kid: &str) -> String {
    token(named("RS256", kid), CLAIMS, rs256)
}

fn by_stranger(kid: &str) -> String {
    token(named("RS256", kid), CLAIMS, |message| rsa_signature(&KEYS.stranger, &RSA_PKCS1_SHA256, message))
}

#[test]
fn keys_of_all_types_verify_what_they_have_signed() {
    let jwks = [
        rsa_jwk(&KEYS.rsa, r#""kid":"rsa""#),
        ec_jwk("P-256", &KEYS.p256, r#""kid":"p256","use":"sig","alg":"ES256""#),
        ec_jwk("P-384", &KEYS.p384, r#""kid":"p384","key_ops":["verify"]"#),
        ed25519_jwk(r#""kid":"ed""#),
    ];
    let all = Trying::of("RS256, PS256, ES256, ES384, EdDSA", &jwks);
    type Sign = fn(&[u8]) -> Vec<u8>;
    let signers: [(&str, &str, Sign); 5] = [
        ("RS256", "rsa", rs256),
        ("PS256", "rsa", ps256),
        ("ES256", "p256", es256),
        ("ES384", "p384", es384),
        ("EdDSA", "ed", eddsa),
    ];
    for (algorithm, kid, sign) in signers {
        assert_eq!(all.ask(&token(named(algorithm, kid), CLAIMS, sign)), Ok(()), "{algorithm}");
        // Any key by the algorithm of another is none, and by its own a wrong one.
        for (_, other, _) in signers {
            let text = all.ask(&token(named(algorithm, other), CLAIMS, |message| sign(&message[1..])));
            let fits = other == kid || (algorithm, kid) == ("PS256", other) || (algorithm, kid) == ("RS256", other);
            assert_eq!(text, refused(if fits { SIGNATURE } else { ALGORITHM }), "{algorithm} by {other}");
        }
    }
    // By method and length, as the published files have it.
    let rsa = Trying::new(&format!("{{jwtKeyOrigin: jwks, jwksUrl: '{A}'}}")).publish(A, Some(&set(&jwks)));
    assert_eq!(rsa.ask(&by_rsa("rsa")), Ok(()));
    assert_eq!(rsa.ask(&token(named("PS256", "rsa"), CLAIMS, ps256)), refused(ALGORITHM));
    assert_eq!(rsa.ask(&token(named("ES256", "p256"), CLAIMS, es256)), refused(ALGORITHM));
}

#[test]
fn the_token_names_its_key() {
    let jwks = [rsa_jwk(&KEYS.rsa, r#""kid":"a""#), rsa_jwk(&KEYS.stranger, r#""kid":"b""#)];
    let one = Trying::of("RS256", &jwks);
    assert_eq!(one.ask(&by_rsa("a")), Ok(()));
    assert_eq!(one.ask(&by_stranger("b")), Ok(()));
    assert_eq!(one.ask(&by_rsa("b")), refused(SIGNATURE));
    assert_eq!(one.ask(&token(RS256, CLAIMS, rs256)), refused(KID_MISSING));
    assert_eq!(one.ask(&by_rsa("A")), refused(UNKNOWN));
    assert_eq!(one.ask(&by_rsa("")), refused(UNKNOWN));
    assert_eq!(
        one.ask(&token(r#"{"alg":"RS256","kid":1}"#, CLAIMS, rs256)),
        refused("Token parsing error: malformed header.")
    );
}

#[test]
fn what_of_a_set_cannot_be_used_is_left_out_and_told_of() {
    let good = rsa_jwk(&KEYS.rsa, r#""kid":"good""#);
    let n = modulus(&KEYS.rsa);
    let secret = BASE64URL.encode(SECRET);
    let p256 = ec_jwk("P-256", &KEYS.p256, r#""kid":"x""#);
    let small = BASE64URL.encode([0xc1; 128]);
    let cases = [
        (rsa_jwk(&KEYS.rsa, r#""use":"sig""#), "no `kid`: no token can name it"),
        (rsa_jwk(&KEYS.rsa, r#""kid":"""#), "no `kid`: no token can name it"),
        (rsa_jwk(&KEYS.rsa, r#""kid":7"#), "no `kid`: no token can name it"),
        (rsa_jwk(&KEYS.rsa, &format!(r#""kid":"{}""#, "x".repeat(257))), "a `kid` of more than 256 bytes"),
        (rsa_jwk(&KEYS.stranger, r#""kid":"good""#), "a key of this type is called \"good\" already"),
        (
            rsa_jwk(&KEYS.rsa, r#""kid":"x","use":"enc""#),
            "\"x\" is for something else than signatures, by its `use` or `key_ops`",
        ),
        (
            rsa_jwk(&KEYS.rsa, r#""kid":"x","use":["sig"]"#),
            "\"x\" is for something else than signatures, by its `use` or `key_ops`",
        ),
        (
            rsa_jwk(&KEYS.rsa, r#""kid":"x","key_ops":["encrypt"]"#),
            "\"x\" is for something else than signatures, by its `use` or `key_ops`",
        ),
        (
            rsa_jwk(&KEYS.rsa, r#""kid":"x","key_ops":"verify""#),
            "\"x\" is for something else than signatures, by its `use` or `key_ops`",
        ),
        (rsa_jwk(&KEYS.rsa, r#""kid":"x","alg":"RSA-OAEP""#), "\"x\": its `alg` is none that its type has here"),
        (rsa_jwk(&KEYS.rsa, r#""kid":"x","alg":"ES256""#), "\"x\": its `alg` is none that its type has here"),
        (rsa_jwk(&KEYS.rsa, r#""kid":"x","alg":"HS256""#), "\"x\": its `alg` is none that its type has here"),
        (rsa_jwk(&KEYS.rsa, r#""kid":"x","alg":"none""#), "\"x\": its `alg` is none that its type has here"),
        (rsa_jwk(&KEYS.rsa, r#""kid":"x","alg":null"#), "\"x\": an `alg` that is no string"),
        (rsa_jwk(&KEYS.rsa, r#""kid":"x","d":"AQAB""#), "\"x\": a private key, which is everybody's now"),
        (
            format!(r#"{{"kty":"oct","k":"{secret}","kid":"x"}}"#),
            "\"x\": a secret, which is none where it is published",
        ),
        (format!(r#"{{"kty":"rsa","n":"{n}","e":"AQAB","kid":"x"}}"#), "\"x\": the type \"rsa\" is not supported"),
        (r#"{"kid":"x"}"#.to_owned(), "\"x\": no `kty`"),
        (r#"{"kty":"RSA","kid":"x","e":"AQAB"}"#.to_owned(), "\"x\": no `n`"),
        (format!(r#"{{"kty":"RSA","kid":"x","n":"{n}"}}"#), "\"x\": no `e`"),
        (format!(r#"{{"kty":"RSA","kid":"x","n":"{n}=","e":"AQAB"}}"#), "\"x\": `n` is not base64url"),
        (
            format!(r#"{{"kty":"RSA","kid":"x","n":"{n}","e":"AAAA"}}"#),
            "RS256 takes an RSA public key, and this is none",
        ),
        (format!(r#"{{"kty":"RSA","kid":"x","n":"{n}","e":"AQ"}}"#), "RS256 takes an RSA public key, and this is none"),
        (format!(r#"{{"kty":"RSA","kid":"x","n":"{n}","e":"Ag"}}"#), "RS256 takes an RSA public key, and this is none"),
        (
            format!(r#"{{"kty":"RSA","kid":"x","n":"{n}","e":"{n}"}}"#),
            "\"x\": `n` or `e` is longer than 1024 or 8 bytes",
        ),
        (
            format!(r#"{{"kty":"RSA","kid":"x","n":"{small}","e":"AQAB"}}"#),
            "an RSA key of 1024 bits; fewer than 2048 are not safe",
        ),
        (r#"{"kty":"RSA","kid":"x","n":"","e":"AQAB"}"#.to_owned(), "RS256 takes an RSA public key, and this is none"),
        (p256.replace("P-256", "P-384"), "\"x\": `x` is not 48 bytes long"),
        (p256.replace("P-256", "P-521"), "\"x\": the curve \"P-521\" is not supported"),
        (p256.replace("P-256", "secp256k1"), "\"x\": the curve \"secp256k1\" is not supported"),
        (p256.replace("\"y\":\"", "\"y\":\"AA"), "\"x\": `y` is not base64url"),
        // A point that is not on the curve, and the one at infinity.
        (
            format!(r#"{{"kty":"EC","crv":"P-256","kid":"x","x":"{0}","y":"{0}"}}"#, BASE64URL.encode([7; 32])),
            "ES256 takes a public key of the curve P-256, and this is none",
        ),
        (
            format!(r#"{{"kty":"EC","crv":"P-256","kid":"x","x":"{0}","y":"{0}"}}"#, BASE64URL.encode([0; 32])),
            "ES256 takes a public key of the curve P-256, and this is none",
        ),
        (ed25519_jwk(r#""kid":"x""#).replace("Ed25519", "X25519"), "\"x\": the curve \"X25519\" is not supported"),
        ("7".to_owned(), "not a JSON object"),
        ("null".to_owned(), "not a JSON object"),
    ];
    for (jwk, why) in cases {
        let (found, unusable) = read(&[good.clone(), jwk.clone()]);
        assert_eq!(found.len(), 1, "{jwk}");
        assert_eq!(unusable, [format!("keys[1]: {why}")], "{jwk}");
    }
    // An `n` with the zero that keeps it positive is what some write, and means the same.
    let padded = BASE64URL.encode([&[0][..], &KEYS.rsa.public_key().as_ref()[9..265]].concat());
    let jwk = rsa_jwk(&KEYS.rsa, r#""kid":"a""#).replace(&n, &padded);
    assert_eq!(Trying::of("RS256", &[jwk]).ask(&by_rsa("a")), Ok(()));
    // Two types may share a name.
    let (found, unusable) = read(&[good, ec_jwk("P-256", &KEYS.p256, r#""kid":"good""#)]);
    assert_eq!((found.len(), unusable), (2, Vec::<String>::new()));
}

#[test]
fn what_is_no_set_is_refused_as_a_whole() {
    let key = rsa_jwk(&KEYS.rsa, r#""kid":"a""#);
    let many = set(&(0..101).map(|n| ed25519_jwk(&format!(r#""kid":"{n}""#))).collect::<Vec<_>>());
    let large = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(KEY_SET_BYTES_MAX));
    let deep = format!(r#"{{"keys":[],"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let malformed = "not JSON, or a name in it is repeated";
    for (body, why) in [
        (&b"\xff\xfe{}"[..], "not UTF-8"),
        (b"", malformed),
        (b"<html>down for maintenance</html>", malformed),
        (b"{\"keys\":[]}x", malformed),
        (b"{\"keys\":[],\"keys\":[]}", malformed),
        (format!(r#"{{"keys":[{}]}}"#, key.replace("\"e\"", "\"e\":\"AQAB\",\"e\"")).as_bytes(), malformed),
        (deep.as_bytes(), malformed),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (key.as_bytes(), "no list `keys`"),
        (b"{}", "no list `keys`"),
        (br#"{"keys":{}}"#, "no list `keys`"),
        (br#"{"Keys":[]}"#, "no list `keys`"),
        (many.as_bytes(), "more than 100 keys"),
        (large.as_bytes(), "more than 262144 bytes"),
    ] {
        assert_eq!(KeySet::parse(body).map(|_| ()), Err(why.to_owned()));
    }
    let (empty, unusable) = read(&[]);
    assert!(empty.is_empty() && unusable.is_empty());
}

#[test]
fn without_a_set_nobody_can_say() {
    let mut trying = Trying::new(&format!("{{jwtKeyOrigin: jwks, jwksUrl: '{A}, {B}'}}"));
    let keys = set(&[rsa_jwk(&KEYS.rsa, r#""kid":"a""#)]);
    let check = |trying: &Trying, expected: Result<(), String>| assert_eq!(trying.ask(&by_rsa("a")), expected);
    check(&trying, refused(NO_KEYS));
    trying.replace(A, None);
    check(&trying, refused(NO_KEYS));
    assert_eq!(trying.asked(), 0, "what has never come is fetched anyway");
    // What is wrong whatever the keys are is told.
    assert_eq!(trying.ask(&token(RS256, CLAIMS, rs256)), refused(KID_MISSING));
    assert_eq!(trying.ask(&token(named("HS256", "a"), CLAIMS, hs256)), refused(ALGORITHM));
    assert_eq!(trying.ask("x"), refused("Token parsing error: not three parts."));
    // Half of them may do.
    trying.replace(B, Some(&keys));
    check(&trying, Ok(()));
    assert_eq!(trying.ask(&by_rsa("b")), refused(NO_KEYS), "the other set may have it");
    trying.replace(A, Some(&set(&[])));
    check(&trying, Ok(()));
    assert_eq!(trying.ask(&by_rsa("b")), refused(UNKNOWN));
}

#[test]
fn issuers_may_call_their_keys_alike() {
    let config = format!("{{jwtKeyOrigin: jwks, jwksUrl: '{A}, {B}, {A}'}}");
    let both = Trying::new(&config)
        .publish(A, Some(&set(&[rsa_jwk(&KEYS.stranger, r#""kid":"1""#)])))
        .publish(B, Some(&set(&[rsa_jwk(&KEYS.rsa, r#""kid":"1""#)])));
    assert_eq!(both.ask(&by_rsa("1")), Ok(()));
    assert_eq!(both.ask(&by_stranger("1")), Ok(()));
    assert_eq!(both.ask(&token(named("RS256", "1"), CLAIMS, ps256)), refused(SIGNATURE));
    assert_eq!(both.asked(), 0, "a name that is known is no reason to fetch");
}

#[test]
fn another_set_forgets_what_the_one_before_has_verified() {
    let mut trying = Trying::of("RS256", &[rsa_jwk(&KEYS.rsa, r#""kid":"a""#)]);
    assert_eq!((trying.ask(&by_rsa("a")), trying.remembered()), (Ok(()), 1));
    // The same one again, as after a reload or a fetch of another set.
    trying.policy.publish(&trying.state, &trying.published);
    assert_eq!(trying.remembered(), 1);
    // Its key is taken back.
    trying.replace(A, Some(&set(&[rsa_jwk(&KEYS.stranger, r#""kid":"b""#)])));
    assert_eq!(trying.remembered(), 0);
    assert_eq!(trying.ask(&by_rsa("a")), refused(UNKNOWN));
    assert_eq!(trying.ask(&by_stranger("b")), Ok(()));
    // And all others.
    trying.replace(A, Some(&set(&[])));
    assert_eq!(trying.ask(&by_stranger("b")), refused(UNKNOWN));
}

#[test]
fn a_flood_of_unknown_keys_asks_once() {
    let trying = Trying::of("RS256", &[rsa_jwk(&KEYS.rsa, r#""kid":"a""#)]);
    for number in 0..500 {
        let unknown = token(named("RS256", &format!("unknown-{number}")), CLAIMS, |_| vec![0; 256]);
        assert_eq!(trying.ask(&unknown), refused(UNKNOWN));
    }
    assert_eq!((trying.asked(), trying.remembered()), (1, 0));
}

/// What a token says of keys of its own, and keys that were never meant to sign.
#[test]
fn nothing_but_the_sets_says_which_keys_count() {
    let jwks = [rsa_jwk(&KEYS.rsa, r#""kid":"a","alg":"RS256""#), ec_jwk("P-256", &KEYS.p256, r#""kid":"e""#)];
    let trying = Trying::of("RS256, PS256, ES256", &jwks);
    let strangers = rsa_jwk(&KEYS.stranger, r#""kid":"a""#);
    let by_stranger =
        |header: &str| token(header, CLAIMS, |message| rsa_signature(&KEYS.stranger, &RSA_PKCS1_SHA256, message));
    let public = [
        KEYS.rsa_der(),
        KEYS.rsa.public_key().as_ref().to_vec(),
        set(&jwks).into_bytes(),
        modulus(&KEYS.rsa).into_bytes(),
    ];
    let mut cases = vec![
        (by_stranger(&format!(r#"{{"alg":"RS256","kid":"a","jwk":{strangers}}}"#)), SIGNATURE),
        (by_stranger(&format!(r#"{{"alg":"RS256","jwk":{strangers}}}"#)), KID_MISSING),
        (by_stranger(r#"{"alg":"RS256","kid":"a","jku":"https://evil.example/keys"}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","kid":"z","jku":"https://a.example/keys"}"#), UNKNOWN),
        (by_stranger(r#"{"alg":"RS256","kid":"a","x5u":"https://evil.example/chain"}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","kid":"a","x5c":["MIIB"]}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","kid":"https://evil.example/keys#a"}"#), UNKNOWN),
        (by_stranger(r#"{"alg":"RS256","kid":"../../dev/null"}"#), UNKNOWN),
        (by_stranger(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "x".repeat(8000))), UNKNOWN),
        (token(named("none", "a"), CLAIMS, |_| Vec::new()), ALGORITHM),
        (token(named("RS256", "a"), CLAIMS, |_| Vec::new()), SIGNATURE),
        // Its `alg` says what a key is for, whatever its type could do.
        (token(named("PS256", "a"), CLAIMS, ps256), ALGORITHM),
        (token(named("ES256", "a"), CLAIMS, es256), ALGORITHM),
        (token(named("RS256", "e"), CLAIMS, rs256), ALGORITHM),
        // An ECDSA signature of nought (CVE-2022-21449).
        (token(named("ES256", "e"), CLAIMS, |_| vec![0; 64]), SIGNATURE),
    ];
    for secret in &public {
        cases.push((token(named("HS256", "a"), CLAIMS, |message| hs(hmac::HMAC_SHA256, secret, message)), ALGORITHM));
        cases.push((token(named("RS256", "a"), CLAIMS, |message| hs(hmac::HMAC_SHA256, secret, message)), SIGNATURE));
    }
    for (at, (token, text)) in cases.iter().enumerate() {
        assert_eq!(trying.ask(token), refused(text), "case {at}");
    }
    // A secret that is published signs for everybody, and so for nobody.
    let oct = format!(r#"{{"kty":"oct","k":"{}","kid":"s","alg":"HS256"}}"#, BASE64URL.encode(SECRET));
    let (found, _) = read(&[oct]);
    assert!(found.is_empty());
    assert_eq!(trying.ask(&by_rsa("a")), Ok(()));
    assert_eq!(trying.remembered(), 1);
}

#[test]
fn addresses_that_others_can_change_on_the_way_are_remarked_on() {
    let remarks = |url: &str| {
        let config = format!("{{jwtKeyOrigin: jwks, jwksUrl: '{url}', mandatoryExpClaim: true}}");
        testing::remarks::<JwtValidation>(&config)
    };
    for url in [A, "http://127.0.0.1:8080/keys", "http://[::1]/keys", "http://localhost/keys"] {
        assert_eq!(remarks(url), [""; 0], "{url}");
    }
    let text =
        "config.jwksUrl: `http://a.example/keys`: whoever is on the way can put in keys of their own; write https";
    assert_eq!(remarks("http://a.example/keys, https://b.example/keys"), [text]);
}

#[test]
fn what_is_wanted_is_part_of_what_the_policy_is() {
    let want = |config: &str| {
        let mut site = testing::site();
        let node = testing::node(config);
        crate::policies::build::<JwtValidation>(&node, "config", &mut site, &mut Vec::new()).expect("a policy");
        (site.take_wants(), site.identity())
    };
    let (wants, identity) = want(&format!(
        "{{jwtKeyOrigin: jwks, jwksUrl: '{A}, {A}', jwksServiceTimeToLive: 5, jwksServiceConnectionTimeout: 700}}"
    ));
    let address = WebAddress::parse(A).expect("an address");
    let destination = Arc::new(Destination::new(address, &Arc::default()));
    let (timeout, time_to_live) = (Duration::from_millis(700), Duration::from_secs(300));
    assert_eq!(
        wants,
        [Want::KeySet(KeySetWant { destination, timeout, time_to_live, cool_down: Duration::from_secs(30) })]
    );
    assert_ne!(identity, want(&format!("{{jwtKeyOrigin: jwks, jwksUrl: '{B}'}}")).1);
    // Where no signature is looked at, no key is wanted.
    assert_eq!(want(&format!("{{signingMethod: none, jwtKeyOrigin: jwks, jwksUrl: '{A}'}}")).0, []);
}

#[test]
fn no_bytes_of_a_set_make_it_panic() {
    use proptest::prelude::*;
    let keys = set(&[
        rsa_jwk(&KEYS.rsa, r#""kid":"a""#),
        ec_jwk("P-384", &KEYS.p384, r#""kid":"b""#),
        ed25519_jwk(r#""kid":"c""#),
    ]);
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..keys.len(), n in "[A-Za-z0-9_-]{0,1500}", e in "[A-Za-z0-9_-]{0,20}")| {
        let _ = KeySet::parse(&bytes);
        let mut cut = keys.clone().into_bytes();
        cut.splice(at..(at + bytes.len()).min(keys.len()), bytes);
        let _ = KeySet::parse(&cut);
        let made = format!(r#"{{"keys":[{{"kty":"RSA","kid":"a","n":"{n}","e":"{e}"}},{{"kty":"EC","crv":"P-256","kid":"b","x":"{n}","y":"{e}"}}]}}"#);
        prop_assert!(KeySet::parse(made.as_bytes()).is_ok());
    });
}
