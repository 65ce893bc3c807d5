//! What a key is called in memory and at the authority: the same name on every replica, and a short one.
//!
//! ```text
//! 00c5a1b2d3e4f506:KEY          the limiter's identity, and a key of up to 64 bytes as it is
//! 00c5a1b2d3e4f506#SHA-256      a longer one, in hex: no client makes a name long, or finds another's
//! 00c5a1b2d3e4f506*             the keys that there was no room for
//! ```

use aws_lc_rs::digest::{SHA256, digest};

/// A longer key is known by its hash.
const KEY_BYTES_MAX: usize = 64;

const IDENTITY_BYTES: usize = 16;

/// Replaces what `name` holds by the name of this key.
pub fn write(name: &mut Vec<u8>, identity: u64, key: &[u8]) {
    name.clear();
    hex(name, &identity.to_be_bytes());
    if key.len() <= KEY_BYTES_MAX {
        name.push(b':');
        name.extend_from_slice(key);
    } else {
        name.push(b'#');
        hex(name, digest(&SHA256, key).as_ref());
    }
}

/// Replaces the name of a key by that of its limiter's keys without room.
pub fn overflow(name: &mut Vec<u8>) {
    name.truncate(IDENTITY_BYTES);
    name.push(b'*');
}

fn hex(name: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    name.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(identity: u64, key: &[u8]) -> String {
        let mut name = b"what was there".to_vec();
        write(&mut name, identity, key);
        String::from_utf8_lossy(&name).into_owned()
    }

    #[test]
    fn names_are_short_and_no_two_keys_share_one() {
        assert_eq!(named(0xab, b"key"), "00000000000000ab:key");
        assert_eq!(named(0xab, b""), "00000000000000ab:");
        assert_eq!(named(1, &[b'a'; 64]), format!("0000000000000001:{}", "a".repeat(64)));
        let long = named(1, &[b'a'; 65]);
        assert_eq!(long, "0000000000000001#635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0");
        assert_ne!(named(1, &long.as_bytes()[17..]), long);
        let mut name = long.into_bytes();
        overflow(&mut name);
        assert_eq!(name, b"0000000000000001*");
    }
}
