//! A message head: one buffer, a list of name and value ranges, and the edits made to it.
//!
//! There is no allocation per header: names and values, the peer's and ours alike, lie in one growing buffer that is reused
//! for the next message. Well-known names are recognised once, while parsing.

use std::{fmt, ops::Range};

use super::quirks::Quirks;

/// Names the gateway itself asks for. Everything else is `Other` and found by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    Other,
    Authorization,
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    /// A framing field's name with `_` for `-`: CGI and its heirs read `Content_Length` as `Content-Length`.
    Lookalike,
    ProxyAuthenticate,
    ProxyAuthenticationInfo,
    ProxyAuthorization,
    ProxyConnection,
    Server,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XForwardedClientCert,
    XForwardedFor,
    XForwardedHost,
    /// `x-forwarded-` with another ending.
    XForwardedOther,
    XForwardedPort,
    XForwardedProto,
    XRequestId,
    /// One of the `x-` names above with another sign for `-`, such as `X_Forwarded_For`.
    XLookalike,
}

impl Known {
    /// Recognises a token in any case.
    pub fn of(name: &[u8]) -> Self {
        // Length first: most names leave here without a comparison.
        match name.len() {
            2 if begins(name, b"te") => Self::Te,
            4 if begins(name, b"host") => Self::Host,
            4 if begins(name, b"date") => Self::Date,
            6 if begins(name, b"expect") => Self::Expect,
            6 if begins(name, b"server") => Self::Server,
            7 if begins(name, b"upgrade") => Self::Upgrade,
            7 if begins(name, b"trailer") => Self::Trailer,
            9 if begins(name, b"forwarded") => Self::Forwarded,
            10 if begins(name, b"connection") => Self::Connection,
            10 if begins(name, b"keep-alive") => Self::KeepAlive,
            12 if begins(name, b"x-request-id") => Self::XRequestId,
            13 if begins(name, b"authorization") => Self::Authorization,
            14 if begins(name, b"content-length") => Self::ContentLength,
            14 if begins(name, b"http2-settings") => Self::Http2Settings,
            15 if begins(name, b"x-forwarded-for") => Self::XForwardedFor,
            16 if begins(name, b"proxy-connection") => Self::ProxyConnection,
            16 if begins(name, b"x-forwarded-host") => Self::XForwardedHost,
            16 if begins(name, b"x-forwarded-port") => Self::XForwardedPort,
            17 if begins(name, b"transfer-encoding") => Self::TransferEncoding,
            17 if begins(name, b"x-forwarded-proto") => Self::XForwardedProto,
            18 if begins(name, b"proxy-authenticate") => Self::ProxyAuthenticate,
            19 if begins(name, b"proxy-authorization") => Self::ProxyAuthorization,
            23 if begins(name, b"x-forwarded-client-cert") => Self::XForwardedClientCert,
            25 if begins(name, b"proxy-authentication-info") => Self::ProxyAuthenticationInfo,
            14 | 17 if is_lookalike(name) => Self::Lookalike,
            23 if looks_like(name, b"x-forwarded-client-cert") => Self::XLookalike,
            13.. if begins(name, b"x-forwarded-") => Self::XForwardedOther,
            12.. if says_who_otherwise(name) => Self::XLookalike,
            _ => Self::Other,
        }
    }
}

