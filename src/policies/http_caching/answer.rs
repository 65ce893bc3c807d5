//! What a client gets of an entry: the whole, a part of it, or word that it has it.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use super::{HttpCaching, REASON_HIT};
use crate::{
    cache::{
        Entry, Millis,
        range::{self, Part},
    },
    http::head::Fields,
    policies::{LocalResponse, policy::Content},
};

/// For whom an entry is the answer.
pub(super) struct Whom<'a> {
    pub(super) method: &'a [u8],
    /// As the client sent them.
    pub(super) fields: &'a Fields,
    pub(super) now: Millis,
}

impl HttpCaching {
    /// `how` is what `Cache-Status` says of it.
    pub(super) fn answer(&self, entry: &Entry, whom: &Whom<'_>, how: How) -> Rc<LocalResponse> {
        let mut headers: Vec<(Cow<'static, str>, Cow<'static, str>)> = Vec::with_capacity(3);
        headers.push(("age".into(), (entry.age(whom.now) / 1000).to_string().into()));
        if self.tells {
            headers.push(("cache-status".into(), how.told(entry.left(whom.now)).into()));
        }
        let whole = |status, headers| LocalResponse {
            status,
            stored: Some(entry.fields.clone()),
            headers,
            body: Content::Shared(entry.body.clone(), 0..entry.body.len()),
            content_type: None,
            reason: REASON_HIT,
        };
        if !self.rules.heeds {
            return whole(entry.status, headers).into();
        }
        if entry.is_had(whom.fields, whom.now) {
            let stored = Some(Arc::new(not_modified(&entry.fields)));
            return LocalResponse { stored, body: b"".into(), ..whole(304, headers) }.into();
        }
        let part = match entry.status == 200 && whom.method == b"GET" {
            true => range::part(whom.fields, &entry.fields, entry.body.len(), whom.now),
            false => Part::Whole,
        };
        let length = entry.body.len();
        match part {
            Part::Whole => whole(entry.status, headers),
            Part::Bytes(part) => {
                let range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                headers.push(("content-range".into(), range.into()));
                LocalResponse { body: Content::Shared(entry.body.clone(), part), ..whole(206, headers) }
            }
            Part::Unsatisfiable => {
                headers.push(("content-range".into(), format!("bytes */{length}").into()));
                LocalResponse { stored: None, body: b"".into(), ..whole(416, headers) }
            }
        }
        .into()
    }
}

/// Where an answer came from, for `Cache-Status` (RFC 9211).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Hit,
    /// Somebody else's request has brought it.
    Collapsed,
    /// The origin said that it is the same still.
    Validated {
        stored: bool,
    },
    /// In the place of an error of this status.
    InsteadOf(u16),
}

impl How {
    fn told(self, left: i64) -> String {
        let ttl = left.div_euclid(1000);
        match self {
            Self::Hit => format!("ringway; hit; ttl={ttl}"),
            Self::Collapsed => format!("ringway; fwd=miss; collapsed; ttl={ttl}"),
            Self::Validated { stored: true } => format!("ringway; fwd=stale; fwd-status=304; ttl={ttl}; stored"),
            Self::Validated { stored: false } => "ringway; fwd=stale; fwd-status=304".to_owned(),
            Self::InsteadOf(status) => format!("ringway; fwd=stale; fwd-status={status}; ttl={ttl}"),
        }
    }
}

/// What a 304 tells (RFC 9110 section 15.4.5): nothing of a body that does not come.
fn not_modified(stored: &Fields) -> Fields {
    const LEFT_OUT: [&[u8]; 4] = [b"content-type", b"content-encoding", b"content-language", b"content-range"];
    let mut fields = Fields::default();
    let told = stored.iter().filter(|field| !LEFT_OUT.iter().any(|name| field.name.eq_ignore_ascii_case(name)));
    told.for_each(|field| fields.append(field.name, field.value));
    fields
}
