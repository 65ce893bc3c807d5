//! Hashes that are the same on every replica and in every run: FNV-1a, with no random key.

/// 64 bits over texts, each closed off from the next.
pub struct Stable(u64);

impl Default for Stable {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Stable {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn text(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.byte(byte);
        }
        // No UTF-8 text holds this byte, so two texts are never one.
        self.byte(0xff);
        self
    }

    pub fn number(self, number: u64) -> Self {
        self.text(&number.to_string())
    }

    pub fn finish(self) -> u64 {
        self.0
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_never_changes_and_texts_do_not_run_together() {
        assert_eq!(Stable::new().text("a").finish(), 0x089b_c907_b544_c769);
        assert_ne!(Stable::new().text("ab").text("c").finish(), Stable::new().text("a").text("bc").finish());
    }
}
