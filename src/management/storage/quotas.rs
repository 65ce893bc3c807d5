//! What ledgers ask the authority, as one script for many accounts; and what becomes of it.
//!
//! A question is sent once. Whatever hinders its answer, a time that is over, a connection that is lost, this task's own end,
//! is told as such: the ledger counts what may have been granted as spent.

use std::{iter, sync::Arc};

use bytes::Bytes;
use redis::Value;
use tokio::{sync::Notify, time::Instant};

use super::{
    super::{resolver::Resolve, within::within},
    command::{Command, Script, script},
    connection::{is_loss, unexpected},
    counts::Counts,
    names::Names,
    servers::{Lane, Servers},
};
use crate::{
    quota::{Answer, Asked, Ledger, Lost, Question, Stands, Storage as Stand, Tick, Ticket},
    storage::WAIT_MAX,
    telemetry::fault::Fault,
};

/// Accounts of one script: Redis does nothing else while it runs, some 15 us for each.
const ACCOUNTS_MAX: usize = 64;
/// Questions that are sent together.
const QUESTIONS_MAX: usize = 1024;
/// Whole numbers up to here are exact in a script.
const WHOLE_MAX: u64 = 1 << 53;

/// The rule of [`Authority`](crate::quota::authority::Authority), as Redis runs it.
pub static QUOTA: Script = script!("quota");

/// A replica's ledger, and what its cores tell it by.
#[derive(Clone)]
pub struct Quotas {
    pub ledger: Arc<Ledger>,
    /// Of the clock that the cores have.
    pub now: Arc<dyn Fn() -> Tick + Send + Sync>,
    /// There are questions to be taken.
    pub rung: Arc<Notify>,
}

impl Quotas {
    /// For so many cores and keys.
    pub fn new(cores: usize, keys_max: usize, now: impl Fn() -> Tick + Send + Sync + 'static) -> Self {
        let rung = Arc::new(Notify::new());
        let ring = rung.clone();
        let ledger = Arc::new(Ledger::new(cores, keys_max, move || ring.notify_one()));
        Self { ledger, now: Arc::new(now), rung }
    }

    /// How the storage stands, for the ledger.
    pub fn stands(&self, stand: Stand) {
        self.ledger.storage(stand, (self.now)());
    }

    /// All questions that there are, as far as they are not too many.
    pub fn take(&self) -> Batch {
        let now = (self.now)();
        let (tickets, questions) = self.ledger.questions(now, QUESTIONS_MAX).into_iter().unzip();
        let batch = Batch { quotas: self.clone(), sent_at: now, tickets, questions };
        if batch.questions.len() >= QUESTIONS_MAX {
            self.rung.notify_one();
        }
        batch
    }
}

/// Questions on their way. Those that it still has when it is dropped are lost.
pub struct Batch {
    quotas: Quotas,
    sent_at: Tick,
    tickets: Vec<Ticket>,
    questions: Vec<Question>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Asks all of them. Returns every fault that there was.
    pub async fn ask<R: Resolve>(
        mut self,
        servers: &Servers<R>,
        names: &Names,
        replica: &str,
        counts: &Counts,
    ) -> Vec<Fault> {
        let accounts_max = if servers.is_one() { ACCOUNTS_MAX } else { 1 };
        let commands = self.questions.chunks(accounts_max).map(|some| command(names, replica, some)).collect();
        self.sent_at = (self.quotas.now)();
        let began = Instant::now();
        let Some(answers) = within(WAIT_MAX, servers.send(Lane::Questions, commands)).await else {
            counts.failed("timeout");
            return Vec::new();
        };
        counts.answered(began.elapsed());
        let mut faults = Vec::new();
        let questions = std::mem::take(&mut self.questions);
        let mut tickets = std::mem::take(&mut self.tickets).into_iter();
        for (some, answer) in questions.chunks(accounts_max).zip(answers) {
            let mut why = Lost::Unanswered;
            let answers = answer.and_then(|answer| read(some, &answer)).unwrap_or_else(|fault| {
                if !is_loss(&fault) {
                    why = Lost::Refused;
                }
                faults.push(fault);
                Vec::new()
            });
            if answers.contains(&Err(Lost::Refused)) {
                faults.push(Fault::new("refused", "the account of a key cannot be read or written"));
            }
            let answers = answers.into_iter().chain(iter::repeat(Err(why)));
            for (ticket, answer) in tickets.by_ref().take(some.len()).zip(answers) {
                self.quotas.ledger.answered(ticket, self.sent_at, answer, (self.quotas.now)());
            }
        }
        faults
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for ticket in self.tickets.drain(..) {
            self.quotas.ledger.answered(ticket, self.sent_at, Err(Lost::Unanswered), (self.quotas.now)());
        }
    }
}

fn command(names: &Names, replica: &str, questions: &[Question]) -> Command {
    let accounts = questions.iter().map(|question| names.quota(&question.key));
    arguments(replica, questions).into_iter().fold(Command::script(&QUOTA, accounts), Command::arg)
}

/// Behind the keys, as the script wants them.
pub fn arguments(replica: &str, questions: &[Question]) -> Vec<Bytes> {
    let mut all = vec![Bytes::copy_from_slice(replica.as_bytes())];
    let number = |number: u64| Bytes::from(number.min(WHOLE_MAX).to_string());
    for Question { sequence, limits, returns, need, want, share, .. } in questions {
        all.extend([*sequence, *need, *want, *share, limits.len() as u64].map(number));
        for Asked { field, maximum } in limits.iter() {
            all.extend([field.to_string().into(), number(*maximum)]);
        }
        let windows = returns.as_ref().map_or(&[][..], |returns| &returns.windows);
        all.push(number(windows.len() as u64));
        for (field, began) in windows {
            all.extend([field.to_string().into(), number(*began)]);
        }
        all.push(number(returns.as_ref().map_or(0, |returns| returns.count)));
    }
    all
}

/// What the script answers for these questions.
///
/// # Errors
/// It is no answer to them.
pub fn read(questions: &[Question], answer: &Value) -> Result<Vec<Result<Answer, Lost>>, Fault> {
    let Value::Array(answers) = answer else { return Err(unexpected(answer)) };
    if answers.len() != questions.len() {
        return Err(unexpected(&Value::Nil));
    }
    let one = |(question, answer): (&Question, &Value)| {
        if matches!(answer, Value::BulkString(_)) {
            return Ok(Err(Lost::Refused));
        }
        let Value::Array(numbers) = answer else { return Err(unexpected(answer)) };
        let whole = |number: &Value| match number {
            Value::Int(number) => u64::try_from(*number).map_err(|_| unexpected(&Value::Nil)),
            other => Err(unexpected(other)),
        };
        let numbers = numbers.iter().map(whole).collect::<Result<Vec<u64>, Fault>>()?;
        match numbers.split_first() {
            // Stale.
            None => Ok(Err(Lost::Unanswered)),
            Some((granted, limits)) if limits.len() == 3 * question.limits.len() => {
                let stands = |limit: &[u64]| Stands { window: limit[0], used: limit[1], left_ms: limit[2] };
                Ok(Ok(Answer { granted: *granted, limits: limits.chunks(3).map(stands).collect() }))
            }
            Some(_) => Err(unexpected(&Value::Nil)),
        }
    };
    questions.iter().zip(answers).map(one).collect()
}
