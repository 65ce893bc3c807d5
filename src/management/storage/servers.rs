//! Where the data is, connected: one server, or all masters of a Cluster.
//!
//! Nothing is sent twice that may have been done. What a server says it did not do, since the key is elsewhere (`MOVED`, `ASK`)
//! or it does not know the script (`NOSCRIPT`), is sent on to where it will be.

use std::sync::Arc;

use redis::{Pipeline, ServerErrorKind, Value};
use tokio::task::JoinSet;

use super::{
    super::resolver::Resolve,
    cluster::{self, Cluster},
    command::Command,
    connection::{Connection, Login, refusal},
    counts::Counts,
    sentinels::Sentinels,
};
use crate::{
    config::shared_storage::{Redis, Servers as Named},
    document::address::Endpoint,
    telemetry::fault::Fault,
};

/// What is large does not stand in the way of what is urgent: each has connections of its own.
#[derive(Clone, Copy, Debug)]
pub enum Lane {
    Questions,
    Values,
}

/// Everything that opening a connection takes.
pub struct Access<R> {
    pub redis: Arc<Redis>,
    pub resolver: Arc<R>,
    pub counts: Arc<Counts>,
}

impl<R> Clone for Access<R> {
    fn clone(&self) -> Self {
        Self { redis: self.redis.clone(), resolver: self.resolver.clone(), counts: self.counts.clone() }
    }
}

impl<R: Resolve> Access<R> {
    pub async fn open(&self, endpoint: &Endpoint, db: u32) -> Result<Connection, Fault> {
        let Redis { username, password, tls, .. } = &*self.redis;
        let login = Login { username, password: password.expose(), db, tls: tls.as_ref() };
        Connection::open(endpoint, login, &*self.resolver, &self.counts).await
    }

    pub async fn node(&self, endpoint: &Endpoint) -> Result<Node, Fault> {
        let db = self.redis.db;
        let (questions, values) = tokio::try_join!(self.open(endpoint, db), self.open(endpoint, db))?;
        Ok(Node { endpoint: endpoint.clone(), questions, values })
    }
}

/// One server.
pub struct Node {
    pub endpoint: Endpoint,
    questions: Connection,
    values: Connection,
}

impl Node {
    /// One answer for each command, in order. `Err`: the connection is lost.
    pub async fn send(&self, lane: Lane, commands: &[Command]) -> Result<Vec<Value>, Fault> {
        let connection = self.connection(lane);
        let mut packed = Pipeline::with_capacity(commands.len());
        for command in commands {
            packed.add_command(command.packed());
        }
        let mut answers = connection.send(&packed).await?;
        let is_unknown = |answer: &Value| match answer {
            Value::ServerError(error) => error.kind() == Some(ServerErrorKind::NoScript),
            _ => false,
        };
        let unknown: Vec<usize> = (0..answers.len()).filter(|at| is_unknown(&answers[*at])).collect();
        if !unknown.is_empty() {
            packed.clear();
            for at in &unknown {
                packed.add_command(commands[*at].packed_with_text());
            }
            let again = connection.send(&packed).await?;
            unknown.into_iter().zip(again).for_each(|(at, answer)| answers[at] = answer);
        }
        Ok(answers)
    }

    /// One command about a key that is on its way to this server.
    pub async fn send_asking(&self, lane: Lane, command: &Command) -> Result<Value, Fault> {
        let mut packed = Pipeline::new();
        packed.cmd("ASKING").add_command(command.packed_with_text());
        let answers = self.connection(lane).send(&packed).await?;
        answers.into_iter().nth(1).ok_or_else(|| Fault::new("malformed_answer", "no answer"))
    }

    fn connection(&self, lane: Lane) -> &Connection {
        match lane {
            Lane::Questions => &self.questions,
            Lane::Values => &self.values,
        }
    }
}

/// All that there are, and how they were found.
pub struct Servers<R> {
    layout: Layout<R>,
    sentinels: Option<Sentinels<R>>,
}

enum Layout<R> {
    One(Node),
    Cluster(Cluster<R>),
}

