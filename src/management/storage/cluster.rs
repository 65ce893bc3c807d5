//! The masters of a Redis Cluster, and which has which slots.
//!
//! Not the library's own client for Clusters: that sends again what got no answer, and a question about a quota must never be
//! asked twice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{Pipeline, ServerError, ServerErrorKind, Value};
use tokio::task::JoinSet;

use super::{
    super::resolver::Resolve,
    command::{Command, SLOTS},
    connection::{Connection, unexpected},
    servers::{Access, Lane, Node, sound},
};
use crate::{document::address::Endpoint, telemetry::fault::Fault};

/// How often one command is sent on.
const REDIRECTS_MAX: usize = 5;
/// Masters of one Cluster.
const NODES_MAX: usize = 1024;

/// First and last slot, and who has them.
pub type Slots = Vec<(u16, u16, Endpoint)>;

pub struct Cluster<R> {
    access: Access<R>,
    map: Mutex<Map>,
}

struct Map {
    nodes: Vec<Arc<Node>>,
    /// By slot: a place in `nodes`.
    owners: Vec<Option<u16>>,
}

/// A command that has yet to be answered, by its place among all.
struct Open {
    at: usize,
    node: Arc<Node>,
    /// Its key is on its way there.
    is_asking: bool,
}

/// Who has what, as one server says it; `None`: it is no part of a Cluster.
pub async fn slots(connection: &Connection, address: &Endpoint) -> Result<Option<Slots>, Fault> {
    let mut question = Pipeline::new();
    question.cmd("CLUSTER").arg("SLOTS");
    let answer = connection.send(&question).await?.into_iter().next().unwrap_or_default();
    let ranges = match sound(answer) {
        Ok(Value::Array(ranges)) => ranges,
        Ok(other) => return Err(unexpected(&other)),
        // One that stands alone, or one whose operator lets nobody ask, says so.
        Err(fault) if matches!(fault.reason, "refused" | "no_permission") => return Ok(None),
        Err(fault) => return Err(fault),
    };
    if ranges.is_empty() {
        return Err(Fault::new("cluster_down", format!("{address} is of a Cluster where nobody has any slots")));
    }
    let read: Option<Slots> = ranges.iter().map(|range| range_of(range, address)).collect();
    read.map(Some).ok_or_else(|| unexpected(&Value::Nil))
}

impl<R: Resolve> Cluster<R> {
    /// Connects to all of them.
    pub async fn open(access: Access<R>, slots: Slots) -> Result<Self, Fault> {
        let mut opening = JoinSet::new();
        let mut known: Vec<Endpoint> = Vec::new();
        for (_, _, endpoint) in &slots {
            if known.contains(endpoint) || known.len() >= NODES_MAX {
                continue;
            }
            known.push(endpoint.clone());
            let (access, endpoint) = (access.clone(), endpoint.clone());
            opening.spawn(async move { access.node(&endpoint).await });
        }
        let mut map = Map { nodes: Vec::new(), owners: vec![None; usize::from(SLOTS)] };
        while let Some(opened) = opening.join_next().await {
            let node = opened.map_err(|error| Fault::new("failed", error.to_string()))??;
            map.nodes.push(Arc::new(node));
        }
        for (first, last, endpoint) in slots {
            let owner = map.place_of(&endpoint);
            map.owners[usize::from(first)..=usize::from(last)].fill(owner);
        }
        Ok(Self { access, map: Mutex::new(map) })
    }

