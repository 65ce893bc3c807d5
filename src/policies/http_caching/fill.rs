//! What becomes of a response that was asked for: stored as it passes, or an entry in its place.

use std::sync::Arc;

use super::{
    Asked, Flow, HttpCaching, Kept, State,
    answer::{How, Whom},
    millis,
    share::Others,
    stored_method,
};
use crate::{
    cache::{
        BODY_BYTES_MAX, Entry, Lead, Millis, Stamp,
        entry::{self, Unfit},
        freshness::Exchanged,
        store::Reserved,
    },
    expression::Value,
    http::head::Fields,
    policies::{Exchange, Piece, Side, Turn, reading::Reading},
};

/// A body of no known length begins with this much memory.
const FIRST_BYTES: usize = 4096;

/// A response that is stored as it passes.
pub struct Filling {
    key: Arc<[u8]>,
    stamp: Stamp,
    entry: Entry,
    body: Vec<u8>,
    /// How long it will be, where that is known.
    length: Option<usize>,
    reserved: Reserved,
    lead: Option<Lead>,
    others: Others,
}

impl HttpCaching {
    pub(super) fn take_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, asked: Asked) -> Flow {
        let now = millis(exchange);
        let at = Exchanged { asked: asked.at, answered: now };
        let (status, is_own) = (exchange.status(), exchange.is_own_answer());
        let whom = Whom { method: exchange.method(), fields: &asked.fields, now };
        if let Some(stale) = asked.old.clone().filter(|_| asked.validates && status == 304 && !is_own) {
            if stale.is_other_than(exchange.response_fields()) {
                return self.ask_again(turn, exchange, asked, now);
            }
            return self.take_validation(turn.state, exchange, asked, &stale, at);
        }
        if asked.again && status == 304 && !is_own {
            // The client has not asked with conditions, and nobody has sent what this 304 is of.
            return Flow::Respond(turn.state.not_validated.clone());
        }
        if let Some(stale) = &asked.old
            && matches!(status, 500 | 502 | 503 | 504)
            && stale.stands_in(&asked.control, now)
        {
            return Flow::Respond(self.answer(stale, &whom, How::InsteadOf(status)));
        }
        let begun = match is_own || !asked.stores {
            true => Err(Unfit),
            false => self.begin(turn.state, exchange, &asked, at),
        };
        match begun {
            Ok(filling) => {
                // Of one whose length is not known nobody knows yet whether it is too long.
                let has_body = exchange.has_body(Side::Response);
                self.tell(turn.state, exchange, asked.why, !has_body || filling.length.is_some());
                if has_body {
                    asked.lead.iter().for_each(|lead| lead.fills(now));
                    *turn.kept = Kept::Filling(Box::new(Filling { lead: asked.lead, others: asked.others, ..filling }));
                } else {
                    Filling { others: asked.others, ..filling }.store(turn.state);
                }
            }
            Err(Unfit) => {
                self.tell(turn.state, exchange, asked.why, false);
                if asked.lead.is_some() {
                    turn.state.partition.set_fruitless(&asked.key, now);
                }
                // The origin has another answer now, and it is for nobody else (RFC 9111 section 4.3.3). What answers HEAD, or a
                // request that lets nothing be stored, says nothing of what others get.
                if asked.stores && asked.old.is_some() && !is_own && status < 500 {
                    turn.state.partition.invalidate(&asked.key);
                }
            }
        }
        Flow::Continue
    }

    /// The upstream says that something is good still that is not here: it is asked for the whole (RFC 9111 section 4.3.3). What
    /// is here is nobody's answer any more, and were it kept an upstream that says so each time would be asked twice each time.
    fn ask_again(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, asked: Asked, now: Millis) -> Flow {
        let State { partition, names, not_validated, .. } = turn.state;
        partition.invalidate(&asked.key);
        if exchange.has_body(Side::Request) {
            return Flow::Respond(not_validated.clone());
        }
        for name in [&names.if_none_match, &names.if_modified_since] {
            exchange.request_headers().remove_if(|known| known.eq_ignore_ascii_case(name.as_bytes()));
        }
        // What comes now is asked for after that. The others have their marks of before, and would not take it.
        let (stamp, others) = (partition.stamp(&asked.key), Others { marks: None, ..asked.others });
        let asked = Asked { validates: false, again: true, at: now, stamp, others, ..asked };
        *turn.kept = Kept::Asked(Box::new(asked));
        Flow::AskAgain(not_validated.clone())
    }

    /// The upstream says that what is here is good still.
    fn take_validation(
        &self,
        state: &State,
        exchange: &Exchange<'_>,
        asked: Asked,
        stale: &Entry,
        at: Exchanged,
    ) -> Flow {
        let update = exchange.response_fields();
        let (renewed, fits) = stale.renewed(&request(exchange, &asked, at), update, self.rules);
        let renewed = Arc::new(renewed);
        let stored =
            asked.stores && fits.is_ok() && store(state, &asked.key, renewed.clone(), asked.stamp, asked.others);
        let whom = Whom { method: exchange.method(), fields: &asked.fields, now: at.answered };
        let answer = self.answer(&renewed, &whom, How::Validated { stored });
        if !stored {
            if asked.lead.is_some() {
                state.partition.set_fruitless(&asked.key, at.answered);
            }
            if fits.is_err() {
                state.partition.invalidate(&asked.key);
            }
        }
        Flow::Respond(answer)
    }

    fn begin(&self, state: &State, exchange: &Exchange<'_>, asked: &Asked, at: Exchanged) -> Result<Filling, Unfit> {
        let reading = Reading::response(exchange);
        let is_wanted =
            |holds: &crate::expression::Expression| matches!(holds.evaluate(&reading), Ok(Value::Boolean(true)));
        if !self.response.as_ref().is_none_or(is_wanted) {
            return Err(Unfit);
        }
        if is_endless(exchange.response_fields()) {
            return Err(Unfit);
        }
        let length = exchange.response_length();
        if length.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
            return Err(Unfit);
        }
        let request = request(exchange, asked, at);
        let entry = Entry::begin(&request, exchange.status(), exchange.response_fields(), self.rules)?;
        if !state.partition.may_hold(entry.bytes() + asked.key.len() + length.unwrap_or_default() as usize) {
            return Err(Unfit);
        }
        Ok(Filling {
            key: asked.key.clone(),
            stamp: asked.stamp,
            entry,
            body: Vec::new(),
            length: length.map(|length| length as usize),
            reserved: state.partition.reserve(),
            lead: None,
            others: Others::default(),
        })
    }
}

