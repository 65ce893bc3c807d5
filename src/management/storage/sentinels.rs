//! Sentinels: who is asked which server is the master, and asked again while it serves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{Pipeline, Value};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    super::resolver::Resolve,
    connection::{Connection, Login, unexpected},
    servers::{Access, sound},
};
use crate::{
    config::shared_storage::{Redis, Servers as Named},
    document::address::Endpoint,
    telemetry::fault::Fault,
};

/// How often they are asked whether the master is still the same.
const ROUND: Duration = Duration::from_millis(500);
const ANSWER_MAX: Duration = Duration::from_millis(500);

pub struct Sentinels<R> {
    access: Access<R>,
    /// Those that have answered.
    connections: Arc<Mutex<HashMap<Endpoint, Arc<Connection>>>>,
}

impl<R> Clone for Sentinels<R> {
    fn clone(&self) -> Self {
        Self { access: self.access.clone(), connections: self.connections.clone() }
    }
}

impl<R: Resolve> Sentinels<R> {
    pub fn new(access: Access<R>) -> Self {
        Self { access, connections: Arc::default() }
    }

    /// What most of those say that answer: as soon as more than half of all agree, else when nobody is left to ask.
    pub async fn master(&self) -> Result<Endpoint, Fault> {
        let Named::Sentinel { addresses, .. } = &self.access.redis.servers else {
            return Err(Fault::new("failed", "no sentinels"));
        };
        let mut asked = JoinSet::new();
        for address in addresses {
            let (sentinels, address) = (self.clone(), address.clone());
            asked.spawn(async move { sentinels.ask(&address).await });
        }
        let mut votes: HashMap<Endpoint, usize> = HashMap::new();
        let mut fault = Fault::new("failed", "no sentinel answers");
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(master)) => {
                    let count = votes.entry(master.clone()).or_default();
                    *count += 1;
                    if *count * 2 > addresses.len() {
                        return Ok(master);
                    }
                }
                Ok(Err(why)) => fault = why,
                Err(error) => fault = Fault::new("failed", error.to_string()),
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(master, _)| master).ok_or(fault)
    }

    /// Returns when they have another master than this one. That they cannot be asked is no news of it.
    pub async fn until_another_than(&self, current: &Endpoint) -> Fault {
        loop {
            sleep(ROUND).await;
            match self.master().await {
                Ok(master) if master != *current => {
                    return Fault::new("failover", format!("the sentinels say that {master} is the master now"));
                }
                _ => {}
            }
        }
    }

    async fn ask(&self, address: &Endpoint) -> Result<Endpoint, Fault> {
        let late = |_| Fault::new("timeout", format!("the sentinel {address} has not answered in {ANSWER_MAX:?}"));
        let answer = timeout(ANSWER_MAX, self.ask_on_connection(address)).await.map_err(late).flatten();
        if answer.as_ref().is_err_and(|fault| fault.reason != "unknown_master") {
            self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        }
        answer
    }

    async fn ask_on_connection(&self, address: &Endpoint) -> Result<Endpoint, Fault> {
        let Access { redis, resolver, counts } = &self.access;
        let Redis { tls, servers: Named::Sentinel { master_name, password, .. }, .. } = &**redis else {
            return Err(Fault::new("failed", "no sentinels"));
        };
        let known = self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        let connection = match known {
            Some(connection) => connection,
            None => {
                let login = Login { username: "", password: password.expose(), db: 0, tls: tls.as_ref() };
                let opened = Arc::new(Connection::open(address, login, &**resolver, counts).await?);
                let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
                connections.insert(address.clone(), opened.clone());
                opened
            }
        };
        let mut question = Pipeline::new();
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master_name);
        let answer = connection.send(&question).await?.into_iter().next().unwrap_or_default();
        match sound(answer)? {
            Value::Nil => {
                Err(Fault::new("unknown_master", format!("the sentinel {address} knows no master `{master_name}`")))
            }
            Value::Array(parts) => endpoint(&parts).ok_or_else(|| unexpected(&Value::Nil)),
            other => Err(unexpected(&other)),
        }
    }
}

/// A host and a port, as two texts.
fn endpoint(parts: &[Value]) -> Option<Endpoint> {
    let [Value::BulkString(host), Value::BulkString(port)] = parts else { return None };
    let host = String::from_utf8(host.clone()).ok()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Endpoint { host, port })
}
