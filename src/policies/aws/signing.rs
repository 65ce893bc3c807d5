//! AWS Signature Version 4, with a secret that both sides know, and 4A, with a key pair that is made of it and so counts in more
//! than one region.
//!
//! What is signed is a text of the request in one spelling, which the service makes of what it receives, too:
//!
//! ```text
//! method LF path LF query LF (name:value LF)* LF names LF hash-of-body
//! ```

use std::{borrow::Cow, fmt, fmt::Write, time::SystemTime};

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};

use crate::telemetry::access_log::civil;

/// The hash of a body that is not looked at.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    SigV4,
    SigV4A,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::SigV4 => "AWS4-HMAC-SHA256",
            Self::SigV4A => "AWS4-ECDSA-P256-SHA256",
        }
    }
}

/// Whom the gateway is to AWS.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Of credentials that run out.
    pub session_token: Option<String>,
}

/// The id is no secret, and tells which they are.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.access_key_id)
    }
}

/// What is asked for, as it goes out.
pub struct Request<'a> {
    pub method: &'a [u8],
    pub path: &'a [u8],
    /// With its `?`; empty for none.
    pub query: &'a [u8],
    /// Names in lower case, `host` among them; a name may stand more than once.
    pub headers: Vec<(Vec<u8>, &'a [u8])>,
    /// In hexadecimal digits, or [`UNSIGNED_PAYLOAD`].
    pub payload: &'a str,
}

/// Whom it is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub algorithm: Algorithm,
    /// Of Version 4A a set: names with commas between, where `*` stands for anything.
    pub region: String,
    pub name: String,
}

impl Service {
    /// S3 takes paths as they are, and its objects may have any name; others have them in one spelling, encoded twice.
    fn takes_paths_as_they_are(&self) -> bool {
        matches!(&*self.name, "s3" | "s3-outposts" | "s3-object-lambda" | "s3express")
    }
}

/// A point in time in the two forms that signatures have it in.
pub struct Stamp(String);

impl Stamp {
    pub fn of(time: SystemTime) -> Self {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (year, month, day) = civil((seconds / 86_400) as i64);
        let [hour, minute, second] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
        Self(format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"))
    }

    /// `20150830T123600Z`
    pub fn time(&self) -> &str {
        &self.0
    }

    /// `20150830`
    pub fn date(&self) -> &str {
        self.0.split('T').next().unwrap_or_default()
    }
}

/// What signs for one day, made of the credentials.
pub struct SigningKey(Key);

enum Key {
    /// Two states of its hash, a kibibyte.
    Secret(Box<hmac::Key>),
    Pair(EcdsaKeyPair),
}

/// There is no randomness, or no key can be made.
#[derive(Debug)]
pub struct NotSigned;

impl SigningKey {
    /// # Errors
    /// No pair can be made of these credentials.
    pub fn new(credentials: &Credentials, service: &Service, stamp: &Stamp) -> Result<Self, NotSigned> {
        let Credentials { access_key_id, secret_access_key, .. } = credentials;
        Ok(Self(match service.algorithm {
            Algorithm::SigV4 => {
                let secret = format!("AWS4{secret_access_key}").into_bytes();
                let parts = [stamp.date(), &service.region, &service.name, "aws4_request"];
                let key = parts.iter().fold(secret, |key, part| mac(&key, part.as_bytes()).as_ref().to_vec());
                Key::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &key)))
            }
            Algorithm::SigV4A => Key::Pair(pair(access_key_id, secret_access_key).ok_or(NotSigned)?),
        }))
    }

    fn sign(&self, text: &[u8]) -> Result<String, NotSigned> {
        match &self.0 {
            Key::Secret(key) => Ok(hex(hmac::sign(key, text).as_ref())),
            Key::Pair(pair) => Ok(hex(pair.sign(&SystemRandom::new(), text).map_err(|_| NotSigned)?.as_ref())),
        }
    }
}

/// The value of `authorization`.
///
/// # Errors
/// There is no randomness.
pub fn authorization(
    request: &Request<'_>,
    service: &Service,
    credentials: &Credentials,
    key: &SigningKey,
    stamp: &Stamp,
) -> Result<String, NotSigned> {
    let (canonical, names) = canonical(request, service);
    let (name, scope) = (service.algorithm.name(), scope(service, stamp));
    let hash = sha256_hex(&canonical);
    let signature = key.sign(format!("{name}\n{}\n{scope}\n{hash}", stamp.time()).as_bytes())?;
    let id = &credentials.access_key_id;
    Ok(format!("{name} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"))
}

fn scope(service: &Service, stamp: &Stamp) -> String {
    match service.algorithm {
        Algorithm::SigV4 => format!("{}/{}/{}/aws4_request", stamp.date(), service.region, service.name),
        Algorithm::SigV4A => format!("{}/{}/aws4_request", stamp.date(), service.name),
    }
}