impl<R: Resolve> Servers<R> {
    /// `learned`: nodes of a Cluster that were there before. Those that the configuration names may have gone meanwhile.
    pub async fn connect(access: &Access<R>, learned: &[Endpoint]) -> Result<Self, Fault> {
        match &access.redis.servers {
            Named::Sentinel { .. } => {
                let sentinels = Sentinels::new(access.clone());
                let node = access.node(&sentinels.master().await?).await?;
                is_master(&node).await?;
                Ok(Self { layout: Layout::One(node), sentinels: Some(sentinels) })
            }
            Named::Redis(addresses) => {
                let mut asked = JoinSet::new();
                for address in addresses.iter().chain(learned) {
                    let (access, address) = (access.clone(), address.clone());
                    asked.spawn(async move { Self::from_one(&access, &address).await });
                }
                let mut fault = Fault::new("failed", "no address");
                while let Some(found) = asked.join_next().await {
                    match found {
                        Ok(Ok(servers)) => return Ok(servers),
                        Ok(Err(why)) => fault = why,
                        Err(error) => fault = Fault::new("failed", error.to_string()),
                    }
                }
                Err(fault)
            }
        }
    }

    /// Whoever is asked says itself whether it is one of a Cluster.
    async fn from_one(access: &Access<R>, address: &Endpoint) -> Result<Self, Fault> {
        let connection = access.open(address, 0).await?;
        let layout = match cluster::slots(&connection, address).await? {
            None => Layout::One(access.node(address).await?),
            Some(_) if access.redis.db != 0 => {
                let text = format!(
                    "{address} is of a Redis Cluster, which has no database {}: `db` must be 0",
                    access.redis.db
                );
                return Err(Fault::new("cluster_db", text));
            }
            Some(slots) => Layout::Cluster(Cluster::open(access.clone(), slots).await?),
        };
        Ok(Self { layout, sentinels: None })
    }

    /// A metric's label.
    pub fn kind(&self) -> &'static str {
        match (&self.layout, &self.sentinels) {
            (Layout::Cluster(_), _) => "cluster",
            (Layout::One(_), Some(_)) => "sentinel",
            (Layout::One(_), None) => "redis",
        }
    }

    /// Keys of one command may be any.
    pub fn is_one(&self) -> bool {
        matches!(self.layout, Layout::One(_))
    }

    /// Of a Cluster, else none.
    pub fn nodes(&self) -> Vec<Endpoint> {
        match &self.layout {
            Layout::One(_) => Vec::new(),
            Layout::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        match &self.layout {
            Layout::One(node) => node.endpoint.to_string(),
            Layout::Cluster(cluster) => {
                let nodes: Vec<String> = cluster.nodes().iter().map(ToString::to_string).collect();
                nodes.join(", ")
            }
        }
    }

    /// One answer for each command, in order; each is sent where its key is.
    pub async fn send(&self, lane: Lane, commands: Vec<Command>) -> Vec<Result<Value, Fault>> {
        match &self.layout {
            Layout::Cluster(cluster) => cluster.send(lane, commands).await,
            Layout::One(node) => match node.send(lane, &commands).await {
                Ok(answers) => answers.into_iter().map(sound).collect(),
                Err(fault) => commands.iter().map(|_| Err(fault.clone())).collect(),
            },
        }
    }

    /// Returns when the sentinels have another master than this one.
    pub async fn moved_on(&self) -> Fault {
        match (&self.layout, &self.sentinels) {
            (Layout::One(node), Some(sentinels)) => sentinels.until_another_than(&node.endpoint).await,
            _ => std::future::pending().await,
        }
    }
}

/// An answer that is no error of the server.
pub fn sound(answer: Value) -> Result<Value, Fault> {
    match answer {
        Value::ServerError(error) => Err(refusal(&error)),
        answer => Ok(answer),
    }
}

/// What sentinels name may have lost its place a moment ago.
async fn is_master(node: &Node) -> Result<(), Fault> {
    let answers = node.send(Lane::Questions, &[Command::alone("ROLE")]).await?;
    let role = match answers.into_iter().next().map(sound) {
        Some(Ok(Value::Array(role))) => role.into_iter().next(),
        // Whoever may not ask finds out when it writes.
        Some(Err(fault)) if fault.reason == "no_permission" => return Ok(()),
        Some(Err(fault)) => return Err(fault),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(Fault::new("not_master", format!("{} is no master, whatever the sentinels say", node.endpoint))),
    }
}
