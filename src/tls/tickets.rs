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

struct Keys {
    ring: Ring,
    /// When to make a new one. `None`: they come from a file.
    until: Option<Instant>,
    /// The bytes of that file.
    file: Option<Vec<u8>>,
}

pub struct TicketKeys(RwLock<Keys>);

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl TicketKeys {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(RwLock::new(Keys::own())))
    }

    /// Takes the keys of a file, which have been checked; or with `None` keys of our own. Tickets of before are accepted
    /// as long as their keys are among the new ones.
    pub fn set_file(&self, bytes: Option<&[u8]>) {
        let mut keys = self.0.write().expect("no holder panics");
        match bytes {
            Some(bytes) if keys.file.as_deref() != Some(bytes) => {
                let ring = bytes.chunks_exact(KEY_BYTES).take(KEYS_MAX).map(|bytes| Arc::new(Key::of(bytes))).collect();
                *keys = Keys { ring, until: None, file: Some(bytes.to_vec()) };
            }
            None if keys.file.is_some() => *keys = Keys::own(),
            _ => {}
        }
    }

    fn ring(&self) -> Ring {
        let keys = self.0.read().expect("no holder panics");
        if keys.until.is_none_or(|until| Instant::now() < until) {
            return keys.ring.clone();
        }
        drop(keys);
        let mut keys = self.0.write().expect("no holder panics");
        if keys.until.is_some_and(|until| Instant::now() >= until) {
            let before = keys.ring.first().cloned();
            keys.ring = std::iter::once(Arc::new(Key::random())).chain(before).collect();
            keys.until = Some(Instant::now() + ROTATION);
        }
        keys.ring.clone()
    }
}

impl Keys {
    fn own() -> Self {
        Self { ring: [Arc::new(Key::random())].into(), until: Some(Instant::now() + ROTATION), file: None }
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
        let keys = TicketKeys::new();
        let ticket = ticketer(&keys, 1).encrypt(b"session").expect("sealed");
        assert_eq!(ticketer(&keys, 1).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(ticketer(&keys, 2).decrypt(&ticket), None);
        assert_eq!(ticketer(&TicketKeys::new(), 1).decrypt(&ticket), None);
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
        let (one, other) = (TicketKeys::new(), TicketKeys::new());
        one.set_file(Some(&old));
        other.set_file(Some(&[new, old].concat()));
        let ticket = ticketer(&one, 7).encrypt(b"x").expect("sealed");
        assert_eq!(ticketer(&other, 7).decrypt(&ticket).as_deref(), Some(&b"x"[..]));
        let newer = ticketer(&other, 7).encrypt(b"x").expect("sealed");
        assert_eq!(ticketer(&one, 7).decrypt(&newer), None);
        other.set_file(None);
        assert_eq!(ticketer(&other, 7).decrypt(&ticket), None);
    }

    #[test]
    fn our_own_keys_are_accepted_for_one_rotation_more() {
        let keys = TicketKeys::new();
        let ticket = ticketer(&keys, 1).encrypt(b"x").expect("sealed");
        let pass = || keys.0.write().expect("no holder panics").until = Some(Instant::now());
        pass();
        assert!(ticketer(&keys, 1).decrypt(&ticket).is_some());
        pass();
        assert!(ticketer(&keys, 1).decrypt(&ticket).is_none());
    }
}