/// The text that is hashed, and the names of the headers in it.
fn canonical(request: &Request<'_>, service: &Service) -> (Vec<u8>, String) {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(request.method);
    out.push(b'\n');
    path(&mut out, request.path, service);
    out.push(b'\n');
    query(&mut out, request.query);
    out.push(b'\n');
    let names = headers(&mut out, &request.headers);
    out.push(b'\n');
    out.extend_from_slice(names.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(request.payload.as_bytes());
    (out, names)
}

fn path(out: &mut Vec<u8>, path: &[u8], service: &Service) {
    if service.takes_paths_as_they_are() {
        return encode(out, &decoded(path), b"/");
    }
    // What is encoded already is encoded once more.
    encode(out, &without_dots(path), b"/");
}

/// Without empty segments and `.`, and with `..` followed (RFC 3986 section 5.2.4).
fn without_dots(path: &[u8]) -> Cow<'_, [u8]> {
    let is_special = |segment: &[u8]| matches!(segment, b"" | b"." | b"..");
    let mut segments = path.split(|byte| *byte == b'/').skip(1);
    let last = path.len() > 1 && path.ends_with(b"/");
    let inner = if last { &path[..path.len() - 1] } else { path };
    if path.len() <= 1 || !inner.split(|byte| *byte == b'/').skip(1).any(is_special) {
        return Cow::Borrowed(if path.is_empty() { b"/" } else { path });
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_directory = false;
    for segment in &mut segments {
        ends_in_directory = is_special(segment);
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut path = Vec::new();
    for segment in &kept {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if ends_in_directory || path.is_empty() {
        path.push(b'/');
    }
    Cow::Owned(path)
}

/// The pairs, each encoded in one way, by name and then by value.
fn query(out: &mut Vec<u8>, query: &[u8]) {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    let encoded = |part: &[u8]| {
        // A `+` is a space to whoever reads the query.
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        let mut out = Vec::with_capacity(part.len());
        encode(&mut out, &decoded(&spaced), b"");
        out
    };
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = query
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let mut part = || encoded(parts.next().unwrap_or_default());
            (part(), part())
        })
        .collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// Names in order, each with its values in theirs; returns the names.
fn headers(out: &mut Vec<u8>, headers: &[(Vec<u8>, &[u8])]) -> String {
    let mut sorted: Vec<&(Vec<u8>, &[u8])> = headers.iter().collect();
    // Stable: values of one name stay as they came.
    sorted.sort_by(|(name, _), (other, _)| name.cmp(other));
    let mut names = String::new();
    let mut last: Option<&[u8]> = None;
    for (name, value) in sorted {
        match last == Some(name) {
            true => {
                // The line break that the value before has ended with.
                out.pop();
                out.push(b',');
            }
            false => {
                out.extend_from_slice(name);
                out.push(b':');
                names.push_str(if names.is_empty() { "" } else { ";" });
                names.push_str(&String::from_utf8_lossy(name));
            }
        }
        trimmed(out, value);
        out.push(b'\n');
        last = Some(name);
    }
    names
}

/// Without space at its ends, and with one where there are more.
fn trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// Everything but letters, digits, `-._~` and what is `kept`.
fn encode(out: &mut Vec<u8>, bytes: &[u8], kept: &[u8]) {
    for byte in bytes {
        let is_kept = byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || kept.contains(byte);
        match is_kept {
            true => out.push(*byte),
            false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

/// A percent sign without two digits stands for itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        let escaped = match behind {
            [high, low, ..] if *byte == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &behind[2..];
            }
            None => out.push(*byte),
        }
    }
    out
}

/// The pair of Version 4A (NIST SP 800-108 in counter mode): the first number that comes out in the range of the curve.
fn pair(access_key_id: &str, secret_access_key: &str) -> Option<EcdsaKeyPair> {
    (1..=254).find_map(|counter| {
        let key = private_key(access_key_id, secret_access_key, counter)?;
        // RFC 5915, without the public half: that is made of it.
        let der = [&[0x30, 0x31, 2, 1, 1, 4, 32][..], &key, &[0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]];
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der.concat()).ok()
    })
}

fn private_key(access_key_id: &str, secret_access_key: &str, counter: u8) -> Option<[u8; 32]> {
    /// The order of the curve P-256, less 2.
    const LARGEST: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
    ];
    let secret = format!("AWS4A{secret_access_key}");
    let input =
        [&[0, 0, 0, 1], &b"AWS4-ECDSA-P256-SHA256"[..], &[0], access_key_id.as_bytes(), &[counter], &[0, 0, 1, 0]];
    let mut key: [u8; 32] = mac(secret.as_bytes(), &input.concat()).as_ref().try_into().ok()?;
    if key > LARGEST {
        return None;
    }
    // Plus one, from the last byte on.
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    Some(key)
}

fn mac(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The same of a body in pieces.
pub fn sha256_hex_of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    pieces.for_each(|piece| context.update(piece));
    hex(context.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a text takes what is written");
        out
    })
}

#[cfg(test)]
mod tests;
