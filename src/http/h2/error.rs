//! What can go wrong, in the words that go over the wire (RFC 9113 section 7) and in those of logs and metrics.

/// An error code of RST_STREAM and GOAWAY. Unknown ones of a peer are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Self = Self(0x0);
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    pub const INTERNAL_ERROR: Self = Self(0x2);
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    pub const STREAM_CLOSED: Self = Self(0x5);
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub const REFUSED_STREAM: Self = Self(0x7);
    pub const CANCEL: Self = Self(0x8);
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    pub const CONNECT_ERROR: Self = Self(0xa);
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The name that RFC 9113 gives it, for logs.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or("UNKNOWN")
    }
}

/// The end of a connection. The GOAWAY that says so is in the output already; send it and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({})", code.name())]
pub struct ConnectionError {
    pub code: Code,
    /// A short code for logs and metrics.
    pub reason: &'static str,
}

impl ConnectionError {
    /// The peer does not take what is sent. There is no way to say so.
    pub const STUCK: Self = Self::new(Code::NO_ERROR, "send_timeout");

    /// The peer has not answered a PING.
    pub const SILENT: Self = Self::new(Code::NO_ERROR, "ping_timeout");

    pub const fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub const fn protocol(reason: &'static str) -> Self {
        Self::new(Code::PROTOCOL_ERROR, reason)
    }

    /// The peer made more work than its budget allows, or used up a bound that an honest one never reaches.
    pub fn is_abuse(&self) -> bool {
        self.code == Code::ENHANCE_YOUR_CALM
    }
}

/// What a stream is reset for.
pub(super) type StreamFault = (Code, &'static str);

/// Why a request cannot be sent on this connection. Nothing of it was sent; another connection may take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the connection is closing")]
    GoingAway,
    #[error("the peer allows no more concurrent streams")]
    TooManyStreams,
    #[error("the stream identifiers are used up")]
    OutOfStreams,
    #[error("the peer does not know extended CONNECT")]
    NoExtendedConnect,
}
