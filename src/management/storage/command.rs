//! Commands as words, with the key that says which server of a Cluster has it.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use bytes::Bytes;
use redis::Cmd;

/// Of a Cluster.
pub const SLOTS: u16 = 16_384;

/// A program that a server runs; it keeps what it has seen by its hash.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: LazyLock<String>,
}

impl Script {
    /// `hash` is [`Script::hash_of`] the same text.
    pub const fn new(text: &'static str, hash: fn() -> String) -> Self {
        Self { text, hash: LazyLock::new(hash) }
    }

    pub fn hash_of(text: &str) -> String {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A script of `scripts/`, by its name.
macro_rules! script {
    ($name:literal) => {
        $crate::management::storage::command::Script::new(include_str!(concat!("scripts/", $name, ".lua")), || {
            $crate::management::storage::command::Script::hash_of(include_str!(concat!("scripts/", $name, ".lua")))
        })
    };
}
pub(super) use script;

/// A command with one key first, or a script with its keys.
#[derive(Clone, Debug)]
pub struct Command {
    words: Vec<Bytes>,
    script: Option<&'static Script>,
}

impl Command {
    pub fn new(name: &'static str, key: impl Into<Bytes>) -> Self {
        Self { words: vec![Bytes::from_static(name.as_bytes()), key.into()], script: None }
    }

    /// One that is of no key.
    pub fn alone(name: &'static str) -> Self {
        Self { words: vec![Bytes::from_static(name.as_bytes())], script: None }
    }

    /// By the hash of its text, until a server says that it does not know it.
    pub fn script(script: &'static Script, keys: impl IntoIterator<Item = Bytes>) -> Self {
        let mut words = vec![Bytes::from_static(b"EVALSHA"), Bytes::from_static(script.hash.as_bytes()), Bytes::new()];
        words.extend(keys);
        words[2] = (words.len() - 3).to_string().into();
        Self { words, script: Some(script) }
    }

    pub fn arg(mut self, word: impl Into<Bytes>) -> Self {
        self.words.push(word.into());
        self
    }

    pub fn number(self, number: impl ToString) -> Self {
        self.arg(number.to_string())
    }

    pub fn packed(&self) -> Cmd {
        packed(self.words.iter().map(AsRef::as_ref))
    }

    /// With its text in the place of the hash: the server knows it from then on.
    pub fn packed_with_text(&self) -> Cmd {
        let Some(script) = self.script else { return self.packed() };
        let words = self.words[2..].iter().map(AsRef::as_ref);
        packed([&b"EVAL"[..], script.text.as_bytes()].into_iter().chain(words))
    }

    pub fn slot(&self) -> u16 {
        let key = if self.script.is_some() { 3 } else { 1 };
        slot(self.words.get(key).map_or(&[], |key| key.as_ref()))
    }
}

fn packed<'w>(words: impl Iterator<Item = &'w [u8]>) -> Cmd {
    let mut packed = Cmd::new();
    for word in words {
        packed.arg(word);
    }
    packed
}

/// Of what is in the first braces, where there is something, else of the whole key; by the CRC-16 of XMODEM.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0).map(|close| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, same) in [("foo", "foo"), ("{user1000}.following", "user1000"), ("foo{}{bar}", "foo{}{bar}")] {
            assert_eq!(slot(key.as_bytes()), crc16(same.as_bytes()) % SLOTS, "{key}");
        }
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo"), 12182, "as `CLUSTER KEYSLOT foo` says");
    }

    #[test]
    fn a_script_goes_by_its_hash_or_with_its_text() {
        static SCRIPT: Script = Script::new("return 1", || Script::hash_of("return 1"));
        let command = Command::script(&SCRIPT, [Bytes::from_static(b"k")]).number(7);
        let hash = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let sent = |cmd: Cmd| String::from_utf8(cmd.get_packed_command()).expect("text").replace("\r\n", " ");
        assert_eq!(sent(command.packed()), format!("*5 $7 EVALSHA $40 {hash} $1 1 $1 k $1 7 "));
        assert_eq!(sent(command.packed_with_text()), "*5 $4 EVAL $8 return 1 $1 1 $1 k $1 7 ");
        assert_eq!(command.slot(), slot(b"k"));
    }
}
