//! The sets of keys that a policy takes tokens by: which they are, and what a core has of them now.

use std::sync::Arc;

use super::{algorithm::Algorithm, key_set::KeySet, refusal::Refusal, token::Signed};
use crate::{
    document::address::WebAddress,
    policies::wants::{Published, Refresh},
};

/// Addresses of one policy.
pub const ADDRESSES_MAX: usize = 16;

#[derive(Debug)]
pub struct Issuers {
    pub addresses: Box<[WebAddress]>,
    /// What the operator takes of what their keys could do.
    pub algorithms: Box<[Algorithm]>,
}

/// One core's hold on the sets of one policy, in the order of its addresses.
#[derive(Default)]
pub struct Held(Vec<Issuer>);

struct Issuer {
    /// None as long as none has ever come.
    set: Option<Arc<KeySet>>,
    refresh: Arc<Refresh>,
}

impl Issuers {
    /// Takes over what there is now; true where a set is another one than before.
    pub fn take(&self, held: &mut Held, published: &Published) -> bool {
        let known = self.addresses.iter().filter_map(|address| published.key_sets.get(address));
        let now = Held(known.map(|one| Issuer { set: one.set.clone(), refresh: one.refresh.clone() }).collect());
        let same = |(one, other): (&Issuer, &Issuer)| match (&one.set, &other.set) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let changed = now.0.len() != held.0.len() || !now.0.iter().zip(&held.0).all(same);
        *held = now;
        changed
    }

    /// Whether a key that the token names has signed it. Keys of several issuers may have one name: any will do.
    pub fn check(&self, held: &Held, signed: &Signed<'_>) -> Result<(), Refusal> {
        let algorithm = Algorithm::named(signed.algorithm).filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(Refusal::Algorithm)?;
        let kid = signed.kid.ok_or(Refusal::KidMissing)?;
        let mut refusal = None;
        for key in held.0.iter().filter_map(|issuer| issuer.set.as_ref()).flat_map(|set| set.find(kid)) {
            if key.verifies(algorithm, signed.message, signed.signature) {
                return Ok(());
            }
            refusal = Some(if key.has(algorithm) { Refusal::Signature } else { refusal.unwrap_or(Refusal::Algorithm) });
        }
        Err(refusal.unwrap_or_else(|| self.unknown(held)))
    }

    /// Nobody has a key of this name, as far as we know.
    fn unknown(&self, held: &Held) -> Refusal {
        held.0.iter().filter(|issuer| issuer.set.is_some()).for_each(|issuer| issuer.refresh.ask());
        let complete = held.0.len() == self.addresses.len() && held.0.iter().all(|issuer| issuer.set.is_some());
        if complete { Refusal::KeyUnknown } else { Refusal::NoKeys }
    }
}
