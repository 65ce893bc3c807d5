//! The operations of [`Storage`](crate::storage::Storage) as commands, and their answers.
//!
//! ```text
//! a value in Redis: | '1' | number of marks | 8 bytes for each | what was put |
//! ```

use std::time::Duration;

use bytes::{Buf, Bytes};
use redis::Value;
use tokio::time::Instant;

use super::{
    super::{resolver::Resolve, within::within},
    beat::OwnPurges,
    command::{Command, Script, script},
    connection::unexpected,
    counts::Counts,
    names::Names,
    servers::{Lane, Servers},
};
use crate::{
    storage::{Answer, Asked, Key, Marks, Operation, SCOPES_MAX, Storage, Unavailable, WAIT_MAX, new_mark},
    telemetry::fault::Fault,
};

/// Of the form of values. One that this version does not know is none.
const FORM: u8 = b'1';

/// Purges that are sent together, late.
const LATE_MAX: usize = 64;
/// Of one purge: the scope's mark, and word of it to others.
const PURGE_COMMANDS: usize = 2;

/// Deletes a lock that is still this one's.
static RELEASE: Script = script!("release");
/// Writes down which scope was purged, for every replica to see.
static PURGE: Script = script!("purge");

/// Has a batch of operations done, and tells whoever asked. Returns every fault that there was.
pub async fn answer<R: Resolve>(
    servers: &Servers<R>,
    names: &Names,
    counts: &Counts,
    storage: &Storage,
    own: &OwnPurges,
    batch: Vec<Asked>,
) -> Vec<Fault> {
    let (late, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|asked| asked.asked_at.elapsed() >= WAIT_MAX);
    late.into_iter().for_each(|asked| asked.reply.send(Err(Unavailable::Late)));
    let mut commands = Vec::new();
    let mut sizes = Vec::with_capacity(batch.len());
    for asked in &batch {
        let before = commands.len();
        commands_of(&asked.operation, names, servers.is_one(), &mut commands);
        sizes.push(commands.len() - before);
    }
    let began = Instant::now();
    let Some(answers) = within(WAIT_MAX, servers.send(Lane::Values, commands)).await else {
        counts.failed("timeout");
        batch.into_iter().for_each(|asked| asked.reply.send(Err(Unavailable::Late)));
        return Vec::new();
    };
    counts.answered(began.elapsed());
    let mut answers = answers.into_iter();
    let mut faults = Vec::new();
    for (asked, size) in batch.into_iter().zip(sizes) {
        let answers: Result<Vec<Value>, Fault> = answers.by_ref().take(size).collect::<Vec<_>>().into_iter().collect();
        if let (Operation::Purge { .. }, Ok(answers)) = (&asked.operation, &answers) {
            answers.iter().for_each(|answer| own.note(answer));
        }
        match answers.and_then(|answers| read(&asked.operation, answers)) {
            // A purge of what was looked for may have failed meanwhile.
            Ok(_) if storage.is_barred(&asked.operation) => asked.reply.send(Err(Unavailable::Away)),
            Ok(answer) => asked.reply.send(Ok(answer)),
            Err(fault) => {
                let away = super::connection::is_loss(&fault);
                asked.reply.send(Err(if away { Unavailable::Away } else { Unavailable::Refused }));
                faults.push(fault);
            }
        }
    }
    faults
}

/// `is_one`: keys of one command may be any.
fn commands_of(operation: &Operation, names: &Names, is_one: bool, commands: &mut Vec<Command>) {
    match operation {
        Operation::Get { key, scopes } if is_one => {
            let command = Command::new("MGET", names.value(key));
            commands.push(scopes.iter().fold(command, |command, scope| command.arg(names.scope(scope))));
        }
        Operation::Get { key, scopes } => {
            commands.push(Command::new("GET", names.value(key)));
            commands.extend(scopes.iter().map(|scope| Command::new("GET", names.scope(scope))));
        }
        Operation::Put { key, value, time_to_live, marks } => {
            let command = Command::new("SET", names.value(key)).arg(packed(marks, value));
            commands.push(command.arg("PX").number(ms(*time_to_live)));
        }
        Operation::Delete { key } => commands.push(Command::new("DEL", names.value(key))),
        Operation::Add { key, value, time_to_live } => {
            let command = Command::new("SET", names.lock(key)).arg(value.clone());
            commands.push(command.arg("NX").arg("PX").number(ms(*time_to_live)));
        }
        Operation::Release { key, value } => {
            commands.push(Command::script(&RELEASE, [names.lock(key)]).arg(value.clone()));
        }
        Operation::Purge { scope, time_to_live, .. } => purge(scope, *time_to_live, names, commands),
    }
}

fn purge(scope: &Key, time_to_live: Duration, names: &Names, commands: &mut Vec<Command>) {
    let mark = Bytes::copy_from_slice(&new_mark().to_be_bytes());
    commands.push(Command::new("SET", names.scope(scope)).arg(mark).arg("PX").number(ms(time_to_live)));
    let epoch = Bytes::copy_from_slice(&new_mark().to_be_bytes());
    let scope = Bytes::copy_from_slice(scope.as_bytes());
    commands.push(Command::script(&PURGE, [names.purges()]).arg(scope).arg(epoch));
}

