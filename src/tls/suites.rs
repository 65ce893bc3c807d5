//! Versions and cipher suites by the names that files use.

use rustls::{CipherSuite, SupportedCipherSuite, crypto::CryptoProvider};

/// Always offered with TLS 1.3, and not configurable (RFC 8446 section 9.1).
const OF_13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    Tls12,
    Tls13,
}

/// What a name of a cipher suite stands for.
pub enum Named {
    /// Of TLS 1.2.
    Suite(SupportedCipherSuite),
    /// Of TLS 1.3, where it is on anyway.
    Always,
    /// None that is safe to offer.
    Unsupported,
}

pub fn named(name: &str) -> Named {
    let name = name.trim();
    if OF_13.contains(&name) {
        return Named::Always;
    }
    let all = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES.iter();
    let suite = all.copied().find(|suite| suite.tls13().is_none() && suite.suite().as_str() == Some(name));
    suite.map_or(Named::Unsupported, Named::Suite)
}

/// The library's provider with these suites of TLS 1.2 and all of 1.3. `None`: its own six of TLS 1.2.
///
/// Towards upstreams the order is ours: AES-128 goes first, which costs 10 rounds where AES-256 costs 14. Clients have theirs
/// followed, in ciphers and in key exchange: one without AES in hardware is better served by ChaCha20. Where an operator has
/// listed ciphers, that is the order.
pub fn provider(of_12: Option<&[SupportedCipherSuite]>) -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_first = |suite: &SupportedCipherSuite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| !is_first(suite));
    if let Some(chosen) = of_12 {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend_from_slice(chosen);
    }
    provider
}

/// The library's names for the versions from `min` to `max`.
pub fn versions(min: Version, max: Version) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let all = [(Version::Tls13, &rustls::version::TLS13), (Version::Tls12, &rustls::version::TLS12)];
    all.into_iter().filter(|(version, _)| (min..=max).contains(version)).map(|(_, supported)| supported).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_defaults_are_known_and_the_weak_are_not() {
        for name in [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ] {
            assert!(matches!(named(name), Named::Suite(_)), "{name}");
        }
        assert!(matches!(named("TLS_AES_128_GCM_SHA256"), Named::Always));
        for name in ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "TLS13_AES_128_GCM_SHA256", ""] {
            assert!(matches!(named(name), Named::Unsupported), "{name}");
        }
        assert_eq!(provider(None).cipher_suites.len(), 9);
        assert_eq!(provider(Some(&[])).cipher_suites.len(), 3);
        assert_eq!(provider(None).cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}
