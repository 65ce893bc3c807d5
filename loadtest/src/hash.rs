//! A hash that is the same on every machine: FNV-1a, 64 bits, over parts that do not run together.

#[derive(Clone, Copy)]
pub struct Hash(u64);

impl Hash {
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub fn part(self, bytes: &[u8]) -> Self {
        let length = (bytes.len() as u64).to_be_bytes();
        let mixed = length.iter().chain(bytes);
        Self(mixed.fold(self.0, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)))
    }

    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Hash::new().part(b"ab").part(b"c").text(), Hash::new().part(b"a").part(b"bc").text());
        assert_eq!(Hash::new().part(b"a").text(), Hash::new().part(b"a").text());
    }
}
