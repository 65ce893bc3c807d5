//! Keys of PEM under a passphrase, as OpenSSL wrote them before PKCS#8: a `DEK-Info` header with a cipher, and a key made of the
//! passphrase by MD5. It protects little, and is read since files have it.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::{Engine, engine::general_purpose::STANDARD};

/// Of the vector that the key is made with besides.
const SALT_BYTES: usize = 8;
/// Of a block of AES.
const VECTOR_BYTES: usize = 16;

/// The same key without a passphrase, as PEM.
///
/// # Errors
/// What is wrong, for people; never a byte of either.
pub fn opened(pem: &[u8], passphrase: &str) -> Result<Vec<u8>, &'static str> {
    let text = std::str::from_utf8(pem).map_err(|_| "not PEM")?;
    let (label, inside) = section(text).ok_or("a passphrase needs a key with a `DEK-Info` header")?;
    let (info, packed) = headers(&inside).ok_or("a passphrase needs a key with a `DEK-Info` header")?;
    let (cipher, vector) = info.split_once(',').ok_or("the `DEK-Info` header names no cipher and vector")?;
    let algorithm: &'static Algorithm = match cipher.trim() {
        "AES-128-CBC" => &AES_128,
        "AES-192-CBC" => &AES_192,
        "AES-256-CBC" => &AES_256,
        _ => {
            return Err(
                "the cipher of the key is not AES-128-CBC, AES-192-CBC or AES-256-CBC: `openssl pkey` writes it without",
            );
        }
    };
    let vector = hex(vector.trim()).ok_or("the vector of the `DEK-Info` header has 32 hexadecimal digits")?;
    let mut bytes = STANDARD.decode(packed).map_err(|_| "not PEM")?;
    let key = key_of(passphrase.as_bytes(), &vector[..SALT_BYTES], key_bytes(algorithm));
    let wrong = "the passphrase does not open the key";
    let key =
        UnboundCipherKey::new(algorithm, &key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7).map_err(|_| wrong)?;
    let context = DecryptionContext::Iv128(FixedLength::from(vector));
    let plain = key.decrypt(&mut bytes, context).map_err(|_| wrong)?;
    // A wrong passphrase now and then leaves something that is no key.
    if plain.first() != Some(&super::pem::SEQUENCE) {
        return Err(wrong);
    }
    Ok(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(plain)).into_bytes())
}

fn key_bytes(algorithm: &'static Algorithm) -> usize {
    match algorithm {
        _ if algorithm == &AES_128 => 16,
        _ if algorithm == &AES_192 => 24,
        _ => 32,
    }
}

/// The label of the first section that is a private key, and its lines.
fn section(text: &str) -> Option<(&str, Vec<&str>)> {
    let mut lines = text.lines().map(str::trim);
    let label = lines.by_ref().find_map(|line| {
        let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        label.ends_with("PRIVATE KEY").then_some(label)
    })?;
    Some((label, lines.take_while(|line| !line.starts_with("-----END ")).collect()))
}

/// The value of `DEK-Info`, and what follows the empty line.
fn headers<'t>(inside: &[&'t str]) -> Option<(&'t str, String)> {
    let end = inside.iter().position(|line| line.is_empty())?;
    let info = inside[..end].iter().find_map(|line| line.strip_prefix("DEK-Info:"))?;
    Some((info.trim(), inside[end..].concat()))
}