/// Whether a token begins, in any case, with these letters, digits and `-`. Setting one bit makes a letter lower-case, and
/// makes no other byte of a token one of these.
#[inline]
pub(in crate::http) fn begins<const N: usize>(token: &[u8], lower: &[u8; N]) -> bool {
    let Some(beginning) = token.first_chunk::<N>() else { return false };
    // Word by word: of arrays of odd lengths the compiler makes loops over bytes. The last word may overlap the one before it.
    if let (Some(last), Some(lower_last)) = (beginning.last_chunk::<8>(), lower.last_chunk::<8>()) {
        let is_same = |(word, lower): (&[u8; 8], &[u8; 8])| {
            u64::from_ne_bytes(*word) | u64::from_ne_bytes([0x20; 8]) == u64::from_ne_bytes(*lower)
        };
        let words = beginning.as_chunks().0.iter().zip(lower.as_chunks().0);
        return words.chain([(last, lower_last)]).all(is_same);
    }
    if let (Some(last), Some(lower_last)) = (beginning.last_chunk::<4>(), lower.last_chunk::<4>()) {
        let is_same = |(word, lower): (&[u8; 4], &[u8; 4])| {
            u32::from_ne_bytes(*word) | u32::from_ne_bytes([0x20; 4]) == u32::from_ne_bytes(*lower)
        };
        let words = beginning.as_chunks().0.iter().zip(lower.as_chunks().0);
        return words.chain([(last, lower_last)]).all(is_same);
    }
    beginning.iter().zip(lower).all(|(byte, lower)| byte | 0x20 == *lower)
}

fn is_lookalike(name: &[u8]) -> bool {
    let is_written = |sign: u8| matches!(sign, b'-' | b'_');
    match name.len() {
        14 => is_written(name[7]) && looks_like(name, b"content-length"),
        17 => is_written(name[8]) && looks_like(name, b"transfer-encoding"),
        _ => false,
    }
}

/// Whether an upstream may read the token as a name that says who the client is, though it is not written so.
fn says_who_otherwise(name: &[u8]) -> bool {
    match name {
        [b'x' | b'X', _, b'f' | b'F', ..] => looks_like(name, b"x-forwarded-"),
        [b'x' | b'X', _, b'r' | b'R', ..] => name.len() == 12 && looks_like(name, b"x-request-id"),
        _ => false,
    }
}

/// Whether a token begins with these letters, in any case, with whatever sign for each `-`: CGI and its heirs have `_` there, and
/// some make that of every sign.
fn looks_like(token: &[u8], lower: &[u8]) -> bool {
    let same = |(&wanted, &byte): (&u8, &u8)| match wanted {
        b'-' => !byte.is_ascii_alphanumeric(),
        _ => wanted == byte.to_ascii_lowercase(),
    };
    token.len() >= lower.len() && lower.iter().zip(token).all(same)
}

/// Some of the known names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u32);

impl KnownSet {
    pub const fn of(names: &[Known]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            bits |= 1 << names[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    pub const fn has(self, known: Known) -> bool {
        self.0 & 1 << known as u32 != 0
    }

    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether they have a name in common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn add(&mut self, known: Known) {
        self.0 |= 1 << known as u32;
    }
}

/// One field line: where its name and value lie in the head's buffer.
#[derive(Clone, Copy, Debug)]
struct Field {
    name_at: u32,
    value_at: u32,
    value_len: u32,
    name_len: u16,
    known: Known,
}

/// A borrowed field line.
#[derive(Clone, Copy)]
pub struct FieldRef<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    pub known: Known,
}

/// The field lines of a head or of trailers, in order.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    list: Vec<Field>,
    names: KnownSet,
}

