//! Whether a peer's certificate is taken: by rustls' own checker of paths (webpki), and by us in three cases that it refuses
//! by design and that OpenSSL's commands write every day.
//!
//! These are: the very certificate that is trusted, byte for byte, whatever its basic constraints say; a certificate of
//! version 1; and one that is marked as an authority's and shown by a peer. None of them is excused from anything else:
//! validity, key, purpose, name, and the signature of the handshake count as everywhere. On the other hand the checker takes
//! whatever is trusted for an authority that never ends. Here a trusted certificate vouches for others only while it is valid
//! and where it says that it may. `docs/decisions/0003-certificates.md` has the table.

use std::{cell::Cell, fmt, sync::Arc, time::Instant};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, RawPublicKeyEntity};
use x509_parser::{
    asn1_rs::{Any, Sequence},
    prelude::{FromDer, X509Certificate, X509Version},
};

use super::{certificate::weak_rsa, identity};

/// Certificates above the leaf in a chain that we follow ourselves.
const DEPTH_MAX: usize = 6;
/// Signatures that are checked for one chain that we follow ourselves: each costs a peer nothing to ask for.
const SIGNATURES_MAX: usize = 16;
/// Refusals that one thread tells at once, and how many more each second: peers can make as many as they like.
const TOLD_AT_ONCE: f64 = 128.0;
const TOLD_PER_SECOND: f64 = 1.0;
/// Characters of a subject in the log.
const SUBJECT_MAX: usize = 256;

/// What a peer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("it is not understood as an X.509 certificate")]
    Malformed,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("nobody that is trusted vouches for it")]
    UnknownIssuer,
    #[error("it is self-signed and not one that is trusted")]
    SelfSigned,
    #[error("whom it comes from has expired, or is not valid yet")]
    IssuerNotValid,
    #[error(
        "whom it comes from may not vouch for it: basicConstraints, keyUsage or a limit of the issuer's forbids it"
    )]
    IssuerMayNot,
    #[error("it has no subjectAltName with this name")]
    WrongName,
    #[error("its extendedKeyUsage or keyUsage does not allow this use")]
    WrongPurpose,
    #[error("its key, or an issuer's, is too short: RSA needs 2048 bits")]
    WeakKey,
    #[error("it is signed with an algorithm that is not safe, such as SHA-1, or not known")]
    WeakSignature,
    #[error("its signature is wrong")]
    BadSignature,
    #[error("it has a critical extension that is not known")]
    CriticalExtension,
}

impl Reason {
    /// As the library has it, which picks the alert by it.
    fn error(self) -> CertificateError {
        match self {
            Self::Malformed => CertificateError::BadEncoding,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::UnknownIssuer | Self::SelfSigned | Self::IssuerNotValid | Self::IssuerMayNot => {
                CertificateError::UnknownIssuer
            }
            Self::WrongName => CertificateError::NotValidForName,
            Self::WrongPurpose => CertificateError::InvalidPurpose,
            Self::WeakKey | Self::WeakSignature => CertificateError::ApplicationVerificationFailure,
            Self::BadSignature => CertificateError::BadSignature,
            Self::CriticalExtension => CertificateError::UnhandledCriticalExtension,
        }
    }

    fn of(error: &webpki::Error) -> Self {
        use webpki::Error;
        #[allow(deprecated, reason = "the checker still returns some of them")]
        match error {
            Error::CertExpired { .. } | Error::InvalidCertValidity => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::CertNotValidForName(_) => Self::WrongName,
            Error::RequiredEkuNotFound | Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                Self::WrongPurpose
            }
            Error::UnsupportedSignatureAlgorithm
            | Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKey
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::WeakSignature,
            Error::InvalidSignatureForPublicKey => Self::BadSignature,
            Error::UnsupportedCriticalExtension => Self::CriticalExtension,
            Error::EndEntityUsedAsCa | Error::PathLenConstraintViolated | Error::NameConstraintViolation => {
                Self::IssuerMayNot
            }
            Error::BadDer | Error::BadDerTime | Error::TrailingData(_) | Error::MalformedExtensions => Self::Malformed,
            _ => Self::UnknownIssuer,
        }
    }
}

/// Everybody that is trusted.
pub struct Anchors {
    all: Vec<Anchor>,
    /// Of those that may vouch for others, as the checker wants them.
    vouching: Vec<TrustAnchor<'static>>,
}

