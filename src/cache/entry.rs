//! A stored response: what may become one (RFC 9111 section 3), which requests it answers (section 4), and how a 304 renews it
//! (section 4.3.4).

use std::sync::Arc;

use super::{
    Millis, condition,
    control::Control,
    freshness::{Exchanged, Unsaid, assumed_lifetime, initial_age, said_lifetime},
    vary::{Request, Selection},
};
use crate::http::head::{FieldRef, Fields, Known};

/// A whole body, which its readers share.
pub type Body = Arc<Vec<u8>>;

/// What an entry takes beside its body, its fields and its key.
const ENTRY_BYTES: usize = 512;

/// Immutable, once it is there.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of the request; GET for HEAD.
    pub method: Box<[u8]>,
    pub status: u16,
    /// Without length and age, which are of an answer.
    pub fields: Arc<Fields>,
    pub body: Body,
    pub selection: Selection,
    /// What a 206 is a part for: it answers those alone that ask for the same.
    pub range: Option<Box<[u8]>>,
    pub control: Control,
    pub life: Life,
}

/// The times of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When its head came.
    pub answered: Millis,
    pub initial_age: Millis,
    /// What age it may reach; `None`: any.
    pub lifetime: Option<Millis>,
    /// How long it may lie here.
    pub ttl: Millis,
}

/// What the policy says of storing.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub ttl: Millis,
    /// What messages say of caching counts.
    pub heeds: bool,
    pub unsaid: Unsaid,
}

/// The request, as far as it is known when its response comes.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub method: &'a [u8],
    /// As the client sent them.
    pub fields: &'a Fields,
    /// As the upstream saw them.
    pub forwarded: &'a Fields,
    pub authority: &'a [u8],
    pub at: Exchanged,
}

/// What an entry is good for, for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Fresh,
    /// Stale, and the request or the response says that this will do.
    Stale,
    /// Stale, and will do while somebody asks for a new one.
    WhileRevalidated,
    /// Nothing, before the origin was asked.
    Revalidate,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

impl Entry {
    /// All that is known when the head has come; the body is still to come. The error is no fault.
    pub fn begin(asked: &Asked<'_>, status: u16, response: &Fields, rules: Rules) -> Result<Self, Unfit> {
        let control = match rules.heeds {
            true => Control::parse(response.values(b"cache-control")),
            false => Control::default(),
        };
        let range = (status == 206).then(|| asked.fields.get(b"range").map(Box::from)).flatten();
        if status == 304 || status == 206 && (range.is_none() || asked.fields.get(b"if-range").is_some()) {
            return Err(Unfit);
        }
        let selection = selection(asked, status, response, &control, rules)?;
        let life = life(response, &control, asked.at, rules);
        let entry = Self {
            method: asked.method.into(),
            status,
            fields: Arc::new(kept(response)),
            body: Body::default(),
            selection,
            range,
            control,
            life,
        };
        match entry.is_of_use() {
            true => Ok(entry),
            false => Err(Unfit),
        }
    }

    /// Whether it can ever be an answer.
    fn is_of_use(&self) -> bool {
        self.left(self.life.answered) > 0
            || self.has_validator()
            || self.control.stale_if_error.is_some()
            || self.control.stale_while_revalidate.is_some()
    }

    pub fn has_validator(&self) -> bool {
        self.fields.get(b"etag").is_some() || self.fields.get(b"last-modified").is_some()
    }

    /// RFC 9111 section 4.2.3.
    pub fn age(&self, now: Millis) -> Millis {
        self.life.initial_age.saturating_add(now.saturating_sub(self.life.answered))
    }

    /// How long it stays fresh; negative: so long it has been stale.
    pub fn left(&self, now: Millis) -> i64 {
        let lies = signed(now.saturating_sub(self.life.answered));
        let here = signed(self.life.ttl).saturating_sub(lies);
        let age = signed(self.age(now));
        let of_age = self.life.lifetime.map_or(i64::MAX, |lifetime| signed(lifetime).saturating_sub(age));
        here.min(of_age)
    }

    /// Whether it is an answer to this request at all, fresh or not. `heeds`: as in [`Rules`].
    pub fn answers(&self, method: &[u8], request: Request<'_>, heeds: bool) -> bool {
        (!heeds || *self.method == *method)
            && self.selection.matches(request)
            && match &self.range {
                None => true,
                Some(range) => {
                    let request = request.fields;
                    let mut asked = request.values(b"range");
                    asked.next() == Some(range) && asked.next().is_none() && request.get(b"if-range").is_none()
                }
            }
    }

    /// What it is good for, by what the request says (RFC 9111 section 5.2.1).
    pub fn use_for(&self, request: &Control, now: Millis) -> Use {
        let left = self.left(now);
        let age = signed(self.age(now));
        let ms = |seconds: u64| signed(seconds).saturating_mul(1000);
        let too_old = request.max_age.is_some_and(|most| age > ms(most)) && request.max_stale.is_none();
        let too_near = request.min_fresh.is_some_and(|least| left < ms(least));
        if left > 0 {
            return if too_old || too_near { Use::Revalidate } else { Use::Fresh };
        }
        let stale = left.saturating_neg();
        match () {
            () if self.control.forbids_stale() || request.min_fresh.is_some() => Use::Revalidate,
            () if request.max_stale.is_some_and(|most| stale <= ms(most)) => Use::Stale,
            () if request.max_age.is_some() => Use::Revalidate,
            () if self.control.stale_while_revalidate.is_some_and(|most| stale <= ms(most)) => Use::WhileRevalidated,
            () => Use::Revalidate,
        }
    }