impl Fields {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.names = KnownSet::default();
    }

    /// Becomes what the other is, in the memory that is here.
    pub fn copy_from(&mut self, other: &Self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&other.bytes);
        self.list.clear();
        self.list.extend_from_slice(&other.list);
        self.names = other.names;
    }

    /// The known names that were added, those that are gone again among them: most that are asked for never were there.
    pub fn names(&self) -> KnownSet {
        self.names
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes over the bytes that the ranges given to [`Fields::push_parsed`] point into.
    pub(in crate::http) fn load(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a field line whose name and value lie in bytes that are still to be loaded, as the first ones; for parsers, which
    /// have checked both.
    pub(in crate::http) fn push_parsed(&mut self, known: Known, name: Range<usize>, value: Range<usize>) {
        self.push(Field {
            name_at: name.start as u32,
            name_len: name.len() as u16,
            value_at: value.start as u32,
            value_len: value.len() as u32,
            known,
        });
    }

    /// Where a decoder writes the name and the value of a line, one behind the other, before it decides about them.
    pub(in crate::http) fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What was written from `start` on is a line. Both its parts have been checked.
    pub(in crate::http) fn push_written(&mut self, start: usize, name_len: usize, value_len: usize, known: Known) {
        let (name_at, value_at) = (start as u32, (start + name_len) as u32);
        self.push(Field { name_at, value_at, value_len: value_len as u32, name_len: name_len as u16, known });
    }

    /// Makes one line of all lines of a name, where the first one stood.
    pub(in crate::http) fn join(&mut self, name: &[u8], separator: &[u8]) {
        let joined_at = self.bytes.len();
        let mut first = None;
        for index in 0..self.list.len() {
            let field = self.list[index];
            if name_of(&self.bytes, &field) != name {
                continue;
            }
            match first {
                None => first = Some(index),
                Some(_) => self.bytes.extend_from_slice(separator),
            }
            let value_at = field.value_at as usize;
            self.bytes.extend_from_within(value_at..value_at + field.value_len as usize);
        }
        let Some(first) = first else { return };
        self.list[first].value_at = joined_at as u32;
        self.list[first].value_len = (self.bytes.len() - joined_at) as u32;
        let bytes = &self.bytes;
        let mut index = 0;
        self.list.retain(|field| {
            index += 1;
            index - 1 <= first || name_of(bytes, field) != name
        });
    }

    /// The memory it holds for the next message.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.list.capacity() * size_of::<Field>()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = FieldRef<'_>> {
        self.list.iter().map(|field| self.field(field))
    }

    /// The first value of a name, in any case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Every value of a name, in any case, in order.
    pub fn values<'a, 'n>(&'a self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.known_values(known).next()
    }

    pub fn known_values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let list = if self.names.has(known) { &self.list[..] } else { &[] };
        list.iter().filter(move |field| field.known == known).map(|field| self.field(field).value)
    }

    /// Adds a line behind the others, whatever is there already.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        let name_at = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.push_parsed(Known::of(name), name_at..value_at, value_at..self.bytes.len());
    }

    /// Makes the name have this one value: the first line of it changes in place, the others go.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let Some(at) = self.list.iter().position(|field| self.field(field).name.eq_ignore_ascii_case(name)) else {
            return self.append(name, value);
        };
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.list[at].value_at = value_at as u32;
        self.list[at].value_len = value.len() as u32;
        let bytes = &self.bytes;
        let mut index = 0;
        self.list.retain(|field| {
            index += 1;
            index - 1 <= at || !name_of(bytes, field).eq_ignore_ascii_case(name)
        });
    }

    /// As [`Fields::set`], for a name that is known: nothing is compared.
    pub fn set_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        if !self.names.has(known) {
            return self.append_known(known, name, value);
        }
        let Some(at) = self.list.iter().position(|field| field.known == known) else {
            return self.append_known(known, name, value);
        };
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.list[at].value_at = value_at as u32;
        self.list[at].value_len = value.len() as u32;
        let mut index = 0;
        self.list.retain(|field| {
            index += 1;
            index - 1 <= at || field.known != known
        });
    }

    /// As [`Fields::append`], for a name that is known.
    pub fn append_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        debug_assert_eq!(Known::of(name), known);
        let name_at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        let value_at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        let (name_len, value_len) = (name.len() as u16, value.len() as u32);
        self.push(Field { name_at, value_at, value_len, name_len, known });
    }

    /// As [`Fields::append`], with the name in lower case, as HTTP/2 wants it (RFC 9113 section 8.2).
    pub fn append_lower_case(&mut self, name: &[u8], value: &[u8]) {
        let name_at = self.bytes.len();
        self.append(name, value);
        self.bytes[name_at..][..name.len()].make_ascii_lowercase();
    }

    pub fn remove(&mut self, name: &[u8]) {
        self.retain(|field| !field.name.eq_ignore_ascii_case(name));
    }

    pub fn remove_known(&mut self, known: Known) {
        if self.names.has(known) {
            self.list.retain(|field| field.known != known);
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(FieldRef<'_>) -> bool) {
        let bytes = &self.bytes;
        self.list.retain(|field| keep(field_of(bytes, field)));
    }

    fn push(&mut self, field: Field) {
        self.names.add(field.known);
        self.list.push(field);
    }

    fn field<'a>(&'a self, field: &Field) -> FieldRef<'a> {
        field_of(&self.bytes, field)
    }
}