    pub fn nodes(&self) -> Vec<Endpoint> {
        self.map().nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    pub async fn send(&self, lane: Lane, commands: Vec<Command>) -> Vec<Result<Value, Fault>> {
        let commands: Arc<[Command]> = commands.into();
        let nobody = || Fault::new("cluster_down", "nobody in the Cluster has the slot of a key");
        let mut answers: Vec<Result<Value, Fault>> = commands.iter().map(|_| Err(nobody())).collect();
        let first = |(at, command): (usize, &Command)| {
            Some(Open { at, node: self.map().owner(command.slot())?, is_asking: false })
        };
        let mut open: Vec<Open> = commands.iter().enumerate().filter_map(first).collect();
        for _ in 0..=REDIRECTS_MAX {
            if open.is_empty() {
                break;
            }
            let mut moved = Vec::new();
            for (at, answer) in ask(lane, &commands, open).await {
                if let Ok(Value::ServerError(error)) = &answer
                    && let Some(elsewhere) = Elsewhere::of(error)
                {
                    moved.push((at, elsewhere));
                }
                answers[at] = answer.and_then(sound);
            }
            open = Vec::new();
            for (at, elsewhere) in moved {
                match self.follow(&elsewhere).await {
                    Ok(node) => open.push(Open { at, node, is_asking: elsewhere.is_asking }),
                    Err(fault) => answers[at] = Err(fault),
                }
            }
        }
        answers
    }

    /// Who has the key, connected; and has the slot from now on, where it has moved for good.
    async fn follow(&self, elsewhere: &Elsewhere) -> Result<Arc<Node>, Fault> {
        let known = self.map().node(&elsewhere.endpoint);
        let node = match known {
            Some(node) => node,
            None => {
                let opened = Arc::new(self.access.node(&elsewhere.endpoint).await?);
                let mut map = self.map();
                if map.nodes.len() >= NODES_MAX {
                    return Err(Fault::new("cluster_down", "too many servers"));
                }
                map.nodes.push(opened.clone());
                opened
            }
        };
        if !elsewhere.is_asking {
            let mut map = self.map();
            let owner = map.place_of(&elsewhere.endpoint);
            map.owners[usize::from(elsewhere.slot)] = owner;
        }
        Ok(node)
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All servers at once, each with all of its commands at once.
async fn ask(lane: Lane, commands: &Arc<[Command]>, open: Vec<Open>) -> Vec<(usize, Result<Value, Fault>)> {
    let mut by_server: BTreeMap<usize, (Arc<Node>, Vec<usize>)> = BTreeMap::new();
    let mut asked = JoinSet::new();
    for Open { at, node, is_asking } in open {
        if is_asking {
            let commands = commands.clone();
            asked.spawn(async move { vec![(at, node.send_asking(lane, &commands[at]).await)] });
        } else {
            by_server.entry(Arc::as_ptr(&node).addr()).or_insert_with(|| (node, Vec::new())).1.push(at);
        }
    }
    for (node, places) in by_server.into_values() {
        let commands = commands.clone();
        asked.spawn(async move {
            let mine: Vec<Command> = places.iter().map(|at| commands[*at].clone()).collect();
            match node.send(lane, &mine).await {
                Ok(answers) => places.into_iter().zip(answers.into_iter().map(Ok)).collect(),
                Err(fault) => places.into_iter().map(|at| (at, Err(fault.clone()))).collect::<Vec<_>>(),
            }
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]?)).cloned()
    }

    fn node(&self, endpoint: &Endpoint) -> Option<Arc<Node>> {
        self.nodes.iter().find(|node| node.endpoint == *endpoint).cloned()
    }

    fn place_of(&self, endpoint: &Endpoint) -> Option<u16> {
        let place = self.nodes.iter().position(|node| node.endpoint == *endpoint)?;
        u16::try_from(place).ok()
    }
}

/// Where a server says that a key is.
#[derive(Debug, PartialEq, Eq)]
struct Elsewhere {
    slot: u16,
    endpoint: Endpoint,
    is_asking: bool,
}

impl Elsewhere {
    fn of(error: &ServerError) -> Option<Self> {
        let is_asking = match error.kind() {
            Some(ServerErrorKind::Moved) => false,
            Some(ServerErrorKind::Ask) => true,
            _ => return None,
        };
        Self::read(error.details()?, is_asking)
    }

    /// `3999 127.0.0.1:6381`; IPv6 addresses stand there without brackets.
    fn read(details: &str, is_asking: bool) -> Option<Self> {
        let (slot, address) = details.split_once(' ')?;
        let slot = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = address.trim().rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        (!host.is_empty()).then_some(Self { slot, endpoint: Endpoint { host, port }, is_asking })
    }
}

/// `[first, last, [host, port, ...], replicas...]`. A server that does not know how it is reached means: as it was.
fn range_of(range: &Value, asked: &Endpoint) -> Option<(u16, u16, Endpoint)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else { return None };
    let slot = |slot: i64| u16::try_from(slot).ok().filter(|slot| *slot < SLOTS);
    let (first, last) = (slot(*first)?, slot(*last)?);
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) if !host.is_empty() && host != b"?" => String::from_utf8(host.clone()).ok()?,
        _ => asked.host.clone(),
    };
    let port = u16::try_from(*port).ok().filter(|port| *port > 0)?;
    (first <= last).then_some((first, last, Endpoint { host, port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_key_has_gone_is_read_and_nonsense_is_not() {
        let read = |details| Elsewhere::read(details, false).map(|e| (e.slot, e.endpoint.host, e.endpoint.port));
        assert_eq!(read("3999 127.0.0.1:6381"), Some((3999, "127.0.0.1".into(), 6381)));
        assert_eq!(read("0 ::1:6381"), Some((0, "::1".into(), 6381)));
        assert_eq!(read("1 redis.test:1"), Some((1, "redis.test".into(), 1)));
        for nonsense in ["", "1", "16384 a:1", "1 a:0", "1 a", "1 :1", "x a:1", "1 a:65536"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn ranges_are_read_and_nonsense_is_not() {
        let asked = Endpoint { host: "seed".into(), port: 1 };
        let text = |text: &str| Value::BulkString(text.into());
        let range = |first, last, host, port| {
            Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(vec![host, Value::Int(port)])])
        };
        let host_of = |range: &Value| range_of(range, &asked).map(|(_, _, endpoint)| endpoint.host);
        assert_eq!(host_of(&range(0, 5460, text("a"), 7000)), Some("a".into()));
        assert_eq!(host_of(&range(0, 5460, text(""), 7000)), Some("seed".into()));
        assert_eq!(host_of(&range(0, 5460, Value::Nil, 7000)), Some("seed".into()));
        for nonsense in
            [range(0, 16_384, text("a"), 1), range(5, 4, text("a"), 1), range(0, 1, text("a"), 0), Value::Nil]
        {
            assert_eq!(range_of(&nonsense, &asked), None, "{nonsense:?}");
        }
    }
}