    /// Whether it stands in for an answer that is an error (RFC 5861 section 4).
    pub fn stands_in(&self, request: &Control, now: Millis) -> bool {
        let stale = self.left(now).saturating_neg();
        let most = self.control.stale_if_error.max(request.stale_if_error);
        !self.control.forbids_stale() && most.is_some_and(|most| stale <= signed(most.saturating_mul(1000)))
    }

    /// As the origin says with 304 that it is now. It is an answer to who asked; the error: and to nobody else.
    pub fn renewed(&self, asked: &Asked<'_>, update: &Fields, rules: Rules) -> (Self, Result<(), Unfit>) {
        let mut fields = Fields::default();
        let updates = |name: &[u8]| !stays(name) && update.iter().any(|new| new.name.eq_ignore_ascii_case(name));
        self.fields.iter().filter(|old| !updates(old.name)).for_each(|old| fields.append(old.name, old.value));
        let new = update.iter().filter(|new| is_kept(new) && !stays(new.name));
        new.for_each(|new| fields.append(new.name, new.value));
        let control = Control::parse(fields.values(b"cache-control"));
        // Its age is what the 304 says of it.
        let mut aged = fields.clone();
        update.values(b"age").for_each(|age| aged.append(b"age", age));
        let selection = selection(asked, self.status, &fields, &control, rules);
        let fits = selection.as_ref().map(|_| ()).map_err(|unfit| *unfit);
        let entry = Self {
            method: self.method.clone(),
            status: self.status,
            fields: Arc::new(fields),
            body: self.body.clone(),
            selection: selection.unwrap_or_default(),
            range: self.range.clone(),
            control,
            life: life(&aged, &control, asked.at, rules),
        };
        (entry, fits)
    }

    /// Whether a 304 is not of this response: a validator of it names another (RFC 9111 section 4.3.4). One that is weak may be
    /// the same, weakened on its way.
    pub fn is_other_than(&self, update: &Fields) -> bool {
        let (Some(own), Some(new)) = (self.fields.get(b"etag"), update.get(b"etag")) else { return false };
        let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
        opaque(own) != opaque(new)
    }

    /// Whether the client, who says so, has it already.
    pub fn is_had(&self, request: &Fields, now: Millis) -> bool {
        matches!(self.status, 200 | 206) && condition::is_not_modified(request, &self.fields, now)
    }

    /// The memory it takes, its key aside.
    pub fn bytes(&self) -> usize {
        ENTRY_BYTES
            + self.body.capacity()
            + self.fields.capacity()
            + self.selection.bytes()
            + self.range.as_ref().map_or(0, |range| range.len())
    }
}

/// Negative times are of what has been stale for so long.
fn signed(time: Millis) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// Which requests a response answers, if it may answer any but the one it was made for.
fn selection(
    asked: &Asked<'_>,
    status: u16,
    response: &Fields,
    control: &Control,
    rules: Rules,
) -> Result<Selection, Unfit> {
    if !may_be_shared(asked.fields, response) {
        return Err(Unfit);
    }
    if rules.heeds && control.keeps_out() {
        return Err(Unfit);
    }
    if control.must_understand && !is_understood(status) {
        return Err(Unfit);
    }
    let of = |fields| Request { fields, authority: asked.authority };
    let selection = match rules.heeds {
        true => Selection::of(response, of(asked.fields)).ok_or(Unfit)?,
        false => Selection::default(),
    };
    // What a policy behind the cache has put in the place of the client's own chooses the response too, and is not known when
    // the next request looks.
    match selection.matches(of(asked.forwarded)) {
        true => Ok(selection),
        false => Err(Unfit),
    }
}

fn life(response: &Fields, control: &Control, at: Exchanged, rules: Rules) -> Life {
    let said = || said_lifetime(response, control, at.answered);
    let lifetime = match rules.heeds {
        true => said().or_else(|| assumed_lifetime(response, rules.unsaid, at.answered)),
        false => None,
    };
    let initial_age = match rules.heeds {
        true => initial_age(response, at),
        false => 0,
    };
    Life { answered: at.answered, initial_age, lifetime, ttl: rules.ttl }
}

/// A response to a request with credentials is for others only where it says so (RFC 9111 section 3.5), whether the policy heeds
/// what it says otherwise or not.
fn may_be_shared(request: &Fields, response: &Fields) -> bool {
    if request.known(Known::Authorization).is_none() {
        return true;
    }
    let control = Control::parse(response.values(b"cache-control"));
    control.public || control.must_revalidate || control.s_maxage.is_some()
}

/// The final statuses whose requirements for caches are met here.
fn is_understood(status: u16) -> bool {
    matches!(
        status,
        200 | 203
            | 204
            | 300
            | 301
            | 302
            | 303
            | 307
            | 308
            | 400
            | 401
            | 403
            | 404
            | 405
            | 410
            | 414
            | 500
            | 501
            | 502
            | 503
            | 504
    )
}

/// The fields that are stored (RFC 9111 section 3.1), in as much memory as they take.
fn kept(response: &Fields) -> Fields {
    let mut fields = Fields::default();
    response.iter().filter(is_kept).for_each(|field| fields.append(field.name, field.value));
    fields
}

pub(super) fn is_kept(field: &FieldRef<'_>) -> bool {
    !matches!(
        field.known,
        Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::KeepAlive
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::ProxyAuthenticate
            | Known::ProxyAuthenticationInfo
            | Known::ProxyAuthorization
            | Known::ProxyConnection
    ) && !field.name.eq_ignore_ascii_case(b"age")
}

/// What a 304 leaves as it is: it is of the body that is here (RFC 9111 section 3.2).
fn stays(name: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"content-encoding", b"content-range", b"content-md5", b"etag"];
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests;
