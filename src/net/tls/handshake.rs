//! A handshake, to its end or to the alert that says why there is none.
//!
//! Our last flight goes with the first answer where a request came along with the peer's, one send instead of two; and at
//! once where not: Nagle's algorithm keeps the request back until the peer's flight is acknowledged, which the kernel puts
//! off by 40 ms while we have nothing to send. Where there is no such flight, the kernel is told not to.

use std::{future::poll_fn, io};

use rustls::{
    AlertDescription, CertificateError, CipherSuite, Error, HandshakeKind, ProtocolVersion, pki_types::CertificateDer,
};

use super::session::{RECORD_HEADER, Session, Side, Step};
use crate::net::{
    buffer::{Buffer, SMALL_ROOM},
    calls::Next,
    reactor::{Fd, Pending, Sending},
};

/// What both sides agreed on.
#[derive(Clone, Debug)]
pub struct Facts {
    pub version: &'static str,
    pub cipher: &'static str,
    pub alpn: Option<Vec<u8>>,
    /// An earlier session went on.
    pub resumed: bool,
}

impl Facts {
    /// They agreed on HTTP/2 (RFC 9113 section 3.2).
    pub fn speaks_http2(&self) -> bool {
        self.alpn.as_deref() == Some(b"h2")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// A client that fell back to an older version though we both speak a newer one: somebody is in the way (RFC 7507).
    #[error("an inappropriate fallback")]
    Fallback,
    /// The first bytes are no TLS record. They are still there to be read.
    #[error("not TLS")]
    NotTls,
    #[error("the peer left")]
    Closed,
    #[error("{0}")]
    Io(io::Error),
    #[error("{0}")]
    Tls(Error),
}

/// Why a peer's certificate, or ours, was not taken; as far as one can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody we trust vouches for it.
    Untrusted,
    Expired,
    NotYetValid,
    WrongName,
    /// It is not made for this side of a connection.
    WrongPurpose,
    /// Its key is too short, or its signature not safe.
    Weak,
    /// The peer does not take ours, or wants one.
    Refused,
    /// No version, cipher or protocol in common.
    Incompatible,
    Other,
}

impl Failure {
    /// The reason code of the log, the metrics and the documentation.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Untrusted => "upstream_tls_untrusted",
            Self::Expired => "upstream_tls_expired",
            Self::NotYetValid => "upstream_tls_not_valid_yet",
            Self::WrongName => "upstream_tls_wrong_name",
            Self::WrongPurpose => "upstream_tls_wrong_purpose",
            Self::Weak => "upstream_tls_weak",
            Self::Refused => "upstream_tls_refused",
            Self::Incompatible => "upstream_tls_incompatible",
            Self::Other => "upstream_tls_failed",
        }
    }
}

impl HandshakeError {
    /// What a receive failed with, where a server refuses us behind its own end of the handshake: since TLS 1.3 that is when
    /// it looks at our certificate.
    pub fn late(error: &io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref()? {
            alert @ Error::AlertReceived(_) => Some(Self::Tls(alert.clone())),
            _ => None,
        }
    }

    pub fn failure(&self) -> Failure {
        match self.label() {
            "certificate_expired" => Failure::Expired,
            "certificate_wrong_name" => Failure::WrongName,
            "certificate_wrong_purpose" => Failure::WrongPurpose,
            "certificate_weak" => Failure::Weak,
            "certificate_not_valid_yet" => Failure::NotYetValid,
            "certificate_unknown_issuer" | "certificate_invalid" => Failure::Untrusted,
            "certificate_refused_by_peer" => Failure::Refused,
            "incompatible" | "no_application_protocol" => Failure::Incompatible,
            _ => match self {
                Self::Tls(Error::AlertReceived(
                    AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
                )) => Failure::Incompatible,
                _ => Failure::Other,
            },
        }
    }

    /// A metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Fallback => "inappropriate_fallback",
            Self::Closed => "closed",
            Self::Io(_) => "io",
            Self::Tls(error) => match error {
                Error::NoCertificatesPresented => "no_client_certificate",
                Error::InvalidCertificate(error) => match error {
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                        "certificate_not_valid_yet"
                    }
                    CertificateError::UnknownIssuer => "certificate_unknown_issuer",
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        "certificate_wrong_name"
                    }
                    CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                        "certificate_wrong_purpose"
                    }
                    // What our verifier has nothing better for; the library itself never says it.
                    CertificateError::ApplicationVerificationFailure => "certificate_weak",
                    _ => "certificate_invalid",
                },
                Error::PeerIncompatible(_) => "incompatible",
                Error::NoApplicationProtocol => "no_application_protocol",
                Error::AlertReceived(alert) => match alert {
                    AlertDescription::UnknownCA
                    | AlertDescription::BadCertificate
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::CertificateRequired
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::AccessDenied => "certificate_refused_by_peer",
                    _ => "alert",
                },
                _ => "malformed",
            },
        }
    }
}

