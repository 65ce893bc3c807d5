//! What attackers send: each is refused, by the text that belongs to it, as often as it is sent.

use super::*;

const ALGORITHM: &str = "Invalid token. JWT Policy validation error: wrong signature algorithm.";
const SIGNATURE: &str = "Invalid token. JWT Policy validation error: wrong signature.";
const CRITICAL: &str = "Invalid token. JWT Policy validation error: unknown critical extension.";
const ENCRYPTED: &str = "Token parsing error: encrypted tokens are not supported.";
const PARTS: &str = "Token parsing error: not three parts.";
const ENCODING: &str = "Token parsing error: not base64url.";
const HEADER: &str = "Token parsing error: malformed header.";
const MALFORMED: &str = "Token parsing error: malformed claims.";
const TIME: &str = "Token parsing error: a time that is not a number of seconds.";
const EXPIRED: &str = "Invalid token. Exp claim validation error.";

/// Each token is refused with its text, also after one that is genuine, and also the second time.
fn check(config: &str, genuine: &str, cases: &[(String, &str)]) {
    let policy = policy(config);
    let state = policy.state(&Core::default());
    let ask = |token: &str| outcome(&policy, &state, &[("authorization", &format!("Bearer {token}"))]).0;
    assert_eq!(ask(genuine), Ok(()));
    for _ in 0..2 {
        for (at, (token, text)) in cases.iter().enumerate() {
            assert_eq!(ask(token), refused(text), "case {at}: {token}");
        }
    }
    assert_eq!(ask(genuine), Ok(()));
    assert_eq!(state.verified.borrow().len(), 1, "nothing that was refused is remembered");
}

fn genuine() -> String {
    token(RS256, CLAIMS, rs256)
}

fn check_rsa(cases: &[(String, &str)]) {
    check(&rsa_config(""), &genuine(), cases);
}

