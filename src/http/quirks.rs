//! Where an upstream's answer strays from the grammar and is read all the same.
//!
//! Each of these has one reading that nobody disputes, and none of them reaches a client: what goes on is written anew. They
//! are counted, so that one can see which software has them. Requests have none: docs/decisions/0001-own-head-parser.md.

/// One way to stray. The names are labels of a metric, and stand in docs/operations/metrics.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Quirk {
    /// A line of the head that ends with LF alone.
    BareLf,
    /// A chunk extension that breaks the grammar, or has white space in it.
    ChunkExtension,
    /// White space behind a chunk's size.
    ChunkSizeSpace,
    /// More leading zeros of a chunk's size than 64 bits have digits.
    ChunkSizeZeros,
    /// An option of `Connection` that is no token; it is ignored.
    ConnectionOption,
    /// The same `Content-Length` several times, in lines or in a list.
    ContentLengthRepeated,
    /// `Content_Length` or `Transfer_Encoding`; it is dropped.
    FramingLookalike,
    /// `Transfer-Encoding: chunked` in HTTP/1.0 (RFC 9112 section 6.1: the connection is closed behind it).
    Http10Chunked,
    /// HTTP/1.2 to HTTP/1.9 (RFC 9110 section 2.5).
    MinorVersion,
    /// A field's value that goes on in the next line (RFC 9112 section 5.2).
    ObsoleteFold,
    /// White space between a field's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// 600 to 999.
    StatusAbove599,
    /// Several spaces between version and status.
    StatusLineSpaces,
}

impl Quirk {
    pub const ALL: [Self; 13] = [
        Self::BareLf,
        Self::ChunkExtension,
        Self::ChunkSizeSpace,
        Self::ChunkSizeZeros,
        Self::ConnectionOption,
        Self::ContentLengthRepeated,
        Self::FramingLookalike,
        Self::Http10Chunked,
        Self::MinorVersion,
        Self::ObsoleteFold,
        Self::SpaceBeforeColon,
        Self::StatusAbove599,
        Self::StatusLineSpaces,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkSizeSpace => "chunk_size_space",
            Self::ChunkSizeZeros => "chunk_size_zeros",
            Self::ConnectionOption => "connection_option",
            Self::ContentLengthRepeated => "content_length_repeated",
            Self::FramingLookalike => "framing_lookalike",
            Self::Http10Chunked => "http10_chunked",
            Self::MinorVersion => "minor_version",
            Self::ObsoleteFold => "obsolete_fold",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::StatusAbove599 => "status_above_599",
            Self::StatusLineSpaces => "status_line_spaces",
        }
    }
}

/// The quirks of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks(u16);

impl Quirks {
    pub fn add(&mut self, quirk: Quirk) {
        self.0 |= 1 << quirk as u16;
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.into_iter().filter(move |quirk| self.0 & 1 << *quirk as u16 != 0)
    }
}
