//! Names of keys in Redis. Each begins with the gateway's, so that gateways never meet on one Redis.
//!
//! ```text
//! <gateway>:v:<key>     a value: its marks, then what was put
//! <gateway>:l:<key>     a lock
//! <gateway>:s:<scope>   the mark of a scope that was purged
//! <gateway>:q:<key>     the windows of a quota
//! <gateway>:replicas    when each replica was last heard of
//! <gateway>:purges      the last scopes that were purged
//! ```

use bytes::Bytes;

use crate::storage::Key;

#[derive(Clone, Debug)]
pub struct Names {
    gateway: String,
}

impl Names {
    pub fn new(gateway: &str) -> Self {
        Self { gateway: gateway.to_owned() }
    }

    pub fn value(&self, key: &Key) -> Bytes {
        self.name(":v:", key.as_bytes())
    }

    pub fn lock(&self, key: &Key) -> Bytes {
        self.name(":l:", key.as_bytes())
    }

    pub fn scope(&self, key: &Key) -> Bytes {
        self.name(":s:", key.as_bytes())
    }

    pub fn quota(&self, key: &[u8]) -> Bytes {
        self.name(":q:", key)
    }

    pub fn replicas(&self) -> Bytes {
        self.name(":replicas", b"")
    }

    pub fn purges(&self) -> Bytes {
        self.name(":purges", b"")
    }

    fn name(&self, kind: &str, key: &[u8]) -> Bytes {
        [self.gateway.as_bytes(), kind.as_bytes(), key].concat().into()
    }
}