/// What the response is the answer to.
fn request<'a>(exchange: &'a Exchange<'_>, asked: &'a Asked, at: Exchanged) -> entry::Asked<'a> {
    entry::Asked {
        method: stored_method(exchange.method()),
        fields: &asked.fields,
        forwarded: exchange.request_fields(),
        authority: exchange.authority(),
        at,
    }
}

impl Filling {
    /// True: it is done with, stored or given up.
    pub(super) fn takes(&mut self, state: &State, piece: &Piece<'_>) -> bool {
        if !self.has_room_for(piece.bytes.len()) {
            state.partition.set_fruitless(&self.key, self.entry.life.answered);
            return true;
        }
        self.body.extend_from_slice(piece.bytes);
        if piece.is_last {
            self.store(state);
        }
        piece.is_last
    }

    /// Grows by doubling, and not beyond what is known to come.
    fn has_room_for(&mut self, more: usize) -> bool {
        let needed = self.body.len() + more;
        if needed > BODY_BYTES_MAX {
            return false;
        }
        if needed <= self.body.capacity() {
            return true;
        }
        let most = self.length.unwrap_or(BODY_BYTES_MAX).max(needed);
        let room = (2 * self.body.capacity()).max(FIRST_BYTES).clamp(needed, most);
        if !self.reserved.grow_to(room) {
            return false;
        }
        self.body.reserve_exact(room - self.body.len());
        true
    }

    fn store(&mut self, state: &State) {
        let mut body = std::mem::take(&mut self.body);
        body.shrink_to_fit();
        let entry = Entry { body: Arc::new(body), ..self.entry.clone() };
        store(state, &self.key, Arc::new(entry), self.stamp, std::mem::take(&mut self.others));
        // Those that wait look now.
        self.lead = None;
    }
}

/// A stream of events ends when nobody listens any more, and is of no use to others.
fn is_endless(response: &Fields) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    response
        .get(b"content-type")
        .and_then(|value| value.get(..TYPE.len()))
        .is_some_and(|t| t.eq_ignore_ascii_case(TYPE))
}

/// Here, and where other replicas look. Returns whether it is here.
fn store(state: &State, key: &Arc<[u8]>, entry: Arc<Entry>, stamp: Stamp, others: Others) -> bool {
    let shared = state.partition.shared().zip(others.marks).filter(|_| entry.range.is_none());
    if let Some((shared, marks)) = shared {
        shared.put(key, &entry, marks);
    }
    let stored = state.partition.insert(state.core, key, entry, stamp);
    // Who waits for the lock finds it by now.
    drop(others.locked);
    stored
}