fn name_of<'a>(bytes: &'a [u8], field: &Field) -> &'a [u8] {
    &bytes[field.name_at as usize..][..field.name_len as usize]
}

fn field_of<'a>(bytes: &'a [u8], field: &Field) -> FieldRef<'a> {
    let value = &bytes[field.value_at as usize..][..field.value_len as usize];
    FieldRef { name: name_of(bytes, field), value, known: field.known }
}

/// The same lines in the same order.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        let lines = |fields| Fields::iter(fields).map(|field| (field.name, field.value));
        lines(self).eq(lines(other))
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|field| (text(field.name), text(field.value)))).finish()
    }
}

/// The protocol version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// How long a message's body is, as its head says (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    #[default]
    None,
    /// `Content-Length`, more than 0.
    Length(u64),
    /// Of unknown length, until its own framing ends it: chunked in HTTP/1, END_STREAM in HTTP/2.
    Chunked,
    /// A response that ends with its connection.
    UntilClose,
}

/// A request head, of either protocol.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub method: Vec<u8>,
    /// The path of the target as sent (origin form, or the path of an absolute form): starts with `/`, or is `*`.
    /// Empty for CONNECT.
    pub path: Vec<u8>,
    /// The path has no escape and no byte that is to be escaped; false also where nobody has looked.
    pub path_is_plain: bool,
    /// The query with its `?`, untouched; empty where the target had none.
    pub query: Vec<u8>,
    /// `Host`, or the authority of an absolute-form or CONNECT target. Empty only for HTTP/1.0 without `Host`.
    pub authority: Vec<u8>,
    /// The authority is in its one spelling; false also where nobody has looked.
    pub authority_is_plain: bool,
    pub version: Version,
    pub fields: Fields,
    pub body: BodyLength,
    /// `Content-Length` as sent: of 0 where there is no body, or where HTTP/2 has not ended the message yet.
    pub content_length: Option<u64>,
    /// The client will reuse the connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// `Expect: 100-continue` on a request with a body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// `TE: trailers`: the client understands them (RFC 9110 section 10.1.4); set when the field is taken away.
    pub takes_trailers: bool,
    /// `Connection: upgrade` with `Upgrade: websocket`, GET, HTTP/1.1, no body.
    pub websocket: bool,
}

/// A response head, of either protocol.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    pub version: Version,
    pub fields: Fields,
    pub body: BodyLength,
    /// The upstream will reuse the connection.
    pub keep_alive: bool,
    /// `Content-Length` as sent, also where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// Where it strays from the grammar.
    pub quirks: Quirks,
    /// Why it is the gateway's own answer, by its reason code; `None`: it is an upstream's.
    pub own: Option<&'static str>,
}

impl RequestHead {
    pub fn clear(&mut self) {
        self.method.clear();
        self.path.clear();
        self.path_is_plain = false;
        self.query.clear();
        self.authority.clear();
        self.authority_is_plain = false;
        self.fields.clear();
        self.version = Version::Http11;
        self.body = BodyLength::None;
        self.content_length = None;
        self.keep_alive = false;
        self.expects_continue = false;
        self.takes_trailers = false;
        self.websocket = false;
    }
}

impl ResponseHead {
    pub fn clear(&mut self) {
        self.fields.clear();
        self.status = 0;
        self.version = Version::Http11;
        self.body = BodyLength::None;
        self.keep_alive = false;
        self.content_length = None;
        self.quirks = Quirks::default();
        self.own = None;
    }
}
