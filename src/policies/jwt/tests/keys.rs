//! Keys that others than who has made them could sign by.

use super::*;
use crate::policies::jwt::{algorithm::Algorithm, key_set::KeySet, keys::Key};

#[test]
fn points_of_low_order_are_no_keys() {
    const WHY: &str = "an Ed25519 key of low order, by which anybody's signature would be right";
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
    };
    // The eight points of small order of the curve, and other spellings of them.
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ] {
        let bytes = hex(point);
        let refused = Key::from_der(&bytes, &[Algorithm::EdDsa]).map(drop).expect_err(point);
        assert!(
            refused == WHY || refused == "EdDSA takes an Ed25519 public key, and this is none",
            "{point}: {refused}"
        );
        let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"x","x":"{}"}}"#, BASE64URL.encode(&bytes));
        let (set, unusable) = KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).expect("a set");
        assert!(set.is_empty() && unusable == [format!("keys[0]: {refused}")], "{unusable:?}");
        // As PEM: the identifier of Ed25519 (RFC 8410) ahead of it.
        let info = [&hex("302a300506032b6570032100")[..], &bytes].concat();
        let config = format!("{{textKey: '{}', ringway: {{algorithms: [EdDSA]}}}}", BASE64.encode(info));
        assert_eq!(faults(&config), [format!("config.textKey: {refused}")]);
    }
    assert!(Key::from_der(KEYS.ed25519.public_key().as_ref(), &[Algorithm::EdDsa]).is_ok());
}

#[test]
fn the_length_of_a_modulus_is_told_to_the_bit() {
    for (first, rest, bits) in [(0x7f, 255, 2047), (0x01, 255, 2041), (0xff, 254, 2040)] {
        let n = BASE64URL.encode([&[first][..], &vec![0xff; rest]].concat());
        let jwk = format!(r#"{{"keys":[{{"kty":"RSA","kid":"x","n":"{n}","e":"AQAB"}}]}}"#);
        let (_, unusable) = KeySet::parse(jwk.as_bytes()).expect("a set");
        assert_eq!(unusable, [format!("keys[0]: an RSA key of {bits} bits; fewer than 2048 are not safe")]);
    }
}
