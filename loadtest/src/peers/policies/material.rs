//! What policies are tried with: keys, tokens, addresses and a body, and how a peer's texts get them.
//!
//! Tokens are signed before the load begins, by a key that is made anew for each measurement: nothing here is a secret.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Result, anyhow};
use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};

/// More than any peer's cache is configured to hold, asked for in a circle: each has been forgotten when it comes again.
pub const TOKENS: usize = 4096;
/// Of a list, the generator's own address among them.
pub const ADDRESSES: usize = 1000;
/// Policies of a chain.
pub const CHAIN: usize = 10;
const SECRET: &str = "only-for-measurements-0123456789abcdef";
/// Signs in a line of PEM (RFC 7468, section 2).
const PEM_COLUMNS: usize = 64;

pub struct Material {
    /// By place: one text.
    texts: BTreeMap<&'static str, String>,
    /// By place: a line with it is written for each of the list.
    lists: BTreeMap<&'static str, Vec<String>>,
    /// Signed with the RSA key whose public half is `@PUBLIC_KEY@`.
    pub rs256: Vec<String>,
    /// Signed with `@SECRET@`.
    pub hs256: Vec<String>,
}

impl Material {
    /// # Errors
    /// No key could be made, or it does not sign.
    pub fn make(tokens: usize) -> Result<Self> {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("cannot make an RSA key"))?;
        let public = key.public_key();
        let der = public.as_der().map_err(|_| anyhow!("cannot write the RSA key"))?;
        let written = BASE64.encode(der.as_ref());
        let lines = written.as_bytes().chunks(PEM_COLUMNS).map(|line| String::from_utf8_lossy(line).into_owned());
        let modulus = BASE64URL.encode(public.modulus().big_endian_without_leading_zero());
        let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        Ok(Self {
            lists: BTreeMap::from([
                ("@ADDRESS@", addresses()),
                ("@NUMBER@", (1..=CHAIN).map(|number| number.to_string()).collect()),
                ("@PUBLIC_KEY_LINE@", lines.collect()),
            ]),
            texts: BTreeMap::from([
                ("@MODULUS@", modulus),
                ("@PUBLIC_KEY@", written),
                ("@SECRET@", SECRET.to_owned()),
                ("@SECRET_BASE64URL@", BASE64URL.encode(SECRET)),
            ]),
            rs256: (0..tokens).map(|number| rs256(&key, number)).collect::<Result<_>>()?,
            hs256: (0..tokens).map(|number| hs256(&secret, number)).collect(),
        })
    }

    /// Writes what is ours into a text. Other places stay.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        for line in text.split_inclusive('\n') {
            match self.lists.iter().find(|(place, _)| line.contains(**place)) {
                Some((place, all)) => filled.extend(all.iter().map(|one| line.replace(place, one))),
                None => filled.push_str(line),
            }
        }
        self.texts.iter().fold(filled, |filled, (place, text)| filled.replace(place, text))
    }
}

/// No two of them are neighbours, so that no proxy makes one range of two.
fn addresses() -> Vec<String> {
    const STEP: usize = 16_411;
    let network = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let others = (1..ADDRESSES).map(|number| Ipv4Addr::from(network + (number * STEP) as u32));
    others.chain([Ipv4Addr::LOCALHOST]).map(|address| address.to_string()).collect()
}

fn rs256(key: &RsaKeyPair, number: usize) -> Result<String> {
    let message = message("RS256", number);
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
        .map_err(|_| anyhow!("cannot sign a token"))?;
    Ok(format!("{message}.{}", BASE64URL.encode(signature)))
}

fn hs256(secret: &hmac::Key, number: usize) -> String {
    let message = message("HS256", number);
    let signature = hmac::sign(secret, message.as_bytes());
    format!("{message}.{}", BASE64URL.encode(signature))
}

/// Header and claims of a token (RFC 7519, section 7.1) that ends in the year 2100.
fn message(algorithm: &str, number: usize) -> String {
    let header = BASE64URL.encode(format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#));
    let claims = format!(
        r#"{{"iss":"https://login.example/","sub":"user-{number:08}","aud":"orders","exp":4102444800,"iat":1800000000,"scope":"orders:read orders:write"}}"#
    );
    format!("{header}.{}", BASE64URL.encode(claims))
}

/// A list of orders in so many bytes: what is too little for another order is spaces.
pub fn json(bytes: usize) -> String {
    let mut text = String::from("[");
    for number in 0.. {
        let comma = if number == 0 { "" } else { "," };
        let order = format!(
            r#"{comma}{{"id":{number},"customer":{{"name":"Ada Lovelace","city":"London"}},"items":[{{"sku":"A-{number:04}","count":2,"price":19.95}}],"paid":true}}"#
        );
        if text.len() + order.len() + "]".len() > bytes {
            break;
        }
        text.push_str(&order);
    }
    text.push(']');
    let padding = bytes.saturating_sub(text.len());
    text + &" ".repeat(padding)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    use super::*;

    #[test]
    fn a_line_with_a_lists_place_is_written_for_each() {
        let material = Material::make(0).expect("keys");
        let filled = material.fill("ten:\n  - x-@NUMBER@: \"@SECRET@\"\nport: @PORT@\n");
        assert!(filled.starts_with(&format!("ten:\n  - x-1: \"{SECRET}\"\n  - x-2: ")), "{filled}");
        assert!(filled.ends_with(&format!("  - x-10: \"{SECRET}\"\nport: @PORT@\n")), "{filled}");
        assert_eq!(material.fill("@PUBLIC_KEY_LINE@\n").replace('\n', ""), material.fill("@PUBLIC_KEY@"));
        assert!(material.fill("@PUBLIC_KEY_LINE@\n").lines().all(|line| line.len() <= PEM_COLUMNS));
    }

    #[test]
    fn a_list_holds_the_generators_address_and_none_twice() {
        let all = addresses();
        assert_eq!(all.len(), ADDRESSES);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), ADDRESSES);
        assert!(all[..ADDRESSES - 1].iter().all(|address| address.starts_with("10.")));
        assert_eq!(all[ADDRESSES - 1], "127.0.0.1");
    }

    #[test]
    fn tokens_differ_and_are_signed_with_what_peers_are_given() {
        let material = Material::make(2).expect("keys");
        assert_ne!(material.rs256[0], material.rs256[1]);
        let n = BASE64URL.decode(material.fill("@MODULUS@")).expect("base64url");
        let key = RsaPublicKeyComponents { n, e: vec![1, 0, 1] };
        let secret = hmac::Key::new(
            hmac::HMAC_SHA256,
            &BASE64URL.decode(material.fill("@SECRET_BASE64URL@")).expect("base64url"),
        );
        for (rs256, hs256) in material.rs256.iter().zip(&material.hs256) {
            let signed = |token: &str| {
                let (message, signature) = token.rsplit_once('.').expect("three parts");
                (message.to_owned(), BASE64URL.decode(signature).expect("base64url"))
            };
            let (message, signature) = signed(rs256);
            key.verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature).expect("genuine");
            let (message, signature) = signed(hs256);
            hmac::verify(&secret, message.as_bytes(), &signature).expect("genuine");
        }
    }

    #[test]
    fn a_body_has_the_size_that_was_asked_for_and_is_json() {
        for bytes in [2, 200, 16 * 1024] {
            let text = json(bytes);
            assert_eq!(text.len(), bytes);
            let orders: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
            assert_eq!(orders.is_empty(), bytes < 200);
        }
    }
}
