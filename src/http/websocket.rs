//! The opening handshake of WebSocket, where one side speaks HTTP/1.1 and the other HTTP/2.
//!
//! HTTP/1.1 proves with a key and its hash that the server meant to switch (RFC 6455 section 4); in HTTP/2 the method and a
//! pseudo-field say so (RFC 8441 section 5).

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_STANDARD};

use super::head::Fields;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY: &[u8] = b"sec-websocket-key";

/// Gives a request of an HTTP/2 client the key that an HTTP/1.1 server wants. It only has to differ from others.
pub fn append_key(request: &mut Fields, random: u64) {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&random.to_le_bytes());
    nonce[8..].copy_from_slice(&random.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    request.set(KEY, BASE64_STANDARD.encode(nonce).as_bytes());
}

/// Gives the answer of an HTTP/2 server the hash that an HTTP/1.1 client waits for. One that sent no key waits for none.
pub fn append_accept(request: &Fields, response: &mut Fields) {
    if let Some(key) = request.get(KEY) {
        response.set(b"sec-websocket-accept", accept(key).as_bytes());
    }
}

fn accept(key: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    BASE64_STANDARD.encode(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        // RFC 6455 section 1.3.
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes() {
        let mut fields = Fields::default();
        append_key(&mut fields, 7);
        let key = BASE64_STANDARD.decode(fields.get(KEY).expect("it was added")).expect("it is base64");
        assert_eq!(key.len(), 16);
    }
}