/// A connection that is through.
pub(in crate::net) struct Established {
    pub session: std::rc::Rc<Session>,
    /// Data that came with the end of the handshake.
    pub plain: Buffer,
    pub facts: Facts,
    /// The peer's certificate, where it showed one.
    pub peer: Option<CertificateDer<'static>>,
}

const HANDSHAKE_RECORD: u8 = 22;
/// A fatal alert, before there are keys.
const INAPPROPRIATE_FALLBACK: [u8; 7] = [21, 3, 3, 0, 2, 2, 86];

/// Shakes hands on `fd`. `received`: what has been read of it already. `after_step` runs after every step of the library, and
/// is told the version once it is known; `Err`: the handshake is not to go on.
pub(in crate::net) async fn handshake(
    fd: &std::rc::Rc<Fd>,
    receiving: &mut Pending,
    received: &mut Buffer,
    mut side: Side,
    mut after_step: impl FnMut(Option<ProtocolVersion>) -> Result<(), HandshakeError>,
) -> Result<Established, HandshakeError> {
    let mut plain = Buffer::none();
    let mut out = Vec::new();
    let mut peer_closed = false;
    let server = matches!(side, Side::Server(_));
    if server {
        while received.is_empty() {
            receive(receiving, received).await?;
        }
        if received.bytes()[0] != HANDSHAKE_RECORD {
            return Err(HandshakeError::NotTls);
        }
    }
    loop {
        let (discard, step) = side.step(received.bytes_mut(), &mut plain, &mut out);
        if discard > 0 {
            received.consume(discard);
        }
        if let Err(refusal) = after_step(side.common().protocol_version()) {
            // In place of our first flight, so it is read as it is.
            let _ = send(fd, &mut INAPPROPRIATE_FALLBACK.to_vec()).await;
            return Err(refusal);
        }
        match step {
            Err(error) => {
                side.last_words(received, &mut out);
                // Why it failed matters more than whether the peer heard it.
                let _ = send(fd, &mut out).await;
                return Err(HandshakeError::Tls(error));
            }
            Ok(Step::Again) => {}
            Ok(Step::PeerClosed) if side.common().is_handshaking() => return Err(HandshakeError::Closed),
            Ok(Step::PeerClosed) => {
                peer_closed = true;
                break;
            }
            Ok(Step::Open) => break,
            Ok(Step::Blocked) => {
                send(fd, &mut out).await?;
                if received.len() > HANDSHAKE_BYTES_MAX {
                    return Err(HandshakeError::Tls(Error::General("a flight is too long".into())));
                }
                receive(receiving, received).await?;
            }
        }
    }
    let common = side.common();
    let version = common.protocol_version();
    if server && plain.is_empty() && out.is_empty() {
        fd.acknowledge_now();
    } else if server && (plain.is_empty() || version == Some(ProtocolVersion::TLSv1_2)) {
        // Tickets; in TLS 1.2 our Finished, for which the client waits, unless its own was the last.
        send(fd, &mut out).await?;
    }
    let common = side.common();
    let facts = Facts {
        version: match version {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        },
        cipher: common.negotiated_cipher_suite().map_or("", |suite| registered_name(suite.suite())),
        alpn: common.alpn_protocol().map(<[u8]>::to_vec),
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    let peer = common.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    let session = Session::new(fd.clone(), side, std::mem::take(received), out, peer_closed);
    Ok(Established { session, plain, facts, peer })
}

/// As in the registry of IANA, from which the library's names of TLS 1.3 differ.
fn registered_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        of_12 => of_12.as_str().unwrap_or_default(),
    }
}

/// What may be received and not understood yet: the library's own limit for a message is 64 KiB.
const HANDSHAKE_BYTES_MAX: usize = 80 * 1024 + RECORD_HEADER;

async fn receive(receiving: &mut Pending, received: &mut Buffer) -> Result<(), HandshakeError> {
    match poll_fn(|context| receiving.poll_receive(received, SMALL_ROOM, context)).await {
        Ok(0) => Err(HandshakeError::Closed),
        Ok(_) => Ok(()),
        Err(error) => Err(HandshakeError::Io(error)),
    }
}

async fn send(fd: &std::rc::Rc<Fd>, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
    if out.is_empty() {
        return Ok(());
    }
    let mut buffer = Buffer::with_room(out.len());
    buffer.extend(out);
    out.clear();
    let mut sending = Sending::new(fd.clone(), buffer, Next::Anything);
    poll_fn(|context| sending.poll(context)).await.0.map_err(HandshakeError::Io)
}
