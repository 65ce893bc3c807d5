//! Keys of session tickets: shared by all cores, and where a file says so by all replicas.
//!
//! A ticket opens only for the context that sealed it, since the context's identity is authenticated with it: a session
//! that one listener made, under its demands on clients, is none at another (nginx CVE-2025-23419). The lock is the one
//! that cores share; a handshake holds it for as long as it takes to copy a pointer.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;

/// Name and AES-256 key.
pub const KEY_BYTES: usize = NAME_LEN + 32;
const NAME_LEN: usize = 16;
/// Keys of a file: the first seals, all open.
pub const KEYS_MAX: usize = 16;
/// Keys of our own making are used for so long, and accepted as long again.
const ROTATION: Duration = Duration::from_secs(6 * 3600);

struct Key {
    name: [u8; NAME_LEN],
    key: RandomizedNonceKey,
}

/// The first seals, all open.
type Ring = Arc<[Arc<Key>]>;

enum Keys {
    /// Of a file.
    Fixed(Ring),
    /// Of our own making; until when the first seals.
    Rotating(RwLock<(Ring, Instant)>),
}

pub struct TicketKeys(Keys);

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl TicketKeys {
    /// Keys of our own, which no other process has.
    pub fn random() -> Arc<Self> {
        let ring = [Arc::new(Key::random())].into();
        Arc::new(Self(Keys::Rotating(RwLock::new((ring, Instant::now() + ROTATION)))))
    }

    /// The keys that a file holds, one behind the other. Tickets of before are accepted as long as their keys are among
    /// them.
    ///
    /// # Errors
    /// What is wrong with the file; never a byte of it.
    pub fn from_file(bytes: &[u8]) -> Result<Arc<Self>, String> {
        let count = bytes.len() / KEY_BYTES;
        if !bytes.len().is_multiple_of(KEY_BYTES) || !(1..=KEYS_MAX).contains(&count) {
            let len = bytes.len();
            return Err(format!("{len} bytes: expected 1 to {KEYS_MAX} keys of {KEY_BYTES} bytes each"));
        }
        let ring: Ring = bytes.chunks_exact(KEY_BYTES).map(|bytes| Arc::new(Key::of(bytes))).collect();
        for (at, key) in ring.iter().enumerate() {
            if let Some(first) = ring[..at].iter().position(|other| other.name == key.name) {
                return Err(format!(
                    "keys {} and {} have the same name, their first {NAME_LEN} bytes",
                    first + 1,
                    at + 1
                ));
            }
        }
        Ok(Arc::new(Self(Keys::Fixed(ring))))
    }

    fn ring(&self) -> Ring {
        let rotating = match &self.0 {
            Keys::Fixed(ring) => return ring.clone(),
            Keys::Rotating(rotating) => rotating,
        };
        let keys = rotating.read().expect("no holder panics");
        if Instant::now() < keys.1 {
            return keys.0.clone();
        }
        drop(keys);
        let mut keys = rotating.write().expect("no holder panics");
        let (ring, until) = &mut *keys;
        if Instant::now() >= *until {
            let before = ring.first().cloned();
            *ring = std::iter::once(Arc::new(Key::random())).chain(before).collect();
            *until = Instant::now() + ROTATION;
        }
        ring.clone()
    }
}

impl Key {
    fn random() -> Self {
        let mut bytes = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
        Self::of(&bytes)
    }

    fn of(bytes: &[u8]) -> Self {
        let (name, key) = bytes.split_at(NAME_LEN);
        Self {
            name: name.try_into().expect("split there"),
            key: RandomizedNonceKey::new(&AES_256_GCM, key).expect("a key of this length is one"),
        }
    }
}

/// Tickets of one context:
///
/// ```text
/// name of the key (16) | nonce (12) | sealed session | tag (16)
/// ```
#[derive(Debug)]
pub struct Ticketer {
    pub keys: Arc<TicketKeys>,
    /// Whose tickets these are.
    pub context: u64,
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        2 * ROTATION.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ring = self.keys.ring();
        let key = ring.first()?;
        let mut sealed = plain.to_vec();
        let nonce = key.key.seal_in_place_append_tag(Aad::from(self.context.to_be_bytes()), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let ring = self.keys.ring();
        let key = ring.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let aad = Aad::from(self.context.to_be_bytes());
        let len = key.key.open_in_place(nonce, aad, &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticketer(keys: &Arc<TicketKeys>, context: u64) -> Ticketer {
        Ticketer { keys: keys.clone(), context }
    }

    #[test]
    fn a_ticket_opens_for_its_context_only() {
        let keys = TicketKeys::random();
        let ticket = ticketer(&keys, 1).encrypt(b"session").expect("sealed");
        assert_eq!(ticketer(&keys, 1).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(ticketer(&keys, 2).decrypt(&ticket), None);
        assert_eq!(ticketer(&TicketKeys::random(), 1).decrypt(&ticket), None);
        for len in 0..ticket.len() {
            assert_eq!(ticketer(&keys, 1).decrypt(&ticket[..len]), None);
        }
        let mut forged = ticket.clone();
        *forged.last_mut().expect("not empty") ^= 1;
        assert_eq!(ticketer(&keys, 1).decrypt(&forged), None);
    }

    #[test]
    fn replicas_with_one_file_open_each_others_tickets_also_after_a_rotation() {
        let (old, new) = ([1; KEY_BYTES], [2; KEY_BYTES]);
        let one = TicketKeys::from_file(&old).expect("a key");
        let other = TicketKeys::from_file(&[new, old].concat()).expect("two keys");
        let ticket = ticketer(&one, 7).encrypt(b"x").expect("sealed");
        assert_eq!(ticketer(&other, 7).decrypt(&ticket).as_deref(), Some(&b"x"[..]));
        let newer = ticketer(&other, 7).encrypt(b"x").expect("sealed");
        assert_eq!(ticketer(&one, 7).decrypt(&newer), None);
    }

    #[test]
    fn a_file_holds_whole_keys_with_names_of_their_own() {
        let refused = |bytes: &[u8]| TicketKeys::from_file(bytes).expect_err("refused");
        assert_eq!(refused(b""), "0 bytes: expected 1 to 16 keys of 48 bytes each");
        assert_eq!(refused(&[0; 80]), "80 bytes: expected 1 to 16 keys of 48 bytes each");
        assert_eq!(refused(&[0; 17 * 48]), "816 bytes: expected 1 to 16 keys of 48 bytes each");
        assert_eq!(refused(&[7; 96]), "keys 1 and 2 have the same name, their first 16 bytes");
    }

    #[test]
    fn our_own_keys_are_accepted_for_one_rotation_more() {
        let keys = TicketKeys::random();
        let ticket = ticketer(&keys, 1).encrypt(b"x").expect("sealed");
        let Keys::Rotating(rotating) = &keys.0 else { panic!("our own") };
        let pass = || rotating.write().expect("no holder panics").1 = Instant::now();
        pass();
        assert!(ticketer(&keys, 1).decrypt(&ticket).is_some());
        pass();
        assert!(ticketer(&keys, 1).decrypt(&ticket).is_none());
    }
}