/// Sends the purges that were not taken when they were asked for. Returns every fault that there was; what it is about waits on.
pub async fn send_late<R: Resolve>(
    servers: &Servers<R>,
    names: &Names,
    counts: &Counts,
    storage: &Storage,
    own: &OwnPurges,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for some in storage.late_purges().chunks(LATE_MAX) {
        let mut commands = Vec::new();
        some.iter().for_each(|late| purge(&late.scope, late.time_to_live, names, &mut commands));
        let Some(answers) = within(WAIT_MAX, servers.send(Lane::Values, commands)).await else {
            counts.failed("timeout");
            faults.push(Fault::new("timeout", format!("no answer in {WAIT_MAX:?}")));
            return faults;
        };
        let mut answers = answers.into_iter();
        for late in some {
            match answers.by_ref().take(PURGE_COMMANDS).collect::<Result<Vec<Value>, Fault>>() {
                Ok(answers) => {
                    answers.iter().for_each(|answer| own.note(answer));
                    storage.sent(late);
                }
                Err(fault) => faults.push(fault),
            }
        }
    }
    faults
}

/// Redis has no time below a millisecond.
fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 16).max(1)
}

fn packed(marks: &Marks, value: &Bytes) -> Bytes {
    let mut packed = Vec::with_capacity(2 + 8 * marks.0.len() + value.len());
    packed.extend([FORM, marks.0.len() as u8]);
    marks.0.iter().for_each(|mark| packed.extend(mark.to_be_bytes()));
    packed.extend_from_slice(value);
    packed.into()
}

/// What was put, where its scopes still have the marks that it was put with.
fn unpacked(packed: Vec<u8>, marks: &Marks) -> Option<Bytes> {
    let mut packed = Bytes::from(packed);
    if packed.try_get_u8() != Ok(FORM) || packed.try_get_u8() != Ok(marks.0.len() as u8) {
        return None;
    }
    marks.0.iter().all(|mark| packed.try_get_u64() == Ok(*mark)).then_some(packed)
}

fn read(operation: &Operation, answers: Vec<Value>) -> Result<Answer, Fault> {
    let mut answers = answers.into_iter();
    let first = answers.next().unwrap_or_default();
    match (operation, first) {
        (Operation::Get { scopes, .. }, Value::Array(all)) if all.len() == 1 + scopes.len() => found(all),
        (Operation::Get { scopes, .. }, first) if answers.len() == scopes.len() => {
            found([first].into_iter().chain(answers).collect())
        }
        (Operation::Put { .. } | Operation::Purge { .. }, Value::Okay) => Ok(Answer::Done),
        (Operation::Delete { .. } | Operation::Release { .. }, Value::Int(_)) => Ok(Answer::Done),
        (Operation::Add { .. }, Value::Okay) => Ok(Answer::Added(true)),
        (Operation::Add { .. }, Value::Nil) => Ok(Answer::Added(false)),
        (_, other) => Err(unexpected(&other)),
    }
}

/// A value and the marks of its scopes.
fn found(all: Vec<Value>) -> Result<Answer, Fault> {
    let mut all = all.into_iter();
    let value = all.next().unwrap_or_default();
    let mut marks = Marks(Vec::with_capacity(SCOPES_MAX));
    for mark in all {
        marks.0.push(match mark {
            Value::Nil => 0,
            Value::BulkString(mark) => mark.try_into().map(u64::from_be_bytes).map_err(|_| unexpected(&Value::Nil))?,
            other => return Err(unexpected(&other)),
        });
    }
    let value = match value {
        Value::Nil => None,
        Value::BulkString(packed) => unpacked(packed, &marks),
        other => return Err(unexpected(&other)),
    };
    Ok(Answer::Found { value, marks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_with_the_marks_that_it_was_put_with() {
        let (marks, value) = (Marks(vec![7, 0]), Bytes::from_static(b"body"));
        let stored = packed(&marks, &value).to_vec();
        assert_eq!(unpacked(stored.clone(), &marks), Some(value));
        for other in [Marks(vec![7, 1]), Marks(vec![0, 7]), Marks(vec![7]), Marks::default()] {
            assert_eq!(unpacked(stored.clone(), &other), None, "{other:?}");
        }
        for nonsense in [&b""[..], b"1", b"2\x00body", b"1\x02short"] {
            assert_eq!(unpacked(nonsense.to_vec(), &marks), None, "{nonsense:?}");
        }
    }

    #[test]
    fn what_a_server_never_answers_is_no_answer() {
        let get =
            Operation::Get { key: crate::storage::Key::of(&[b"k"]), scopes: vec![crate::storage::Key::of(&[b"s"])] };
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        for nonsense in [
            vec![],
            vec![Value::Nil],
            vec![Value::Int(1), Value::Nil],
            vec![Value::Nil, bulk(b"short")],
            vec![Value::Array(vec![Value::Nil])],
            vec![Value::Array(vec![Value::Nil, Value::Okay])],
        ] {
            assert_eq!(read(&get, nonsense.clone()).expect_err("nonsense").reason, "malformed_answer", "{nonsense:?}");
        }
        let here = read(&get, vec![bulk(b"1\x01\0\0\0\0\0\0\0\x05x"), bulk(&5_u64.to_be_bytes())]);
        let value = Some(Bytes::from_static(b"x"));
        assert_eq!(here, Ok(Answer::Found { value, marks: Marks(vec![5]) }));
    }
}
