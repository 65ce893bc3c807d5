//! One connection to one server of Redis: dialled, secured, authenticated, its database chosen.
//!
//! The protocol is the library's; the socket and TLS are ours, so that the same authorities, versions and certificates hold as
//! everywhere else.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, ServerError,
    ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    super::{
        health::{connect, insecure},
        resolver::Resolve,
    },
    counts::Counts,
};
use crate::{config::shared_storage::Tls, document::address::Endpoint, telemetry::fault::Fault};

/// Until a server has taken the connection: on a network that is there again it takes one more attempt.
const CONNECT_MAX: Duration = Duration::from_millis(400);
/// Of the TLS handshake and the authentication.
const SETUP_MAX: Duration = Duration::from_secs(1);
/// Commands that may wait to be written; whoever has more waits for room.
const WAITING_MAX: usize = 1024;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug)]
pub struct Login<'l> {
    /// Empty: the default user.
    pub username: &'l str,
    /// Empty: none is asked for.
    pub password: &'l str,
    pub db: u32,
    pub tls: Option<&'l Tls>,
}

/// What is sent on it is answered in order, and many may send at the same time.
pub struct Connection {
    requests: MultiplexedConnection,
    counts: Arc<Counts>,
    /// What reads and writes.
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub async fn open(
        endpoint: &Endpoint,
        login: Login<'_>,
        resolver: &impl Resolve,
        counts: &Arc<Counts>,
    ) -> Result<Self, Fault> {
        let stream = dial(endpoint, resolver).await?;
        // Questions are small, and each is waited for.
        let _ = stream.set_nodelay(true);
        let late = |_| Fault::new("timeout", format!("{endpoint} has not answered in {SETUP_MAX:?}"));
        let setup = async {
            let Some(tls) = login.tls else { return Self::over(stream, login, counts).await };
            let context = tls.context(&endpoint.host).map_err(|text| Fault::new("tls", text))?;
            let connector = TlsConnector::from(context.for_a_check());
            let stream = connector.connect(context.name.clone(), stream).await.map_err(insecure)?;
            Self::over(stream, login, counts).await
        };
        let told = |fault: Fault| Fault::new(fault.reason, format!("{endpoint}: {}", fault.text));
        timeout(SETUP_MAX, setup).await.map_err(late)?.map_err(told)
    }

    async fn over<S>(stream: S, login: Login<'_>, counts: &Arc<Counts>) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        info = info.set_db(login.db.into());
        if !login.password.is_empty() {
            info = info.set_password(login.password);
            if !login.username.is_empty() {
                info = info.set_username(login.username);
            }
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(WAITING_MAX);
        let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (requests, driver) = opened.map_err(|error| fault_of(&error))?;
        Ok(Self { requests, counts: counts.clone(), driver: tokio::spawn(driver) })
    }

    /// One answer for each command, errors of the server among them. `Err`: the connection cannot be used any more, and what was
    /// sent may have been done.
    pub async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        self.counts.sent(commands.len());
        let mut requests = self.requests.clone();
        requests.send_packed_commands(commands, 0, commands.len()).await.map_err(|error| fault_of(&error))
    }
}

/// The first of its addresses that takes a connection.
async fn dial(endpoint: &Endpoint, resolver: &impl Resolve) -> Result<TcpStream, Fault> {
    let addresses: Vec<IpAddr> = match endpoint.host.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let late = |_| Fault::new("timeout", format!("no answer for the name {} in {SETUP_MAX:?}", endpoint.host));
            let answer = timeout(SETUP_MAX, resolver.resolve(&endpoint.host)).await.map_err(late)?;
            let unknown = |text| Fault::new("name_unresolved", format!("{}: {text}", endpoint.host));
            answer.map_err(unknown)?.addresses
        }
    };
    let mut fault = Fault::new("name_unresolved", format!("{} has no address", endpoint.host));
    for address in addresses {
        match timeout(CONNECT_MAX, connect(SocketAddr::new(address, endpoint.port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(why)) => fault = Fault::new(why.reason, format!("{endpoint}: {}", why.text)),
            Err(_) => {
                fault = Fault::new("timeout", format!("{endpoint} does not take a connection in {CONNECT_MAX:?}"))
            }
        }
    }
    Err(fault)
}

/// What the library says of a connection that failed.
fn fault_of(error: &RedisError) -> Fault {
    let reason = match error.kind() {
        ErrorKind::AuthenticationFailed => "authentication",
        ErrorKind::Server(kind) => reason_of(Some(kind), error.code().unwrap_or_default()),
        ErrorKind::Io if error.is_timeout() => "timeout",
        ErrorKind::Io => "closed",
        ErrorKind::Parse => "malformed_answer",
        _ => match error.code() {
            Some(code) => reason_of(None, code),
            None => "failed",
        },
    };
    Fault::new(reason, error.to_string())
}

/// What a server's refusal of one command means.
pub fn refusal(error: &ServerError) -> Fault {
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    Fault::new(reason_of(error.kind(), error.code()), text.trim_end())
}

fn reason_of(kind: Option<ServerErrorKind>, code: &str) -> &'static str {
    match (kind, code) {
        (Some(ServerErrorKind::ReadOnly), _) => "read_only",
        (Some(ServerErrorKind::BusyLoading), _) => "loading",
        (Some(ServerErrorKind::MasterDown), _) => "master_down",
        (Some(ServerErrorKind::ClusterDown), _) => "cluster_down",
        (Some(ServerErrorKind::NoPerm), _) => "no_permission",
        (_, "NOAUTH" | "WRONGPASS") => "authentication",
        (_, "OOM") => "out_of_memory",
        (_, "NOREPLICAS") => "no_replicas",
        (_, "MISCONF") => "not_saving",
        (_, "BUSY") => "busy",
        _ => "refused",
    }
}

/// Whether after this nothing else on the same servers would go better.
pub fn is_loss(fault: &Fault) -> bool {
    !matches!(fault.reason, "refused" | "no_permission" | "out_of_memory")
}

/// An answer that is none of those that the command has.
pub fn unexpected(value: &Value) -> Fault {
    match value {
        Value::ServerError(error) => refusal(error),
        _ => Fault::new("malformed_answer", io::Error::from(io::ErrorKind::InvalidData).to_string()),
    }
}