/// One certificate that is trusted.
struct Anchor {
    der: CertificateDer<'static>,
    trust: TrustAnchor<'static>,
    /// The subject, as a whole.
    subject: Vec<u8>,
    /// The key, as a whole.
    key: SubjectPublicKeyInfoDer<'static>,
    /// It may vouch for others.
    vouches: bool,
    /// For clients, for servers.
    purposes: [bool; 2],
    validity: (i64, i64),
    /// How many authorities may stand between it and a peer.
    path_len: Option<u32>,
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Anchors({} trusted)", self.all.len())
    }
}

impl Anchors {
    /// # Errors
    /// Which of them, counted from 1, is no certificate.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, usize> {
        let mut all: Vec<Anchor> = Vec::new();
        for (at, der) in certificates.into_iter().enumerate() {
            if all.iter().any(|known| known.der == der) {
                continue;
            }
            all.push(Anchor::of(der).ok_or(at + 1)?);
        }
        Ok(Self::of(all))
    }

    /// Those of a system, of which some may be too old to be understood.
    pub fn of_system(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self::of(certificates.into_iter().filter_map(Anchor::of).collect())
    }

    fn of(all: Vec<Anchor>) -> Self {
        let vouching = all.iter().filter(|anchor| anchor.vouches).map(|anchor| anchor.trust.clone()).collect();
        Self { all, vouching }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The subjects of those that have expired by then, for people.
    pub fn expired(&self, now: i64) -> Vec<String> {
        let expired = self.all.iter().filter(|anchor| anchor.validity.1 < now);
        expired.map(|anchor| identity::Identity::of(&anchor.der).subject).collect()
    }

    fn subjects(&self) -> Vec<DistinguishedName> {
        self.all.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.trust.subject)).collect()
    }

    /// Whether a peer with this chain is who it must be, but for its name.
    fn judge(
        &self,
        role: Role,
        leaf_der: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Reason> {
        let seconds = now.as_secs() as i64;
        let leaf = parsed(leaf_der).ok_or(Reason::Malformed)?;
        in_time(validity(&leaf), seconds)?;
        if weak_rsa(&leaf).is_some() {
            return Err(Reason::WeakKey);
        }
        if has_unknown_critical(&leaf) {
            return Err(Reason::CriticalExtension);
        }
        if !purposes(&leaf)[role as usize] || !may_shake_hands(&leaf, role) {
            return Err(Reason::WrongPurpose);
        }
        if self.all.iter().any(|anchor| anchor.der == *leaf_der) {
            // Nobody else's word is needed; but what SHA-1 has signed has had a twin (RFC 9155).
            return known_signature(leaf_der, provider);
        }
        if leaf.version() == X509Version::V3 && !leaf.is_ca() {
            return self.check_path(role, leaf_der, sent, now, provider);
        }
        if leaf.issuer().as_raw() == leaf.subject().as_raw() {
            return Err(Reason::SelfSigned);
        }
        self.follow(role, &leaf, sent, seconds, provider)
    }

    /// By the checker of paths, and with our say on every path that it finds.
    fn check_path(
        &self,
        role: Role,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Reason> {
        let end_entity = EndEntityCert::try_from(leaf).map_err(|error| Reason::of(&error))?;
        let objection = Cell::new(None);
        let say = |path: &webpki::VerifiedPath<'_>| {
            let between: Vec<_> = path.intermediate_certificates().map(webpki::Cert::der).collect();
            let of_path = self.all.iter().filter(|anchor| anchor.vouches && anchor.trust == *path.anchor());
            let verdict = of_path
                .map(|anchor| anchor.lets(role, &between, now.as_secs() as i64))
                .reduce(Result::or)
                .unwrap_or(Err(Reason::UnknownIssuer));
            verdict.map_err(|reason| {
                objection.set(Some(reason));
                webpki::Error::UnknownIssuer
            })
        };
        let usage = match role {
            Role::Client => webpki::KeyUsage::client_auth(),
            Role::Server => webpki::KeyUsage::server_auth(),
        };
        let algorithms = provider.signature_verification_algorithms.all;
        let found = end_entity.verify_for_usage(algorithms, &self.vouching, sent, now, usage, None, Some(&say));
        let error = match found {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        Err(objection.get().unwrap_or_else(|| self.explained(Reason::of(&error), leaf, sent)))
    }

    /// The checker says little of issuers that it could not use, and nothing of those that it was not shown.
    fn explained(&self, reason: Reason, leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> Reason {
        let Some(leaf) = parsed(leaf) else { return reason };
        let issuer = leaf.issuer().as_raw();
        let is_weak = |der: &CertificateDer<'_>| {
            parsed(der).is_some_and(|issuing| issuing.subject().as_raw() == issuer && weak_rsa(&issuing).is_some())
        };
        match reason {
            Reason::UnknownIssuer | Reason::BadSignature | Reason::WeakSignature
                if self.all.iter().map(|anchor| &anchor.der).chain(sent).any(is_weak) =>
            {
                Reason::WeakKey
            }
            Reason::UnknownIssuer if self.all.iter().any(|anchor| anchor.subject == issuer && !anchor.vouches) => {
                Reason::IssuerMayNot
            }
            Reason::UnknownIssuer if issuer == leaf.subject().as_raw() => Reason::SelfSigned,
            _ => reason,
        }
    }

    /// The path of a leaf that the checker does not look at, from issuer to issuer. It is narrower: an authority between
    /// that limits names ends it, and of two that could be next the first is taken.
    fn follow(
        &self,
        role: Role,
        leaf: &X509Certificate<'_>,
        sent: &[CertificateDer<'_>],
        now: i64,
        provider: &CryptoProvider,
    ) -> Result<(), Reason> {
        let sent: Vec<_> = sent.iter().take(DEPTH_MAX).collect();
        let parsed_sent: Vec<_> = sent.iter().filter_map(|der| Some((*der, parsed(der)?))).collect();
        let mut signatures = SIGNATURES_MAX;
        let mut signed = |by: &SubjectPublicKeyInfoDer<'_>, what: &X509Certificate<'_>| {
            signatures = signatures.checked_sub(1).ok_or(Reason::UnknownIssuer)?;
            check_signature(by, what, provider)
        };
        let mut between: Vec<CertificateDer<'_>> = Vec::new();
        let mut current = leaf;
        loop {
            let mut why = Reason::UnknownIssuer;
            for anchor in self.all.iter().filter(|anchor| anchor.subject == current.issuer().as_raw()) {
                let verdict = match anchor.vouches {
                    true => signed(&anchor.key, current).and_then(|()| anchor.lets(role, &between, now)),
                    false => Err(Reason::IssuerMayNot),
                };
                match verdict {
                    Ok(()) if anchor.trust.name_constraints.is_some() => why = Reason::IssuerMayNot,
                    Ok(()) => return Ok(()),
                    Err(reason) => why = reason,
                }
            }
            let next = parsed_sent.iter().find(|(der, issuing)| {
                issuing.subject().as_raw() == current.issuer().as_raw() && !between.contains(der)
            });
            let Some((der, issuing)) = next else { return Err(why) };
            if between.len() == DEPTH_MAX {
                return Err(Reason::UnknownIssuer);
            }
            in_time(validity(issuing), now).map_err(|_| Reason::IssuerNotValid)?;
            let limits_names = !matches!(issuing.name_constraints(), Ok(None));
            if !may_vouch(issuing) || issuing.version() != X509Version::V3 || limits_names {
                return Err(Reason::IssuerMayNot);
            }
            if !purposes(issuing)[role as usize] || path_len(issuing).is_some_and(|most| between.len() > most as usize)
            {
                return Err(Reason::IssuerMayNot);
            }
            signed(&SubjectPublicKeyInfoDer::from(issuing.public_key().raw), current)?;
            between.push((*der).clone());
            current = issuing;
        }
    }
}

impl Anchor {
    fn of(der: CertificateDer<'static>) -> Option<Self> {
        let trust = webpki::anchor_from_trusted_cert(&der).ok()?.to_owned();
        let certificate = parsed(&der)?;
        let (subject, key) = (certificate.subject().as_raw().to_vec(), certificate.public_key().raw.to_vec().into());
        let vouches = may_vouch(&certificate);
        let (purposes, validity, path_len) = (purposes(&certificate), validity(&certificate), path_len(&certificate));
        Some(Self { trust, subject, key, vouches, purposes, validity, path_len, der })
    }

    /// Whether a peer may be vouched for by it over these authorities, whose signatures are in order.
    fn lets(&self, role: Role, between: &[CertificateDer<'_>], now: i64) -> Result<(), Reason> {
        in_time(self.validity, now).map_err(|_| Reason::IssuerNotValid)?;
        let mut counted = 0;
        for der in between {
            let issuing = parsed(der).ok_or(Reason::Malformed)?;
            if weak_rsa(&issuing).is_some() {
                return Err(Reason::WeakKey);
            }
            if !may_vouch(&issuing) {
                return Err(Reason::IssuerMayNot);
            }
            // One that has renewed itself is no step (RFC 5280 section 4.2.1.9).
            counted += u32::from(issuing.subject().as_raw() != issuing.issuer().as_raw());
        }
        match self.purposes[role as usize] && self.path_len.is_none_or(|most| counted <= most) {
            true => Ok(()),
            false => Err(Reason::IssuerMayNot),
        }
    }
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

fn validity(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

fn in_time((from, until): (i64, i64), now: i64) -> Result<(), Reason> {
    match (now < from, now > until) {
        (true, _) => Err(Reason::NotYetValid),
        (_, true) => Err(Reason::Expired),
        _ => Ok(()),
    }
}

/// Whether it may vouch for others. One of version 1 cannot say so, and is believed where it is its own issuer, as roots of
/// that time are.
fn may_vouch(certificate: &X509Certificate<'_>) -> bool {
    if weak_rsa(certificate).is_some() || has_unknown_critical(certificate) {
        return false;
    }
    if certificate.version() == X509Version::V1 {
        return certificate.issuer().as_raw() == certificate.subject().as_raw();
    }
    let signs = match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    signs && matches!(certificate.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca)
}

fn path_len(certificate: &X509Certificate<'_>) -> Option<u32> {
    certificate.basic_constraints().ok().flatten()?.value.path_len_constraint
}

/// Whether it may be used for clients, for servers: where it names no purpose, for both. `anyExtendedKeyUsage` alone is
/// neither, as OpenSSL and webpki have it.
fn purposes(certificate: &X509Certificate<'_>) -> [bool; 2] {
    match certificate.extended_key_usage() {
        Ok(None) => [true, true],
        Ok(Some(usage)) => [usage.value.client_auth, usage.value.server_auth],
        Err(_) => [false, false],
    }
}

/// What `keyUsage` must allow, as OpenSSL has it.
fn may_shake_hands(certificate: &X509Certificate<'_>, role: Role) -> bool {
    match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => {
            let usage = usage.value;
            usage.digital_signature() || usage.key_agreement() || role == Role::Server && usage.key_encipherment()
        }
        Err(_) => false,
    }
}

/// Critical means: who does not know it must refuse the certificate (RFC 5280 section 4.2).
fn has_unknown_critical(certificate: &X509Certificate<'_>) -> bool {
    const KNOWN: [&str; 5] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.37"];
    let mut critical = certificate.extensions().iter().filter(|extension| extension.critical);
    critical.any(|extension| !KNOWN.contains(&extension.oid.to_id_string().as_str()))
}

/// What stands between the certificate proper and the signature: the algorithm, without its frame.
fn signature_algorithm(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, whole) = Sequence::from_der(certificate).ok()?;
    let (rest, _) = Any::from_der(&whole.content).ok()?;
    let (_, algorithm) = Sequence::from_der(rest).ok()?;
    Some(algorithm.content.to_vec())
}

fn known_signature(certificate: &[u8], provider: &CryptoProvider) -> Result<(), Reason> {
    let algorithm = signature_algorithm(certificate).ok_or(Reason::Malformed)?;
    let known = provider.signature_verification_algorithms.all;
    match known.iter().any(|known| known.signature_alg_id().as_ref() == algorithm) {
        true => Ok(()),
        false => Err(Reason::WeakSignature),
    }
}

fn check_signature(
    by: &SubjectPublicKeyInfoDer<'_>,
    certificate: &X509Certificate<'_>,
    provider: &CryptoProvider,
) -> Result<(), Reason> {
    let algorithm = signature_algorithm(certificate.as_raw()).ok_or(Reason::Malformed)?;
    let key = RawPublicKeyEntity::try_from(by).map_err(|_| Reason::Malformed)?;
    let known = provider.signature_verification_algorithms.all.iter();
    let mut reason = Reason::WeakSignature;
    for algorithm in known.filter(|known| known.signature_alg_id().as_ref() == algorithm) {
        let signed: &[u8] = certificate.tbs_certificate.as_ref();
        match key.verify_signature(*algorithm, signed, &certificate.signature_value.data) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::InvalidSignatureForPublicKey) => reason = Reason::BadSignature,
            Err(_) => {}
        }
    }
    Err(reason)
}

/// Judges the peers of one context.
#[derive(Debug)]
pub struct Verifier {
    anchors: Arc<Anchors>,
    provider: Arc<CryptoProvider>,
    /// Of clients: there is no handshake without a certificate.
    mandatory: bool,
    hints: Vec<DistinguishedName>,
}

impl Verifier {
    pub fn of_clients(anchors: Arc<Anchors>, mandatory: bool, provider: Arc<CryptoProvider>) -> Self {
        let hints = anchors.subjects();
        Self { anchors, provider, mandatory, hints }
    }

    pub fn of_servers(anchors: Arc<Anchors>, provider: Arc<CryptoProvider>) -> Self {
        Self { anchors, provider, mandatory: true, hints: Vec::new() }
    }

    /// The peer has the key of its certificate. The library does not read certificates of version 1, so the key is handed
    /// to it bare.
    fn check_handshake(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        is_13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let leaf = parsed(certificate).ok_or(CertificateError::BadEncoding)?;
        if leaf.version() == X509Version::V3 {
            return match is_13 {
                true => verify_tls13_signature(message, certificate, signed, algorithms),
                false => verify_tls12_signature(message, certificate, signed, algorithms),
            };
        }
        let key = SubjectPublicKeyInfoDer::from(leaf.public_key().raw);
        if is_13 {
            return verify_tls13_signature_with_raw_key(message, &key, signed, algorithms);
        }
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let offered = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let mut candidates = offered.iter().flat_map(|(_, candidates)| candidates.iter());
        match candidates.any(|candidate| key.verify_signature(*candidate, message, signed.signature()).is_ok()) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let named = || match EndEntityCert::try_from(leaf) {
            Ok(leaf) => leaf.verify_is_valid_for_subject_name(name).map_err(|error| Reason::of(&error)),
            // It has no extensions, so no names.
            Err(webpki::Error::UnsupportedCertVersion) => Err(Reason::WrongName),
            Err(error) => Err(Reason::of(&error)),
        };
        let verdict = self.anchors.judge(Role::Server, leaf, sent, now, &self.provider).and_then(|()| named());
        verdict.map(|()| ServerCertVerified::assertion()).map_err(|reason| {
            tell(&format!("upstream {}", name.to_str()), leaf, reason);
            reason.error().into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_handshake(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_handshake(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.anchors.judge(Role::Client, leaf, sent, now, &self.provider);
        verdict.map(|()| ClientCertVerified::assertion()).map_err(|reason| {
            tell("a client", leaf, reason);
            reason.error().into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_handshake(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_handshake(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Says which certificate was refused and why; where there are too many, not of each.
fn tell(whose: &str, certificate: &CertificateDer<'_>, reason: Reason) {
    if may_tell() {
        tracing::warn!("the certificate of {whose} is refused: {reason}; {}", described(certificate));
    }
}

fn may_tell() -> bool {
    thread_local! {
        static LEFT: Cell<Option<(f64, Instant)>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    let (left, since) = LEFT.get().unwrap_or((TOLD_AT_ONCE, now));
    let left = (left + TOLD_PER_SECOND * now.duration_since(since).as_secs_f64()).min(TOLD_AT_ONCE);
    let may = left >= 1.0;
    LEFT.set(Some((if may { left - 1.0 } else { left }, now)));
    may
}

/// `subject "CN=a", issuer "CN=a", serial 01:02, SHA-256 <hexadecimal>`
fn described(certificate: &CertificateDer<'_>) -> String {
    let fingerprint = identity::fingerprint(certificate);
    let Some(certificate) = parsed(certificate) else { return format!("SHA-256 {fingerprint}") };
    let name = |name| {
        let text: String = identity::distinguished(name).chars().take(SUBJECT_MAX).collect();
        let mut out = String::new();
        identity::quoted(&mut out, &text);
        out
    };
    let (subject, issuer) = (name(certificate.subject()), name(certificate.issuer()));
    let serial: Vec<_> = certificate.raw_serial().iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    format!("subject {subject}, issuer {issuer}, serial {}, SHA-256 {fingerprint}", serial.join(":"))
}

#[cfg(test)]
mod tests;
