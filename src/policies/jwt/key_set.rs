//! A set of keys as an issuer publishes it (RFC 7517, section 5), read once for all cores.
//!
//! What of it cannot be used is left out and told of: an issuer that adds a key of a new kind must not take the others away.
//! Each key verifies by the algorithms of its own type alone, whatever else a token or the set says.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};

use super::{algorithm::Algorithm, keys::Key};
use crate::expression::{Datum, Object};

/// A larger one is refused as a whole, before it is read.
pub const KEY_SET_BYTES_MAX: usize = 256 << 10;
/// A set of more is refused as a whole.
const KEYS_MAX: usize = 100;
const KID_BYTES_MAX: usize = 256;
/// RFC 7518, section 6.3.1, and the largest modulus that is verified with, in bytes.
const MODULUS_BYTES_MAX: usize = 1024;
const EXPONENT_BYTES_MAX: usize = 8;

#[derive(Debug, Default)]
pub struct KeySet {
    by_kid: HashMap<Box<str>, Vec<Key>>,
}

impl KeySet {
    /// The set, and of each key that cannot be used which one it is and why. A set without any key is one too: its issuer has
    /// taken all keys back.
    ///
    /// # Errors
    /// Why it is no set of keys.
    pub fn parse(body: &[u8]) -> Result<(Self, Vec<String>), String> {
        if body.len() > KEY_SET_BYTES_MAX {
            return Err(format!("more than {KEY_SET_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(body).map_err(|_| "not UTF-8")?;
        let document = Datum::from_json_without_repetition(text).ok_or("not JSON, or a name in it is repeated")?;
        let Datum::Object(document) = document else { return Err("not a JSON object".to_owned()) };
        let Some(Datum::List(keys)) = document.get("keys") else { return Err("no list `keys`".to_owned()) };
        if keys.len() > KEYS_MAX {
            return Err(format!("more than {KEYS_MAX} keys"));
        }
        let (mut set, mut unusable) = (Self::default(), Vec::new());
        for (at, jwk) in keys.iter().enumerate() {
            if let Err(why) = read(jwk).and_then(|(kid, algorithms, der)| set.add(kid, &algorithms, &der)) {
                unusable.push(format!("keys[{at}]: {why}"));
            }
        }
        Ok((set, unusable))
    }

    /// Those of a name; several are of different types.
    pub fn find(&self, kid: &str) -> &[Key] {
        self.by_kid.get(kid).map_or(&[], Vec::as_slice)
    }

    pub fn len(&self) -> usize {
        self.by_kid.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.by_kid.is_empty()
    }

    fn add(&mut self, kid: &str, algorithms: &[Algorithm], der: &[u8]) -> Result<(), String> {
        // RFC 7517, section 4.5: only keys of different types may share a name.
        if self.find(kid).iter().any(|other| algorithms.iter().any(|algorithm| other.has(*algorithm))) {
            return Err(format!("a key of this type is called {kid:?} already"));
        }
        let key = Key::from_der(der, algorithms)?;
        self.by_kid.entry(kid.into()).or_default().push(key);
        Ok(())
    }
}

/// A key's name, what it may verify, and its bytes.
fn read(jwk: &Datum) -> Result<(&str, Vec<Algorithm>, Vec<u8>), String> {
    let Datum::Object(jwk) = jwk else { return Err("not a JSON object".to_owned()) };
    let kid = jwk.text("kid").filter(|kid| !kid.is_empty()).ok_or("no `kid`: no token can name it")?;
    if kid.len() > KID_BYTES_MAX {
        return Err(format!("a `kid` of more than {KID_BYTES_MAX} bytes"));
    }
    if !is_to_verify(jwk) {
        return Err(format!("{kid:?} is for something else than signatures, by its `use` or `key_ops`"));
    }
    let (algorithms, bytes) = typed(jwk).map_err(|why| format!("{kid:?}: {why}"))?;
    // RFC 7517, section 4.4: the one algorithm it is meant for.
    let algorithms: Vec<Algorithm> = match jwk.get("alg") {
        None => algorithms.to_vec(),
        Some(Datum::String(alg)) => algorithms.iter().copied().filter(|known| known.name() == &**alg).collect(),
        Some(_) => return Err(format!("{kid:?}: an `alg` that is no string")),
    };
    if algorithms.is_empty() {
        return Err(format!("{kid:?}: its `alg` is none that its type has here"));
    }
    Ok((kid, algorithms, bytes))
}

/// RFC 7517, sections 4.2 and 4.3.
fn is_to_verify(jwk: &Object) -> bool {
    let of_use = match jwk.get("use") {
        None => true,
        Some(Datum::String(name)) => **name == *"sig",
        Some(_) => false,
    };
    let of_operations = match jwk.get("key_ops") {
        None => true,
        Some(Datum::List(list)) => list.iter().any(|one| matches!(one, Datum::String(name) if **name == *"verify")),
        Some(_) => false,
    };
    of_use && of_operations
}

/// What a key of this type may verify, and its bytes.
fn typed(jwk: &Object) -> Result<(&'static [Algorithm], Vec<u8>), String> {
    use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    let kty = jwk.text("kty").ok_or("no `kty`")?;
    if kty == "oct" {
        return Err("a secret, which is none where it is published".to_owned());
    }
    // RFC 7518, sections 6.2.2 and 6.3.2; RFC 8037, section 2.
    if jwk.get("d").is_some() {
        return Err("a private key, which is everybody's now".to_owned());
    }
    let curve = jwk.text("crv").unwrap_or_default();
    match (kty, curve) {
        ("RSA", _) => Ok((&[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512], rsa(jwk)?)),
        ("EC", "P-256") => Ok((&[Es256], point(jwk, 32)?)),
        ("EC", "P-384") => Ok((&[Es384], point(jwk, 48)?)),
        ("OKP", "Ed25519") => Ok((&[EdDsa], coordinate(jwk, "x", 32)?)),
        ("EC" | "OKP", _) => Err(format!("the curve {curve:?} is not supported")),
        _ => Err(format!("the type {kty:?} is not supported")),
    }
}

/// An uncompressed point (SEC 1, section 2.3.3): `0x04`, then the two coordinates.
fn point(jwk: &Object, bytes: usize) -> Result<Vec<u8>, String> {
    Ok([&[4][..], &coordinate(jwk, "x", bytes)?, &coordinate(jwk, "y", bytes)?].concat())
}

/// RFC 7518, section 6.2.1.2: of full length, zeros ahead of it included.
fn coordinate(jwk: &Object, name: &str, bytes: usize) -> Result<Vec<u8>, String> {
    let found = number(jwk, name)?;
    if found.len() == bytes { Ok(found) } else { Err(format!("`{name}` is not {bytes} bytes long")) }
}

/// The RSAPublicKey of PKCS #1 (RFC 8017, appendix A.1.1): a sequence of modulus and exponent.
fn rsa(jwk: &Object) -> Result<Vec<u8>, String> {
    let (modulus, exponent) = (number(jwk, "n")?, number(jwk, "e")?);
    if modulus.len() > MODULUS_BYTES_MAX + 1 || exponent.len() > EXPONENT_BYTES_MAX {
        return Err(format!("`n` or `e` is longer than {MODULUS_BYTES_MAX} or {EXPONENT_BYTES_MAX} bytes"));
    }
    Ok(der(0x30, &[integer(&modulus), integer(&exponent)].concat()))
}

fn number(jwk: &Object, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk.text(name).ok_or_else(|| format!("no `{name}`"))?;
    BASE64URL.decode(text).map_err(|_| format!("`{name}` is not base64url"))
}

/// An unsigned number: without zeros ahead of it, but for the one that keeps it from being negative.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let digits = &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..];
    match digits.first() {
        Some(first) if *first < 0x80 => der(2, digits),
        _ => der(2, &[&[0], digits].concat()),
    }
}

/// A tag, the length in its shortest form, the content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut written = vec![tag];
    match content.len() {
        short @ ..0x80 => written.push(short as u8),
        long @ 0x80..0x100 => written.extend([0x81, long as u8]),
        longer => written.extend([0x82, (longer >> 8) as u8, longer as u8]),
    }
    written.extend(content);
    written
}
