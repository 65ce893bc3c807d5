//! HTTP/1 messages as a case sees them: strict, small, and sharing no code with the gateway.

/// A head as it came.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// The head at the beginning of `bytes` and its length, once it is complete.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let mut lines = split_lines(&bytes[..end]);
        let start = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let mut head = Self { start, fields: Vec::new() };
        for line in lines {
            head.fields.push(field(line)?);
        }
        Ok(Some((head, end + 4)))
    }

    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
    }

    /// The framing of a request's body.
    pub fn request_framing(&self) -> Framing {
        self.declared().unwrap_or(Framing::None)
    }

    /// The framing of a response's body.
    pub fn response_framing(&self, to_head: bool) -> Framing {
        match self.status() {
            Some(100..=199 | 204 | 304) => Framing::None,
            _ if to_head => Framing::None,
            _ => self.declared().unwrap_or(Framing::UntilClose),
        }
    }

    fn declared(&self) -> Option<Framing> {
        if !values(&self.fields, "transfer-encoding").is_empty() {
            return Some(Framing::Chunked);
        }
        let length = values(&self.fields, "content-length").first().copied()?;
        std::str::from_utf8(length).ok()?.parse().ok().map(Framing::Length)
    }
}

/// Every value of a name, in any case.
pub fn values<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice()).collect()
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let colon =
        line.iter().position(|&b| b == b':').ok_or_else(|| format!("a field without colon: {:?}", lossy(line)))?;
    Ok((lossy(&line[..colon]), line[colon + 1..].trim_ascii().to_vec()))
}

fn split_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match find(bytes, b"\r\n") {
            Some(end) => {
                rest = Some(&bytes[end + 2..]);
                Some(&bytes[..end])
            }
            None => rest.take(),
        }
    })
}

/// Decodes a chunked body as its bytes come.
#[derive(Debug, Default)]
pub struct Chunks {
    state: ChunkState,
    pub trailers: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Default)]
enum ChunkState {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

impl Chunks {
    /// Takes what it can from the front of `bytes`; true once the body has ended.
    pub fn take(&mut self, bytes: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, String> {
        let mut at = 0;
        let done = loop {
            let rest = &bytes[at..];
            match self.state {
                ChunkState::Done => break true,
                ChunkState::Data(left) => {
                    let len = (left.min(rest.len() as u64)) as usize;
                    body.extend_from_slice(&rest[..len]);
                    at += len;
                    if (len as u64) < left {
                        self.state = ChunkState::Data(left - len as u64);
                        break false;
                    }
                    self.state = ChunkState::DataEnd;
                }
                _ => {
                    let Some(end) = find(rest, b"\r\n") else { break false };
                    let line = &rest[..end];
                    at += end + 2;
                    self.line(line)?;
                }
            }
        };
        bytes.drain(..at);
        Ok(done)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        self.state = match self.state {
            ChunkState::Size => {
                let digits = lossy(line.split(|&b| b == b';').next().unwrap_or_default());
                let size = u64::from_str_radix(&digits, 16).map_err(|_| format!("a chunk size {:?}", lossy(line)))?;
                if size == 0 { ChunkState::Trailers } else { ChunkState::Data(size) }
            }
            ChunkState::DataEnd if line.is_empty() => ChunkState::Size,
            ChunkState::DataEnd => return Err(format!("{:?} after a chunk's data", lossy(line))),
            _ if line.is_empty() => ChunkState::Done,
            _ => {
                self.trailers.push(field(line)?);
                ChunkState::Trailers
            }
        };
        Ok(())
    }
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
