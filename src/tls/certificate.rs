//! Certificates with their keys, and which of them a client is shown.
//!
//! All certificates of a port are one table: by the names in them, literal or with `*` for one label; the first where none
//! matches, since a client that names nobody expects somebody all the same.

use std::{borrow::Cow, cell::Cell, collections::HashMap, sync::Arc};

use rustls::{
    CipherSuite,
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
    public_key::{PublicKey, RSAPublicKey},
};

use super::{identity::address, pem};

/// Shorter RSA keys are refused.
const RSA_BITS_MIN: usize = 2048;
/// Listed among its ciphers by a client that tries an older version again (RFC 7507).
const FALLBACK_SCSV: CipherSuite = CipherSuite::Unknown(0x5600);
/// Certificates of one chain.
const CHAIN_MAX: usize = 16;

/// A chain with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub key: Arc<CertifiedKey>,
    /// From the leaf's subjectAltName, in lower case: names, `*.` names and addresses.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_after: i64,
    /// For people.
    pub subject: String,
    /// Which certificate of the chain, counted from 1, does not name the one behind it as its issuer.
    pub break_in_chain: Option<usize>,
}

/// Which part of what was written is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Certificate,
    Key,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub part: Part,
    pub text: String,
}

impl Certificate {
    /// From PEM: the leaf, then whoever vouches for it; and the leaf's key.
    pub fn from_pem(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Self, Fault> {
        let of_certificate = |text: &str| Fault { part: Part::Certificate, text: text.to_owned() };
        let of_key = |text: &str| Fault { part: Part::Key, text: text.to_owned() };
        let chain = pem::certificates(chain, CHAIN_MAX).map_err(|text| of_certificate(&text))?;
        let leaf = chain.first().ok_or_else(|| of_certificate("no certificate in it"))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| of_certificate("not an X.509 certificate"))?;
        if let Some(bits) = weak_rsa(&parsed) {
            return Err(of_certificate(&format!("an RSA key of {bits} bits; at least {RSA_BITS_MIN} are needed")));
        }
        let break_in_chain = break_in_chain(&chain);
        let names = names(&parsed);
        let (not_after, subject) = (parsed.validity().not_after.timestamp(), parsed.subject().to_string());
        let key = pem::private_key(key).map_err(of_key)?;
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(|_| of_key("a key of a kind that cannot be used"))?;
        // Compared here: the library does not read certificates of version 1.
        if key.public_key().is_some_and(|public| public.as_ref() != parsed.public_key().raw) {
            return Err(of_key("the key does not belong to the certificate"));
        }
        let key = CertifiedKey::new(chain, key);
        Ok(Self { key: Arc::new(key), names, not_after, subject, break_in_chain })
    }

    /// Whether it speaks for this host.
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => wildcard == Some(parent),
            None => name == host,
        })
    }
}

/// The bits of its RSA key, where they are too few.
pub(super) fn weak_rsa(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => Some(rsa_bits(&rsa)).filter(|bits| *bits < RSA_BITS_MIN),
        _ => None,
    }
}

/// How long the modulus is, without the zeros ahead of it.
pub fn rsa_bits(key: &RSAPublicKey<'_>) -> usize {
    let digits = key.modulus.iter().skip_while(|&&byte| byte == 0);
    let ahead = digits.clone().next().map_or(0, |first| first.leading_zeros());
    digits.count() * 8 - ahead as usize
}

fn break_in_chain(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let parsed: Vec<_> = chain.iter().map_while(|one| Some(X509Certificate::from_der(one).ok()?.1)).collect();
    parsed.windows(2).position(|pair| pair[0].issuer() != pair[1].subject()).map(|at| at + 1)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(spelt(name).into_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

/// A name as hosts of requests are spelt: in lower case, without a dot at its end.
fn spelt(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
}

/// All certificates of one port; never empty.
#[derive(Debug)]
pub struct Table {
    certificates: Vec<Certificate>,
    /// By name, without the `*` of a wildcard.
    literal: HashMap<String, usize>,
    wildcard: HashMap<String, usize>,
}

/// Which certificate a client was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub certificate: usize,
    /// It named a host that the certificate speaks for.
    pub by_name: bool,
    /// It says that it tried a newer version before (RFC 7507).
    pub is_fallback: bool,
}

thread_local! {
    static SHOWN: Cell<Option<Shown>> = const { Cell::new(None) };
}

impl Table {
    /// Of two certificates with one name the first has it.
    pub fn new(certificates: Vec<Certificate>) -> Self {
        let (mut literal, mut wildcard) = (HashMap::new(), HashMap::new());
        for (index, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_insert(index),
                    None => literal.entry(name.clone()).or_insert(index),
                };
            }
        }
        Self { certificates, literal, wildcard }
    }

    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// What the library chose on this thread since it was last asked. A step of a handshake is not interrupted, so whoever
    /// asks directly behind it learns of its own.
    pub fn take_shown() -> Option<Shown> {
        SHOWN.take()
    }

    /// The certificate of a host in its one spelling.
    pub fn of_host(&self, host: &str) -> Option<usize> {
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        self.literal.get(host).or_else(wildcard).copied()
    }

    /// What a client is shown that names a host in its hello, or none.
    pub fn shown_to(&self, name: Option<&str>) -> Shown {
        let named = name.and_then(|name| self.of_host(&spelt(name)));
        Shown { certificate: named.unwrap_or_default(), by_name: named.is_some(), is_fallback: false }
    }

    /// Whether a client that was shown one certificate may ask for this host. It may not where the host is another
    /// certificate's, or where it named a host of this one and asks for a stranger's (RFC 9110 section 15.5.20). With one
    /// certificate there is nothing to confuse.
    pub fn may_ask(&self, shown: Shown, host: &str) -> bool {
        self.certificates.len() < 2
            || self.certificates[shown.certificate].covers(host)
            || !shown.by_name && self.of_host(host).is_none()
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_fallback = hello.cipher_suites().contains(&FALLBACK_SCSV);
        let shown = Shown { is_fallback, ..self.shown_to(hello.server_name()) };
        SHOWN.set(Some(shown));
        self.certificates.get(shown.certificate).map(|certificate| certificate.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn too_many_certificates_are_an_error_and_never_left_out() {
        let key = KeyPair::generate().expect("a key");
        let pem =
            CertificateParams::new(["a.test".into()]).and_then(|params| params.self_signed(&key)).expect("one").pem();
        let many = pem.repeat(17);
        assert_eq!(pem::certificates(many.as_bytes(), 17).expect("not too many").len(), 17);
        assert_eq!(pem::certificates(many.as_bytes(), 16).expect_err("too many"), "more than 16 certificates");
    }
}
