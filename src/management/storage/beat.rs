//! The beat: a sign of life of this replica and of Redis alike, and what others have purged meanwhile.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use redis::Value;

use super::{
    super::resolver::Resolve,
    command::{Command, Script, script},
    connection::unexpected,
    names::Names,
    servers::{Lane, Servers},
};
use crate::{
    storage::{Key, Purged, Storage},
    telemetry::fault::Fault,
};

/// How long a replica counts after its last beat.
const COUNTS_MS: u64 = 3000;
/// As many purges as Redis keeps; who has missed more does not know what.
const PURGES_MAX: i64 = 1000;

static BEAT: Script = script!("beat");

/// What a replica has seen of purges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgesSeen(Option<Seen>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// What tells one list from the next, which begins anew where Redis has lost it.
    epoch: Vec<u8>,
    number: i64,
}

/// The replica's own purges, as the list counts them: it has done them itself by then. What it has kept since, it would have to
/// ask for once more.
#[derive(Debug, Default)]
pub struct OwnPurges(Mutex<HashSet<(Vec<u8>, i64)>>);

impl OwnPurges {
    /// By the answer of the script that has written one down.
    pub fn note(&self, answer: &Value) {
        let Value::Array(parts) = answer else { return };
        let [Value::Int(number), Value::BulkString(epoch)] = parts.as_slice() else { return };
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who forgets them hears of them.
        if own.len() >= PURGES_MAX as usize {
            own.clear();
        }
        own.insert((epoch.clone(), *number));
    }

    fn has(&self, epoch: &[u8], number: i64) -> bool {
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.contains(&(epoch.to_vec(), number))
    }

    /// Those that lie behind, in this list or in one that is lost, do not come again.
    fn forget(&self, seen: &Seen) {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|(epoch, number)| *epoch == seen.epoch && *number > seen.number);
    }
}

/// Beats once. Returns how many replicas there are.
pub async fn beat<R: Resolve>(
    servers: &Servers<R>,
    names: &Names,
    replica: &str,
    storage: &Storage,
    seen: &mut PurgesSeen,
    own: &OwnPurges,
) -> Result<usize, Fault> {
    let mut commands = vec![Command::script(&BEAT, [names.replicas()]).arg(replica.to_owned()).number(COUNTS_MS)];
    let hears = storage.hears_of_purges();
    if hears {
        commands.push(Command::new("HMGET", names.purges()).arg("e").arg("n"));
    }
    let mut answers = servers.send(Lane::Questions, commands).await.into_iter();
    let replicas = match answers.next().unwrap_or(Ok(Value::Nil))? {
        Value::Int(replicas) => usize::try_from(replicas).unwrap_or_default().max(1),
        other => return Err(unexpected(&other)),
    };
    if hears {
        let now = seen_of(&answers.next().unwrap_or(Ok(Value::Nil))?)?;
        for purged in missed(servers, names, seen, &now, own).await? {
            storage.purged(&purged);
        }
        now.0.iter().for_each(|now| own.forget(now));
        *seen = now;
    }
    Ok(replicas)
}

fn seen_of(answer: &Value) -> Result<PurgesSeen, Fault> {
    let Value::Array(fields) = answer else { return Err(unexpected(answer)) };
    match fields.as_slice() {
        [Value::BulkString(epoch), Value::BulkString(number)] => {
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            let number = number.ok_or_else(|| unexpected(&Value::Nil))?;
            Ok(PurgesSeen(Some(Seen { epoch: epoch.clone(), number })))
        }
        // None yet, or none any more.
        [_, _] => Ok(PurgesSeen(Some(Seen { epoch: Vec::new(), number: 0 }))),
        _ => Err(unexpected(answer)),
    }
}

/// What others have purged since the last look.
async fn missed<R: Resolve>(
    servers: &Servers<R>,
    names: &Names,
    before: &PurgesSeen,
    now: &PurgesSeen,
    own: &OwnPurges,
) -> Result<Vec<Purged>, Fault> {
    let (Some(before), Some(now)) = (&before.0, &now.0) else { return Ok(Vec::new()) };
    let numbers = match Missed::of(before, now) {
        Missed::None => return Ok(Vec::new()),
        Missed::Unknown => return Ok(vec![Purged::Everything]),
        Missed::Numbers(numbers) => numbers.filter(|number| !own.has(&now.epoch, *number)).collect::<Vec<_>>(),
    };
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let command = numbers.iter().fold(Command::new("HMGET", names.purges()), |command, number| command.number(number));
    let answer = servers.send(Lane::Questions, vec![command]).await.pop().unwrap_or(Ok(Value::Nil))?;
    let Value::Array(scopes) = answer else { return Err(unexpected(&answer)) };
    let scope = |scope: Value| match scope {
        Value::BulkString(scope) => Purged::Scope(Key::from_bytes(&scope)),
        _ => Purged::Everything,
    };
    Ok(scopes.into_iter().map(scope).collect())
}

/// How much of the list there is to read.
#[derive(Debug, PartialEq, Eq)]
enum Missed {
    None,
    Numbers(std::ops::RangeInclusive<i64>),
    Unknown,
}

impl Missed {
    fn of(before: &Seen, now: &Seen) -> Self {
        let is_first = before.number == 0 && before.epoch.is_empty();
        match now.number.saturating_sub(before.number) {
            0 if before.epoch == now.epoch => Self::None,
            1..=PURGES_MAX if before.epoch == now.epoch || is_first => Self::Numbers(before.number + 1..=now.number),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_purges_are_known_until_the_list_has_passed_them() {
        let own = OwnPurges::default();
        let told = |number, epoch: &str| Value::Array(vec![Value::Int(number), Value::BulkString(epoch.into())]);
        let knows = |numbers: &[i64]| numbers.iter().all(|number| own.has(b"a", *number));
        for number in 1..4 {
            own.note(&told(number, "a"));
        }
        own.note(&told(1, "b"));
        for nonsense in [Value::Int(5), Value::Nil, Value::Array(vec![Value::Int(5)]), Value::Array(vec![])] {
            own.note(&nonsense);
        }
        assert!(knows(&[1, 2, 3]) && own.has(b"b", 1) && !own.has(b"a", 4) && !own.has(b"b", 2));
        own.forget(&Seen { epoch: b"a".to_vec(), number: 2 });
        assert!(knows(&[3]) && !knows(&[1]) && !knows(&[2]) && !own.has(b"b", 1), "one list at a time");
        (0..PURGES_MAX * 3).for_each(|number| own.note(&told(number, "a")));
        assert!(own.0.lock().expect("whole").len() <= PURGES_MAX as usize);
    }

    #[test]
    fn what_was_missed_is_known_or_it_is_everything() {
        let seen = |epoch: &str, number| Seen { epoch: epoch.into(), number };
        for (before, now, expected) in [
            (seen("", 0), seen("", 0), Missed::None),
            (seen("", 0), seen("a", 2), Missed::Numbers(1..=2)),
            (seen("a", 2), seen("a", 2), Missed::None),
            (seen("a", 2), seen("a", 3), Missed::Numbers(3..=3)),
            (seen("a", 2), seen("a", 1002), Missed::Numbers(3..=1002)),
            (seen("a", 2), seen("a", 1003), Missed::Unknown),
            (seen("a", 2), seen("a", 1), Missed::Unknown),
            (seen("a", 2), seen("b", 2), Missed::Unknown),
            (seen("a", 2), seen("b", 3), Missed::Unknown),
            (seen("a", 2), seen("", 0), Missed::Unknown),
        ] {
            assert_eq!(Missed::of(&before, &now), expected, "{before:?} {now:?}");
        }
    }
}
