//! The way by the storage that replicas share: what another has stored, and whether another asks the upstream already.
//!
//! It lies between what this replica has stored and the upstream. Whatever goes wrong there, the request goes on without it.

use std::time::Duration;

use super::{
    Ahead, Flow, HttpCaching, Kept, MISS, STALE, State, WAIT_MS_MAX, Whom, answer::How, millis, stored_method, varying,
};
use crate::{
    cache::{
        Entry, Millis, Wake,
        entry::Use,
        record::{self, Record},
        shared::{Locked, Shared},
        vary::Request,
    },
    policies::{Exchange, Question, Turn},
    storage::{Answer, Marks, Pending, WAIT_MAX},
};

use std::sync::Arc;

/// Between two looks for what another replica brings.
const PAUSE: Duration = Duration::from_millis(50);
/// The storage's own limit, and some time for its answer to come round.
const ANSWER_MAX: Duration = Duration::from_millis(WAIT_MAX.as_millis() as u64 * 2);

/// A request whose answer the other replicas may have.
pub struct Fetching {
    ahead: Ahead,
    step: Step,
    since: Millis,
}

enum Step {
    Get(Pending),
    /// Of a key whose responses vary; the marks are those of the key itself.
    Variant(Pending),
    Lock(Pending, Locked),
    Pause,
}

/// What the storage was asked before the upstream is.
#[derive(Default)]
pub(super) struct Others {
    pub(super) asked: bool,
    /// Under which what comes may be put there.
    pub(super) marks: Option<Marks>,
    /// That nobody else asks meanwhile.
    pub(super) locked: Option<Locked>,
}

impl HttpCaching {
    /// What replicas share of this policy, where it does and they can be asked.
    pub(super) fn shared<'s>(&self, state: &'s State, exchange: &Exchange<'_>) -> Option<&'s Arc<Shared>> {
        state.partition.shared().filter(|shared| !exchange.is_in_shadow() && shared.is_here())
    }

    pub(super) fn fetch(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, mut ahead: Ahead) -> Flow {
        ahead.others.asked = true;
        let since = ahead.now;
        self.get(turn, exchange, ahead, since)
    }

    fn get(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, ahead: Ahead, since: Millis) -> Flow {
        let key = ahead.key.clone();
        let get = |shared: &Arc<Shared>, wake: Wake| Step::Get(shared.get(&key, wake));
        self.ask_storage(turn, exchange, ahead, since, get)
    }

    /// Asks, and waits for the answer.
    fn ask_storage(
        &self,
        turn: Turn<'_, Self>,
        exchange: &mut Exchange<'_>,
        ahead: Ahead,
        since: Millis,
        ask: impl FnOnce(&Arc<Shared>, Wake) -> Step,
    ) -> Flow {
        let (Some(shared), Some((signal, bell))) = (self.shared(turn.state, exchange), turn.state.signals.new_signal())
        else {
            return self.go_on(turn, exchange, ahead);
        };
        let step = ask(shared, Box::new(move || bell.ring()));
        *turn.kept = Kept::Fetching(Box::new(Fetching { ahead, step, since }));
        Flow::Wait(Box::new(Question::Signal { signal, at_most: ANSWER_MAX }))
    }

    /// The storage has answered, or has not in time.
    pub(super) fn fetched(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, fetching: Fetching) -> Flow {
        let Fetching { mut ahead, step, since } = fetching;
        ahead.now = millis(exchange);
        match step {
            Step::Pause => self.get(turn, exchange, ahead, since),
            Step::Get(mut pending) => match pending.take() {
                Some(Ok(Answer::Found { value, marks })) => {
                    ahead.others.marks = Some(marks);
                    match value.and_then(|value| record::decode(&value, self.rules, ahead.now)) {
                        Some(Record::Entry(entry)) => self.take(turn, exchange, ahead, since, Arc::new(*entry)),
                        Some(Record::Index(names)) => {
                            let (key, fields) = (ahead.key.clone(), exchange.request_fields().clone());
                            let authority = exchange.authority().to_owned();
                            let get = |shared: &Arc<Shared>, wake: Wake| {
                                Step::Variant(shared.get_variant(
                                    &key,
                                    &names,
                                    Request { fields: &fields, authority: &authority },
                                    wake,
                                ))
                            };
                            self.ask_storage(turn, exchange, ahead, since, get)
                        }
                        None => self.lock(turn, exchange, ahead, since),
                    }
                }
                _ => self.go_on(turn, exchange, ahead),
            },
            Step::Variant(mut pending) => match pending.take() {
                Some(Ok(Answer::Found { value, .. })) => {
                    match value.and_then(|value| record::decode(&value, self.rules, ahead.now)) {
                        Some(Record::Entry(entry)) => self.take(turn, exchange, ahead, since, Arc::new(*entry)),
                        _ => self.lock(turn, exchange, ahead, since),
                    }
                }
                _ => self.go_on(turn, exchange, ahead),
            },
            Step::Lock(mut pending, locked) => match pending.take() {
                Some(Ok(Answer::Added(true))) => {
                    ahead.others.locked = Some(locked);
                    self.go_on(turn, exchange, ahead)
                }
                Some(Ok(Answer::Added(false))) if ahead.now.saturating_sub(since) < WAIT_MS_MAX => {
                    *turn.kept = Kept::Fetching(Box::new(Fetching { ahead, step: Step::Pause, since }));
                    Flow::Wait(Box::new(Question::Time(PAUSE)))
                }
                _ => self.go_on(turn, exchange, ahead),
            },
        }
    }

    /// What another replica has stored is stored here too, and is the answer where it is good enough.
    fn take(
        &self,
        turn: Turn<'_, Self>,
        exchange: &mut Exchange<'_>,
        mut ahead: Ahead,
        since: Millis,
        entry: Arc<Entry>,
    ) -> Flow {
        let State { partition, core, .. } = turn.state;
        let method = stored_method(exchange.method());
        if ahead.skips || !entry.answers(method, varying(exchange), self.rules.heeds) {
            return self.lock(turn, exchange, ahead, since);
        }
        match entry.use_for(&ahead.control, ahead.now) {
            Use::Fresh | Use::Stale => {
                partition.insert(*core, &ahead.key, entry.clone(), ahead.stamp);
                if !ahead.is_alone {
                    partition.counts(*core).hit();
                }
                let whom = Whom { method: exchange.method(), fields: exchange.request_fields(), now: ahead.now };
                Flow::Respond(self.answer(&entry, &whom, How::Hit))
            }
            Use::WhileRevalidated | Use::Revalidate => {
                ahead.stale = Some(entry);
                ahead.why = STALE;
                self.lock(turn, exchange, ahead, since)
            }
        }
    }

    /// One replica asks the upstream, where its request is one that others wait for.
    fn lock(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, ahead: Ahead, since: Millis) -> Flow {
        let waits = ahead.lead.is_some() && turn.state.partition.shared().is_some_and(|shared| shared.locks);
        if !waits || ahead.why != MISS && ahead.why != STALE {
            return self.go_on(turn, exchange, ahead);
        }
        let (key, token) = (ahead.key.clone(), exchange.random());
        let lock = |shared: &Arc<Shared>, wake: Wake| {
            let (pending, locked) = shared.lock(&key, token, wake);
            Step::Lock(pending, locked)
        };
        self.ask_storage(turn, exchange, ahead, since, lock)
    }
}
