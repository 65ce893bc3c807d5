//! The masters of a Redis Cluster, and which has which slots.
//!
//! Not the library's own client for Clusters: that sends again what got no answer, and a question about a quota must never be
//! asked twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{Pipeline, ServerError, ServerErrorKind, Value};
use tokio::{sync::Notify, task::JoinSet};

use super::{
    super::{resolver::Resolve, within::within},
    command::{Command, SLOTS},
    connection::{Connection, unexpected},
    servers::{Access, Lane, Node, sound},
};
use crate::{document::address::Endpoint, telemetry::fault::Fault};

/// How often one command is sent on.
const REDIRECTS_MAX: usize = 5;
/// Masters of one Cluster.
const NODES_MAX: usize = 1024;
/// What has no answer by then is given up: sooner than whoever asks does, so that the others' answers come in time.
const NODE_ANSWER_MAX: Duration = Duration::from_millis(200);
/// A server that has answered nothing for so long is lost.
const NODE_SILENCE_MAX: Duration = Duration::from_millis(400);

/// Why there is no answer about a key: the server that has it is lost, and the others are not.
pub const NODE_LOST: &str = "node_lost";

/// First and last slot, and who has them.
pub type Slots = Vec<(u16, u16, Endpoint)>;

pub struct Cluster<R> {
    access: Access<R>,
    map: Mutex<Map>,
    /// One of the servers has been lost.
    lost: Notify,
}

struct Map {
    nodes: Vec<Arc<Member>>,
    /// By slot: a place in `nodes`.
    owners: Vec<Option<u16>>,
}

/// One server, as long as it answers.
struct Member {
    endpoint: Endpoint,
    node: Option<Node>,
    is_lost: AtomicBool,
    /// When the first of the questions was given up that have had no answer since.
    silent_since: Mutex<Option<Instant>>,
}

/// A command that has yet to be answered, by its place among all.
struct Open {
    at: usize,
    node: Arc<Member>,
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
    /// Connects to all of them. Those that cannot be reached are lost from the beginning, as long as there are others.
    pub async fn open(access: Access<R>, slots: Slots) -> Result<Self, Fault> {
        let mut opening = JoinSet::new();
        let mut known: Vec<Endpoint> = Vec::new();
        for (_, _, endpoint) in &slots {
            if known.contains(endpoint) || known.len() >= NODES_MAX {
                continue;
            }
            known.push(endpoint.clone());
            let (access, endpoint) = (access.clone(), endpoint.clone());
            opening.spawn(async move { (access.node(&endpoint).await, endpoint) });
        }
        let mut map = Map { nodes: Vec::new(), owners: vec![None; usize::from(SLOTS)] };
        let mut fault = None;
        while let Some(opened) = opening.join_next().await {
            let (node, endpoint) = opened.map_err(|error| Fault::new("failed", error.to_string()))?;
            let node = node.map_err(|why| fault = Some(why)).ok();
            map.nodes.push(Arc::new(Member::new(endpoint, node)));
        }
        if let Some(fault) = fault.filter(|_| map.nodes.iter().all(|member| member.is_lost())) {
            return Err(fault);
        }
        for (first, last, endpoint) in slots {
            let owner = map.place_of(&endpoint);
            map.owners[usize::from(first)..=usize::from(last)].fill(owner);
        }
        Ok(Self { access, map: Mutex::new(map), lost: Notify::new() })
    }

    /// Servers that do not answer, of so many.
    pub fn lost(&self) -> (usize, usize) {
        let map = self.map();
        (map.nodes.iter().filter(|member| member.is_lost()).count(), map.nodes.len())
    }