#[test]
fn algorithms_are_not_the_tokens_say() {
    let der = KEYS.rsa_der();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&der));
    let digits = BASE64.encode(&der);
    let pkcs1 = KEYS.rsa.public_key().as_ref().to_vec();
    let mut cases = Vec::new();
    // The public key as a secret, in every spelling of it that others have fallen for.
    for secret in [&der[..], pem.as_bytes(), pem.trim().as_bytes(), digits.as_bytes(), &pkcs1, b""] {
        for (name, hash) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
            let header = format!(r#"{{"alg":"{name}"}}"#);
            cases.push((token(header, CLAIMS, |message| hs(hash, secret, message)), ALGORITHM));
        }
        // And under the name of the algorithm that is configured.
        cases.push((token(RS256, CLAIMS, |message| hs(hmac::HMAC_SHA256, secret, message)), SIGNATURE));
    }
    for name in [
        "none", "None", "NONE", "nOnE", "nonE", " none", "none ", "", "null", "RS256 ", " RS256", "rs256", "Rs256",
        "RS-256",
    ] {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        cases.push((token(&header, CLAIMS, |_| Vec::new()), ALGORITHM));
        cases.push((token(&header, CLAIMS, rs256), ALGORITHM));
    }
    for name in [
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
        "ES256K",
        "EdDSA",
        "Ed25519",
        "RS1",
        "HS1",
        "RSA-OAEP",
        "dir",
        "RS256\\u0000",
        "RS256\\u200b",
        "\\u0420S256",
    ] {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        cases.push((token(&header, CLAIMS, rs256), ALGORITHM));
    }
    for value in ["null", "true", "256", "[]", r#"["RS256"]"#, r#"["none"]"#, r#"{"RS256":1}"#] {
        cases.push((token(format!(r#"{{"alg":{value}}}"#), CLAIMS, rs256), HEADER));
    }
    for header in ["{}", r#"{"Alg":"RS256"}"#, r#"{"ALG":"RS256"}"#, r#"{"alg ":"RS256"}"#, r#"{"typ":"JWT"}"#] {
        cases.push((token(header, CLAIMS, rs256), HEADER));
    }
    check_rsa(&cases);
}

#[test]
fn signatures_are_whole_and_of_this_message() {
    let genuine = genuine();
    let [header, claims, signature] = *genuine.split('.').collect::<Vec<_>>() else { panic!("three parts") };
    let eve = token(RS256, r#"{"sub":"eve","exp":1800000001}"#, rs256);
    let [_, others, another] = *eve.split('.').collect::<Vec<_>>() else { panic!("three parts") };
    let bytes = BASE64URL.decode(signature).expect("base64url");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        format!("{header}.{claims}.{}", BASE64URL.encode(bytes))
    };
    let by_stranger =
        |header: &str| token(header, CLAIMS, |message| rsa_signature(&KEYS.stranger, &RSA_PKCS1_SHA256, message));
    let jwk = r#"{"kty":"RSA","e":"AQAB","n":"AQAB"}"#;
    let mut cases = vec![
        (format!("{header}.{claims}."), SIGNATURE),
        (format!("{header}.{others}.{signature}"), SIGNATURE),
        (format!("{header}.{claims}.{another}"), SIGNATURE),
        (format!("{header}.{claims}.{claims}"), SIGNATURE),
        (format!("{claims}.{header}.{signature}"), HEADER),
        (format!("{claims}.{claims}.{signature}"), HEADER),
        (format!("{header}.{header}.{signature}"), SIGNATURE),
        (format!("{header}..{signature}"), SIGNATURE),
        (format!(".{claims}.{signature}"), HEADER),
        (changed(&|bytes| bytes[0] ^= 1), SIGNATURE),
        (changed(&|bytes| bytes[128] ^= 0x80), SIGNATURE),
        (changed(&|bytes| bytes[255] ^= 1), SIGNATURE),
        (changed(&|bytes| bytes.truncate(255)), SIGNATURE),
        (changed(&|bytes| bytes.push(0)), SIGNATURE),
        (changed(&|bytes| bytes.insert(0, 0)), SIGNATURE),
        (changed(&|bytes| bytes.fill(0)), SIGNATURE),
        (changed(&|bytes| bytes.fill(0xff)), SIGNATURE),
        (changed(&|bytes| bytes.reverse()), SIGNATURE),
        (changed(&|bytes| *bytes = vec![1]), SIGNATURE),
        (changed(&|bytes| bytes.extend(bytes.clone())), SIGNATURE),
        (token(RS256, CLAIMS, ps256), SIGNATURE),
        (token(RS256, CLAIMS, |message| rs256(&[message, b"."].concat())), SIGNATURE),
        (token(RS256, CLAIMS, |_| rs256(CLAIMS.as_bytes())), SIGNATURE),
        (token(RS256, CLAIMS, es256), SIGNATURE),
        (token(RS256, CLAIMS, eddsa), SIGNATURE),
        (by_stranger(RS256), SIGNATURE),
        // Keys that a token brings along, or the way to them, change nothing.
        (by_stranger(&format!(r#"{{"alg":"RS256","jwk":{jwk}}}"#)), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","jku":"http://evil.example/keys"}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","x5u":"http://evil.example/chain.pem"}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","x5c":["MIIB"]}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","kid":"../../../../dev/null"}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","kid":"' OR 1=1 --"}"#), SIGNATURE),
        (by_stranger(r#"{"alg":"RS256","kid":""}"#), SIGNATURE),
    ];
    // No byte of a genuine token may be another one.
    for at in (0..genuine.len()).step_by(17) {
        let mut bytes = genuine.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(bytes).expect("ASCII");
        let answer = ask(&policy(&rsa_config("")), &text).expect_err("refused");
        cases.push((
            text,
            Refusal::ALL.iter().map(|refusal| refusal.said().1).find(|text| *text == answer).expect("known"),
        ));
    }
    check_rsa(&cases);
}

#[test]
fn tokens_have_one_spelling() {
    let genuine = genuine();
    let [header, claims, signature] = *genuine.split('.').collect::<Vec<_>>() else { panic!("three parts") };
    // The last letter of a part with spare bits in it: 256 bytes leave four.
    let (rest, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).expect("base64url");
    let spare = &alphabet[place + 1..place + 2];
    check_rsa(&[
        (format!("{header}.{claims}.{rest}{spare}"), ENCODING),
        (format!("{genuine}="), ENCODING),
        (format!("{genuine}=="), ENCODING),
        (format!("{genuine}A"), SIGNATURE),
        (format!("{genuine}\t"), ENCODING),
        (format!("{genuine}%3D"), ENCODING),
        (format!("{genuine}, {genuine}"), ENCRYPTED),
        (format!("{header}=.{claims}.{signature}"), HEADER),
        (format!("{header}==.{claims}.{signature}"), HEADER),
        (format!("{header}.{claims}=.{signature}"), SIGNATURE),
        (format!("{header}.{claims} .{signature}"), SIGNATURE),
        (format!("{header} .{claims}.{signature}"), HEADER),
        (format!(" {genuine}"), HEADER),
        (format!("\"{genuine}\""), HEADER),
        (format!("Bearer {genuine}"), HEADER),
        (format!("{}.{claims}.{signature}", header.replace('e', "%65")), HEADER),
        (format!("{header}.{claims}.{}", signature.replacen(|c: char| c.is_ascii_alphanumeric(), "+", 1)), ENCODING),
        (format!("{header}.{claims}.{}", signature.replacen(|c: char| c.is_ascii_alphanumeric(), "/", 1)), ENCODING),
        (format!("{header}.{claims}.\u{e4}"), ENCODING),
        (format!("{header}.{claims}.{signature}."), PARTS),
        (format!(".{genuine}"), PARTS),
        (format!("{header}.{claims}"), PARTS),
        (header.to_owned(), PARTS),
        (".".to_owned(), PARTS),
        ("..".to_owned(), HEADER),
        ("...".to_owned(), PARTS),
        ("....".to_owned(), ENCRYPTED),
        (".....".to_owned(), PARTS),
        (format!("{genuine}.{claims}.{signature}"), ENCRYPTED),
        (format!("{genuine}.{genuine}"), PARTS),
        (token(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#, "key", rs256) + ".text.tag", ENCRYPTED),
        (token(r#"{"alg":"dir","enc":"A128GCM"}"#, "", |_| Vec::new()) + "..", ENCRYPTED),
        (".".repeat(10_000), PARTS),
        ("A".repeat(TOO_LONG), "Token parsing error: too long."),
        (token(RS256, format!(r#"{{"a":"{}"}}"#, "x".repeat(TOO_LONG)), rs256), "Token parsing error: too long."),
        (
            token(format!(r#"{{"alg":"RS256","a":"{}"}}"#, "x".repeat(TOO_LONG)), "{}", rs256),
            "Token parsing error: too long.",
        ),
    ]);
}

const TOO_LONG: usize = token::TOKEN_BYTES_MAX + 1;

#[test]
fn headers_mean_one_thing() {
    let with = |header: &str| token(header, CLAIMS, rs256);
    let deep = format!(r#"{{"alg":"RS256","a":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    let mut cases = vec![
        (with(r#"{"alg":"none","alg":"RS256"}"#), HEADER),
        (with(r#"{"alg":"RS256","alg":"none"}"#), HEADER),
        (with(r#"{"alg":"RS256","alg":"RS256"}"#), HEADER),
        (with(r#"{"alg":"RS256","\u0061lg":"none"}"#), HEADER),
        (with(r#"{"\u0061\u006c\u0067":"none","alg":"RS256"}"#), HEADER),
        (with(r#"{"alg":"RS256","kid":"a","kid":"b"}"#), HEADER),
        (with(r#"{"alg":"RS256","a":{"b":1,"b":2}}"#), HEADER),
        (with(r#"{"alg":"RS256","a":[{"b":1,"b":2}]}"#), HEADER),
        (with(r#"{"alg":"RS256"}x"#), HEADER),
        (with(r#"{"alg":"RS256"}{"alg":"none"}"#), HEADER),
        (with(r#"{"alg":"RS256",}"#), HEADER),
        (with(r#"{'alg':'RS256'}"#), HEADER),
        (with(r#"{alg:"RS256"}"#), HEADER),
        (with(r#"{"alg":"RS256" /* */}"#), HEADER),
        (with("{\"alg\":\"RS256\"}\0"), HEADER),
        (with("\u{feff}{\"alg\":\"RS256\"}"), HEADER),
        (with("{\"alg\":\"RS256\",\"a\":\"\n\"}"), HEADER),
        (with(r#"{"alg":"RS256","a":1e400}"#), HEADER),
        (with(r#"{"alg":"RS256","a":01}"#), HEADER),
        (with(r#"{"alg":"RS256","a":NaN}"#), HEADER),
        (with(r#"{"alg":"RS256","a":"\ud800"}"#), HEADER),
        (with(r#"{"alg":"RS256""#), HEADER),
        (with(r#"["alg","RS256"]"#), HEADER),
        (with(r#""RS256""#), HEADER),
        (with("null"), HEADER),
        (with("7"), HEADER),
        (with(""), HEADER),
        (with(" "), HEADER),
        (with(&deep), HEADER),
        (token(b"{\"alg\":\"RS256\",\"a\":\"\xff\"}", CLAIMS, rs256), HEADER),
        (token(b"{\"alg\":\"RS256\",\"a\":\"\xc0\xaf\"}", CLAIMS, rs256), HEADER),
        (
            token("{\"alg\":\"RS256\"}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(), CLAIMS, rs256),
            HEADER,
        ),
    ];
    for kid in ["1", "null", "true", "[]", "{}", r#"["a"]"#] {
        cases.push((with(&format!(r#"{{"alg":"RS256","kid":{kid}}}"#)), HEADER));
    }
    for crit in [
        r#"["exp"]"#,
        r#"["b64"]"#,
        r#"["alg"]"#,
        r#"["x"]"#,
        "[]",
        "null",
        r#""exp""#,
        "{}",
        "true",
        "0",
        "[1]",
        "[null]",
        r#"["exp","exp"]"#,
    ] {
        cases.push((with(&format!(r#"{{"alg":"RS256","crit":{crit}}}"#)), CRITICAL));
        cases.push((with(&format!(r#"{{"alg":"RS256","exp":1,"x":1,"crit":{crit}}}"#)), CRITICAL));
    }
    for b64 in ["false", "null", "0", r#""true""#] {
        cases.push((with(&format!(r#"{{"alg":"RS256","b64":{b64}}}"#)), CRITICAL));
    }
    cases.push((with(r#"{"alg":"RS256","b64":false,"crit":["b64"]}"#), CRITICAL));
    cases.push((with(r#"{"alg":"RS256","\u0063rit":["x"]}"#), CRITICAL));
    check_rsa(&cases);
}

#[test]
fn claims_mean_one_thing() {
    let with = |claims: &str| token(RS256, claims, rs256);
    let inner = genuine();
    let deep = format!(r#"{{"a":{}{}}}"#, r#"{"a":"#.repeat(200), "}".repeat(200));
    let mut cases = vec![
        (with(""), MALFORMED),
        (with("null"), MALFORMED),
        (with("[]"), MALFORMED),
        (with(r#""text""#), MALFORMED),
        (with("1"), MALFORMED),
        (with(&inner), MALFORMED),
        (with("Payload"), MALFORMED),
        (with(r#"{"exp":1800000001,"exp":1}"#), MALFORMED),
        (with(r#"{"exp":1,"exp":1800000001}"#), MALFORMED),
        (with(r#"{"exp":1,"\u0065xp":1800000001}"#), MALFORMED),
        (with(r#"{"sub":"eve","sub":"ada"}"#), MALFORMED),
        (with(r#"{"aud":["a"],"aud":"b"}"#), MALFORMED),
        (with(r#"{"a":{"b":1,"b":1}}"#), MALFORMED),
        (with(r#"{"exp":1e400}"#), MALFORMED),
        (with(r#"{"exp":-1e400}"#), MALFORMED),
        (with(r#"{"exp":Infinity}"#), MALFORMED),
        (with(r#"{"exp":NaN}"#), MALFORMED),
        (with(r#"{"exp":0x7fffffff}"#), MALFORMED),
        (with(r#"{"exp":+1800000001}"#), MALFORMED),
        (with(r#"{"exp":01800000001}"#), MALFORMED),
        (with(r#"{"exp":1800000001.}"#), MALFORMED),
        (with(r#"{"exp":1_800_000_001}"#), MALFORMED),
        (with(r#"{"exp":}"#), MALFORMED),
        (with(r#"{"exp":1800000001} "x""#), MALFORMED),
        (with("{\"sub\":\"\u{1}\"}"), MALFORMED),
        (with(&deep), MALFORMED),
        (token(RS256, b"{\"sub\":\"\xff\"}", rs256), MALFORMED),
        (token(RS256, b"\x80", rs256), MALFORMED),
        (token(RS256, [0; 4096], rs256), MALFORMED),
    ];
    for value in [
        r#""1800000001""#,
        r#""""#,
        "null",
        "true",
        "false",
        "[]",
        "[1800000001]",
        "{}",
        "-1",
        "-0",
        "-0.5",
        "-1800000001",
        "1e300",
        "1e20",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "8210266876800",
        "99999999999999999999999999999999999999999999",
    ] {
        cases.push((with(&format!(r#"{{"exp":{value}}}"#)), TIME));
        cases.push((with(&format!(r#"{{"nbf":{value}}}"#)), TIME));
    }
    for value in ["0", "0.0", "0e9", "1", "1e-400", "1799999999", "1800000000", "1800000000.999", "1.8e9"] {
        cases.push((with(&format!(r#"{{"exp":{value}}}"#)), EXPIRED));
    }
    for value in ["1800000001", "1.800000001e9", "8210266876799", "1800000000999"] {
        cases.push((with(&format!(r#"{{"nbf":{value}}}"#)), "Invalid token. Nb claim validation error."));
    }
    // A name in another case is another claim: these tokens have no `exp`.
    check(&rsa_config("mandatoryExpClaim: true"), &inner, &{
        let absent = [
            r#"{}"#,
            r#"{"EXP":1800000001}"#,
            r#"{"Exp":1800000001}"#,
            r#"{" exp":1800000001}"#,
            r#"{"a":{"exp":1800000001}}"#,
        ];
        absent.map(|claims| (with(claims), "Invalid token. Exp claim not present."))
    });
    check_rsa(&cases);
}

#[test]
fn signatures_of_curves_are_raw_and_of_their_curve() {
    let header = r#"{"alg":"ES256"}"#;
    let genuine = token(header, CLAIMS, es256);
    let config = format!("{{signingMethod: es, textKey: '{}'}}", BASE64.encode(KEYS.p256_der()));
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let changed = |change: fn(Vec<u8>) -> Vec<u8>| token(header, CLAIMS, |message| change(es256(message)));
    let fixed = |bytes: Vec<u8>| token(header, CLAIMS, move |_| bytes.clone());
    let der = |raw: &[u8]| {
        let integer = |part: &[u8]| {
            let padded = [&[0][..], part].concat();
            [&[2, padded.len() as u8][..], &padded].concat()
        };
        let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
        [&[0x30, body.len() as u8][..], &body].concat()
    };
    check(
        &config,
        &genuine,
        &[
            (token(header, CLAIMS, |message| der(&es256(message))), SIGNATURE),
            (fixed(Vec::new()), SIGNATURE),
            // CVE-2022-21449: r and s of nought satisfied the equation for everything.
            (fixed(vec![0; 64]), SIGNATURE),
            (fixed([vec![0; 31], vec![1], vec![0; 32]].concat()), SIGNATURE),
            (fixed([vec![0; 32], vec![0; 31], vec![1]].concat()), SIGNATURE),
            (fixed([order, order].concat()), SIGNATURE),
            (fixed(vec![0xff; 64]), SIGNATURE),
            (fixed(vec![0; 63]), SIGNATURE),
            (fixed(vec![0; 65]), SIGNATURE),
            (fixed(vec![0x30, 6, 2, 1, 0, 2, 1, 0]), SIGNATURE),
            (changed(|raw| [&raw[32..], &raw[..32]].concat()), SIGNATURE),
            (changed(|raw| raw[..63].to_vec()), SIGNATURE),
            (changed(|raw| [&raw[..], &[0]].concat()), SIGNATURE),
            (changed(|raw| [&[0], &raw[..]].concat()), SIGNATURE),
            (changed(|raw| [&raw[..32], &[0], &raw[32..]].concat()), SIGNATURE),
            (
                changed(|mut raw| {
                    raw[0] ^= 1;
                    raw
                }),
                SIGNATURE,
            ),
            (
                changed(|mut raw| {
                    raw[63] ^= 1;
                    raw
                }),
                SIGNATURE,
            ),
            (token(header, CLAIMS, es384), SIGNATURE),
            (token(header, CLAIMS, rs256), SIGNATURE),
            (token(r#"{"alg":"ES384"}"#, CLAIMS, es384), ALGORITHM),
            (token(r#"{"alg":"ES384"}"#, CLAIMS, es256), ALGORITHM),
            (token(r#"{"alg":"ES256K"}"#, CLAIMS, es256), ALGORITHM),
            (
                token(r#"{"alg":"HS256"}"#, CLAIMS, |message| hs(hmac::HMAC_SHA256, &KEYS.p256_der(), message)),
                ALGORITHM,
            ),
            (token(r#"{"alg":"none"}"#, CLAIMS, |_| Vec::new()), ALGORITHM),
        ],
    );
}

#[test]
fn secrets_are_whole_and_of_their_hash() {
    let header = r#"{"alg":"HS256"}"#;
    let genuine = token(header, CLAIMS, hs256);
    let config = format!("{{signingMethod: hmac, textKey: {SECRET}}}");
    let by = |secret: &'static [u8]| token(header, CLAIMS, move |message| hs(hmac::HMAC_SHA256, secret, message));
    check(
        &config,
        &genuine,
        &[
            (by(b""), SIGNATURE),
            (by(b"secret"), SIGNATURE),
            (by(&[0; 64]), SIGNATURE),
            (by(&SECRET.as_bytes()[..32]), SIGNATURE),
            (by(b"0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"), SIGNATURE),
            (token(header, CLAIMS, |_| Vec::new()), SIGNATURE),
            (token(header, CLAIMS, |message| hs256(message)[..16].to_vec()), SIGNATURE),
            (token(header, CLAIMS, |message| hs256(message)[..31].to_vec()), SIGNATURE),
            (token(header, CLAIMS, |message| [&hs256(message)[..], &[0]].concat()), SIGNATURE),
            (token(header, CLAIMS, |message| hs(hmac::HMAC_SHA384, SECRET.as_bytes(), message)), SIGNATURE),
            (token(header, CLAIMS, |message| hs(hmac::HMAC_SHA512, SECRET.as_bytes(), message)), SIGNATURE),
            (token(header, CLAIMS, |_| vec![0; 32]), SIGNATURE),
            (
                token(r#"{"alg":"HS384"}"#, CLAIMS, |message| hs(hmac::HMAC_SHA384, SECRET.as_bytes(), message)),
                ALGORITHM,
            ),
            (
                token(r#"{"alg":"HS512"}"#, CLAIMS, |message| hs(hmac::HMAC_SHA512, SECRET.as_bytes(), message)),
                ALGORITHM,
            ),
            (token(r#"{"alg":"RS256"}"#, CLAIMS, rs256), ALGORITHM),
            (token(r#"{"alg":"none"}"#, CLAIMS, |_| Vec::new()), ALGORITHM),
        ],
    );
}

/// Without signatures a token must still be one.
#[test]
fn unchecked_tokens_are_still_read_strictly() {
    let with = |header: &str, claims: &str| token(header, claims, |_| Vec::new());
    let genuine = token(RS256, CLAIMS, |_| vec![0; 32]);
    check(
        "{signingMethod: none}",
        &genuine,
        &[
            (with(RS256, r#"{"exp":1}"#), EXPIRED),
            (with(RS256, r#"{"exp":"1800000001"}"#), TIME),
            (with(RS256, r#"{"exp":1,"exp":1800000001}"#), MALFORMED),
            (with(r#"{"alg":"none","crit":["x"]}"#, CLAIMS), CRITICAL),
            (with("{}", CLAIMS), HEADER),
            (with(RS256, CLAIMS) + "=", ENCODING),
            (with(RS256, CLAIMS) + "..", ENCRYPTED),
            ("a.b".to_owned(), PARTS),
        ],
    );
}
