//! What a directory is asked: whether somebody is who he says, by a search for his entry and a bind as that entry.
//!
//! A directory is reached without the forward proxy, which speaks HTTP.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    document::{address::Endpoint, hash::Stable},
    ldap::Filter,
    tls::ClientContext,
};

/// One directory, and where in it users are found.
pub struct Directory {
    pub endpoint: Endpoint,
    pub security: Security,
    /// Why it cannot be secured as it is to be: nothing is sent then.
    pub insecure: Option<String>,
    /// Whom the gateway is to it, for searches.
    pub service_dn: String,
    pub service_password: String,
    pub base: String,
    /// The base and all below it, or else what is one level below it.
    pub in_subtree: bool,
    pub filter: Filter,
    /// As it was written.
    pub filter_text: String,
}

/// How a connection is secured.
#[derive(Clone)]
pub enum Security {
    Plain,
    /// From its first byte: `ldaps`.
    Tls(Arc<ClientContext>),
    /// Before anything else is asked (RFC 4511, section 4.14).
    StartTls(Arc<ClientContext>),
}

/// One user's name and password to be checked.
pub struct LogIn {
    pub directory: Arc<Directory>,
    /// The policy by the name that its table has for it: a metric's label.
    pub policy: &'static str,
    /// The binding that it is asked for; for people.
    pub binding: String,
    pub user: String,
    /// Never empty, since directories let everybody in with an empty one (RFC 4513, section 5.1.2).
    pub password: Vec<u8>,
    /// Of everything together.
    pub time_max: Duration,
}

/// What a directory says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// No entry is found, or none that can be bound as.
    Unknown,
    /// Several entries are found: nobody knows which one is meant.
    Ambiguous,
    /// The directory does not let the entry in with this password.
    Refused,
}

impl Verdict {
    const ALL: [Self; 4] = [Self::Accepted, Self::Unknown, Self::Ambiguous, Self::Refused];

    /// By the word that [`Verdict::outcome`] has for it.
    pub fn of_outcome(outcome: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.outcome() == outcome)
    }

    /// A metric's label.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unknown => "unknown_user",
            Self::Ambiguous => "ambiguous_user",
            Self::Refused => "refused",
        }
    }
}

impl Directory {
    /// `ldaps://host:port`.
    pub fn origin(&self) -> String {
        let scheme = if matches!(self.security, Security::Tls(_)) { "ldaps" } else { "ldap" };
        format!("{scheme}://{}", self.endpoint)
    }

    /// Of everything that makes connections of one kind another's: who is bound over them, too.
    pub fn identity(&self) -> u64 {
        let (kind, tls) = match &self.security {
            Security::Plain => (0, 0),
            Security::Tls(tls) => (1, tls.identity),
            Security::StartTls(tls) => (2, tls.identity),
        };
        let identity = Stable::new().text(&self.endpoint.to_string()).number(kind).number(tls);
        let identity = identity.text(self.insecure.as_deref().unwrap_or_default());
        identity.text(&self.service_dn).text(&self.service_password).finish()
    }
}

/// Without names and passwords.
impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({})", self.origin())
    }
}

/// What is looked for and where, without who it is.
impl fmt::Display for LogIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Directory { base, in_subtree, filter_text, .. } = &*self.directory;
        let below = if *in_subtree { "in the subtree of" } else { "one level below" };
        write!(f, "{} for `{filter_text}` {below} `{base}`", self.directory.origin())
    }
}

impl fmt::Debug for LogIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogIn({self})")
    }
}