    /// Returns when there is one.
    pub async fn until_lost(&self) {
        while self.lost().0 == 0 {
            self.lost.notified().await;
        }
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
            for (at, answer) in self.ask(lane, &commands, open).await {
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

    /// All servers at once, each with all of its commands at once.
    async fn ask(&self, lane: Lane, commands: &Arc<[Command]>, open: Vec<Open>) -> Vec<(usize, Result<Value, Fault>)> {
        let mut by_server: BTreeMap<usize, (Arc<Member>, Vec<usize>)> = BTreeMap::new();
        let mut asked = JoinSet::new();
        for Open { at, node, is_asking } in open {
            if is_asking {
                let command = commands[at].clone();
                asked.spawn(async move { vec![(at, node.ask_asking(lane, &command).await)] });
            } else {
                by_server.entry(Arc::as_ptr(&node).addr()).or_insert_with(|| (node, Vec::new())).1.push(at);
            }
        }
        for (node, places) in by_server.into_values() {
            let commands = commands.clone();
            asked.spawn(async move {
                let mine: Vec<Command> = places.iter().map(|at| commands[*at].clone()).collect();
                match node.ask(lane, &mine).await {
                    Ok(answers) => places.into_iter().zip(answers.into_iter().map(Ok)).collect(),
                    Err(fault) => places.into_iter().map(|at| (at, Err(fault.clone()))).collect::<Vec<_>>(),
                }
            });
        }
        let answers: Vec<_> = asked.join_all().await.into_iter().flatten().collect();
        if answers.iter().any(|(_, answer)| answer.as_ref().is_err_and(|fault| fault.reason == NODE_LOST)) {
            self.lost.notify_one();
        }
        answers
    }

    /// Who has the key, connected; and has the slot from now on, where it has moved for good.
    async fn follow(&self, elsewhere: &Elsewhere) -> Result<Arc<Member>, Fault> {
        let known = self.map().node(&elsewhere.endpoint);
        let node = match known {
            Some(node) => node,
            None => {
                let (endpoint, node) = (elsewhere.endpoint.clone(), self.access.node(&elsewhere.endpoint).await?);
                let opened = Arc::new(Member::new(endpoint, Some(node)));
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

impl Member {
    /// Without a connection it is lost.
    fn new(endpoint: Endpoint, node: Option<Node>) -> Self {
        Self { endpoint, is_lost: AtomicBool::new(node.is_none()), node, silent_since: Mutex::default() }
    }

    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    async fn ask(&self, lane: Lane, commands: &[Command]) -> Result<Vec<Value>, Fault> {
        let node = self.node()?;
        self.answered(within(NODE_ANSWER_MAX, node.send(lane, commands)).await)
    }

    /// One command about a key that is on its way there.
    async fn ask_asking(&self, lane: Lane, command: &Command) -> Result<Value, Fault> {
        let node = self.node()?;
        self.answered(within(NODE_ANSWER_MAX, node.send_asking(lane, command)).await)
    }

    fn node(&self) -> Result<&Node, Fault> {
        let node = self.node.as_ref().filter(|_| !self.is_lost());
        node.ok_or_else(|| self.lost("it is lost, and so are the keys that it has"))
    }

    /// One whose connection breaks, or that has been silent for too long, is lost from then on.
    fn answered<T>(&self, answer: Option<Result<T, Fault>>) -> Result<T, Fault> {
        let mut silent_since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_lost, why) = match answer {
            Some(Ok(answer)) => {
                *silent_since = None;
                return Ok(answer);
            }
            Some(Err(fault)) => (true, fault.text),
            None => {
                let since = silent_since.get_or_insert_with(Instant::now);
                (since.elapsed() + NODE_ANSWER_MAX >= NODE_SILENCE_MAX, format!("no answer in {NODE_ANSWER_MAX:?}"))
            }
        };
        if is_lost {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        Err(self.lost(&why))
    }

    fn lost(&self, why: &str) -> Fault {
        Fault::new(NODE_LOST, format!("{}: {why}", self.endpoint))
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Arc<Member>> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]?)).cloned()
    }

    fn node(&self, endpoint: &Endpoint) -> Option<Arc<Member>> {
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