fn hex(text: &str) -> Option<[u8; VECTOR_BYTES]> {
    let mut bytes = [0; VECTOR_BYTES];
    if text.len() != 2 * VECTOR_BYTES || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// OpenSSL's `EVP_BytesToKey` with one round of MD5.
fn key_of(passphrase: &[u8], salt: &[u8], length: usize) -> Vec<u8> {
    let mut key = Vec::new();
    let mut last = Vec::new();
    while key.len() < length {
        last = md5(&[&last, passphrase, salt].concat()).to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    key
}

/// RFC 1321. Nothing else uses it: it is broken for everything but this.
fn md5(message: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let word = |at: usize| u32::from_le_bytes(block[4 * at..4 * at + 4].try_into().expect("four bytes"));
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mixed, at) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            let sine = ((step as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(sine).wrapping_add(word(at));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4]));
        }
        for (word, by) in state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(by);
        }
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEINHohJKsqpPvVxHPjctEqV6M0Rb6su9qud7dqjvfSD1voAoGCCqGSM49\nAwEHoUQDQgAEwU7JZyc/7QD2QYx9BXs1b9KM1y+L0JN3xfDsyGed1GVOpKGykeDG\nzE8CmpTa2ClnHPcu3UveOh2g5FaEntokmA==\n-----END EC PRIVATE KEY-----\n";
    const AES_128_CBC: &str = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,BE4A7E4E1E95700260E30BDD2D608B8E\n\nuqnqZhxbiYsJlFIs5LruM4C5STAsz+ebTjBq/Y/t/FmiSnWu/pAAFGTzTv4N4WL+\nY5sm15JL5sr5UScQoMMY9oopflzAQ9RoxLvhCIgPkM1rEt7t92TzoLCxSb2qiTr3\n1RByOnM4eBGYkTW3fs5Tn+UpSoVtNH1aEJyxNndeUKs=\n-----END EC PRIVATE KEY-----\n";
    const AES_192_CBC: &str = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-192-CBC,FBB62A9412BE3624D026B8D462DECB90\n\nKz7gWvzJysIp/MGsD1lDtCdd1j/h5/qUG/18NoB5feCi/0eZ1y95/fAc9EhG87L9\nfxoy3yMbD487nPxrExpeIj5OTThlnRMQgVp0w/yWXfz2MbgNOQPFSVJstx7sS6V1\nqjVTHJrDoK4TXM2z6ynRF0flfhGmbhniMgnNhFUGvsk=\n-----END EC PRIVATE KEY-----\n";
    const AES_256_CBC: &str = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,74B434036FD526D5BB7A0E0502D3FA95\n\n9ssLcHqRHBLNhER5POw87BexC87YkObRddbF+Hi35ieqmjXc4BfvxGebH/np5acx\ntcclfm1Vt8XotyklWalI24Q8zCno6/xy/+PuAPOXDRQFS/euCP/3hmLvigKoi6Wu\n+9+Mh458Lb71dfn15gCcjYLHRxtkIfbhagzRyLL/eCQ=\n-----END EC PRIVATE KEY-----\n";
    const DES: &str = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,8083F28E75614250\n\nvDUP4ckODscNxzMBOkQjvJcMulBnNB2u+v92OwSjk4zWI0Ab0sYj9xtUcchqhnb6\n8ezEdQ01J+xtILRKxP5oSFpOvkDk3emA2sCQYIPOIcb7gCI9kCr5duxVDq3PeBsp\nh2qEYNWsZHHHrfCnZUCZ/t6twid+7aZ9AUWRlZZZSl8=\n-----END EC PRIVATE KEY-----\n";

    #[test]
    fn md5_is_that_of_the_rfc() {
        let hex = |text: &str| md5(text.as_bytes()).map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        let digits = "1234567890".repeat(8);
        assert_eq!(hex(&digits), "57edf4a22be3c955ac49da2e2107b67a");
        // Around the length that leaves no room for the padding.
        assert_eq!(hex(&digits[..55]), "c9ccf168914a1bcfc3229f1948e67da0");
        assert_eq!(hex(&digits[..56]), "49f193adce178490e34d1b3a4ec0064c");
        assert_eq!(hex(&digits[..64]), "eb6c4179c0a7c82cc2828c1e6338e165");
    }

    #[test]
    fn keys_that_openssl_wrote_are_opened_by_their_passphrase() {
        let expected = super::super::pem::private_key(PLAIN.as_bytes()).expect("a key");
        for pem in [AES_128_CBC, AES_192_CBC, AES_256_CBC, &AES_256_CBC.replace('\n', "\r\n")] {
            let opened = opened(pem.as_bytes(), "open-sesame").expect("it opens");
            assert_eq!(super::super::pem::private_key(&opened).expect("a key"), expected, "{pem}");
        }
        for (pem, passphrase, why) in [
            (AES_128_CBC, "open-sesam", "the passphrase does not open the key"),
            (AES_256_CBC, "", "the passphrase does not open the key"),
            (DES, "open-sesame", "the cipher of the key is not AES-128-CBC"),
            (PLAIN, "open-sesame", "a passphrase needs a key with a `DEK-Info` header"),
            (&AES_256_CBC.replace("AES-256-CBC,", "AES-256-CBC,0"), "open-sesame", "the vector of the `DEK-Info`"),
            (&AES_256_CBC.replace("CBC,", "CBC"), "open-sesame", "the `DEK-Info` header names no cipher"),
            ("", "open-sesame", "a passphrase needs a key with a `DEK-Info` header"),
        ] {
            let refused = opened(pem.as_bytes(), passphrase).expect_err("refused");
            assert!(refused.starts_with(why), "{refused}");
        }
    }
}
