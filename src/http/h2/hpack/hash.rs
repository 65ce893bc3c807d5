//! The hash by which the encoder finds names and fields again. Nothing rests on it: what it finds is compared.

pub fn hash(bytes: &[u8]) -> u32 {
    hash_on(0x9e37_79b9, bytes)
}

/// Eight bytes at a time; a peer that makes collisions only makes its own heads larger.
#[inline]
pub fn hash_on(seed: u32, bytes: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = mix(u64::from(seed), bytes.len() as u64);
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = mix(hash, u64::from_le_bytes(last));
    }
    (hash ^ hash >> 32) as u32
}
