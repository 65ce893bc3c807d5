//! Names of values: parts of any bytes and any length, joined so that no two lists of parts have one name.

use aws_lc_rs::digest;

/// Longer ones are told by their hash.
const BYTES_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The length of each part but the last stands ahead of it: `3:abc` and `rest`.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut joined = Vec::new();
        let (last, others) = parts.split_last().map_or((&[][..], parts), |(last, others)| (*last, others));
        for part in others {
            joined.extend_from_slice(part.len().to_string().as_bytes());
            joined.push(b':');
            joined.extend_from_slice(part);
        }
        joined.extend_from_slice(last);
        if joined.len() > BYTES_MAX || joined.starts_with(b"#") {
            // No other key begins so.
            let hash = digest::digest(&digest::SHA256, &joined);
            joined = [&b"#"[..], hash.as_ref()].concat();
        }
        Self(joined.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// One that was given by [`Key::as_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_parts_are_another_key() {
        let keys = [
            Key::of(&[]),
            Key::of(&[b"a"]),
            Key::of(&[b"a", b""]),
            Key::of(&[b"", b"a"]),
            Key::of(&[b"a", b"b"]),
            Key::of(&[b"ab", b""]),
            Key::of(&[b"a", b"b", b""]),
            Key::of(&[&[b'a'; 300]]),
            Key::of(&[&[b'a'; 301]]),
            Key::of(&[&[b'a'; 300], b""]),
        ];
        let different: std::collections::HashSet<&Key> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert!(keys.iter().all(|key| key.as_bytes().len() <= BYTES_MAX));
    }
}
