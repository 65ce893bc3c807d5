//! New connections through a forward proxy: to the proxy, secured where it speaks https, and by `CONNECT` to the endpoint.
//!
//! A stream has one layer of TLS. Where the proxy speaks https and the endpoint does, the outer one is taken off by a task of the
//! connection, and a pair of sockets stands between both: two copies more, for a way that few take.

use std::{cell::Cell, io, pin::pin, sync::Arc, time::Duration};

use rustls::{ClientConfig, client::UnbufferedClientConnection, pki_types::ServerName};
use socket2::{Domain, Socket, Type};

use super::{Backend, Unavailable};
use crate::{
    calls::forward_proxy::{self, Opening, malformed, unreachable},
    config::{endpoints::Place, snapshot::Carried},
    document::address::Endpoint,
    net::{
        Buffer, Receiver, Sender, Stream,
        buffer::LARGE_ROOM,
        task::{self, Either, join_until},
        tls::{HandshakeError, Side},
    },
    telemetry::fault::Fault,
};

/// How long the far end may say nothing once the near one has ended its side.
const LEFT_OPEN_MAX: Duration = Duration::from_secs(10);

/// Of one Service, on one core.
pub(super) struct Through {
    carried: Carried,
    endpoints: Vec<Endpoint>,
    /// How connections to the proxy itself are secured, with this core's sessions.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// What is spoken over a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// TLS, and we begin.
    Secured,
    /// We begin.
    ByUs,
    /// HTTP/2, where the other end may have said something before it is spoken to.
    ByBoth,
}

/// How far a dial has come.
#[derive(Default)]
pub(super) struct Way {
    /// It waits for the forward proxy.
    waits_for_proxy: Cell<bool>,
}

impl Way {
    /// Why there is no connection when its time is over.
    pub(super) fn timed_out(&self) -> Unavailable {
        match self.waits_for_proxy.get() {
            false => Unavailable::ConnectTimeout,
            true => {
                Unavailable::Proxy(Fault::new(forward_proxy::TIMEOUT, "the forward proxy has opened no way in time"))
            }
        }
    }
}

impl Through {
    pub(super) fn new(carried: &Carried, endpoints: &[Endpoint]) -> Self {
        let tls = carried.proxy.server.as_ref().and_then(|server| server.tls.as_ref()).map(|tls| {
            let mut config = tls.of_core();
            Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
            (config, tls.name.clone())
        });
        Self { carried: carried.clone(), endpoints: endpoints.to_vec(), tls }
    }

    /// Whether the proxy itself is asked there.
    pub(super) fn is_asked(&self, place: Place) -> bool {
        self.carried.in_absolute_form && place.carried == Some(0)
    }

    pub(super) fn is_any_asked(&self) -> bool {
        self.carried.in_absolute_form
    }

    /// Why there is nobody to connect to.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self.carried.proxy.server() {
            Err(fault) => Some(fault),
            Ok(_) => {
                self.carried.endpoints.iter().all(|carried| *carried).then(|| unreachable("its name has no address"))
            }
        }
    }

    /// A connection to the endpoint, or to the proxy where that is asked itself.
    pub(super) async fn open(&self, backend: &Backend, spoken: Spoken, way: &Way) -> Result<Stream, Unavailable> {
        way.waits_for_proxy.set(true);
        let stream = self.begin(backend, spoken).await.map_err(Unavailable::Proxy)?;
        way.waits_for_proxy.set(false);
        Ok(stream)
    }

    async fn begin(&self, backend: &Backend, spoken: Spoken) -> Result<Stream, Fault> {
        let Some(at) = backend.place.carried else { unreachable!("only what is carried comes here") };
        let server = self.carried.proxy.server()?;
        let connected = Stream::connect(backend.place.address).await;
        let mut stream = connected.map_err(|error| unreachable(&error.to_string()))?;
        if let Some((config, name)) = &self.tls {
            secure(&mut stream, config, name)
                .await
                .map_err(|error| Fault::new(forward_proxy::TLS, error.to_string()))?;
        }
        if backend.asks_a_proxy {
            return Ok(stream);
        }
        let request = server.connect(&self.endpoints[at]);
        let mut out = Buffer::with_room(request.len());
        out.extend(request.as_bytes());
        // Who closes may have answered first.
        let (sent, _) = stream.sender.send(out).await;
        let mut opening = Opening::default();
        loop {
            if let Some(taken) = opening.read(stream.receiver.buffered())? {
                stream.receiver.consume(taken);
                break;
            }
            match stream.receiver.fill().await {
                Ok(0) => return Err(malformed("closed before its answer")),
                Ok(_) => {}
                Err(error) => return Err(malformed(&error.to_string())),
            }
        }
        sent.map_err(|error| malformed(&error.to_string()))?;
        if spoken != Spoken::ByBoth && !stream.receiver.buffered().is_empty() {
            return Err(malformed("bytes behind its answer"));
        }
        match self.tls.is_some() && spoken == Spoken::Secured {
            true => nested(stream).map_err(|error| Fault::new(forward_proxy::TLS, error.to_string())),
            false => Ok(stream),
        }
    }
}

async fn secure(
    stream: &mut Stream,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> Result<(), HandshakeError> {
    let client = UnbufferedClientConnection::new(config.clone(), name.clone()).map_err(HandshakeError::Tls)?;
    stream.secure(Side::Client(Box::new(client)), |_| Ok(())).await.map(drop)
}

/// What is behind the TLS of a stream, as a stream that can have its own.
fn nested(mut outer: Stream) -> io::Result<Stream> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    let (near, mut far) = (Stream::new(near.into())?, Stream::new(far.into())?);
    task::spawn(async move {
        let up = copy(&mut far.receiver, &outer.sender, None);
        let down = copy(&mut outer.receiver, &far.sender, None);
        let (sent, received) = join_until(up, down, |done| match done {
            Either::Left(_) => true,
            Either::Right(received) => received.is_err(),
        })
        .await;
        if received.is_none() && matches!(sent, Some(Ok(()))) {
            // Whoever ends its side may still read; whoever has gone does not say so.
            let _: io::Result<()> = copy(&mut outer.receiver, &far.sender, Some(LEFT_OPEN_MAX)).await;
        }
    });
    Ok(near)
}

/// To the end, which is told; where a limit is given, as long as something comes within it.
async fn copy(from: &mut Receiver, to: &Sender, limit: Option<Duration>) -> io::Result<()> {
    from.want(LARGE_ROOM);
    loop {
        if from.buffered().is_empty() {
            let filled = task::timeout(limit, pin!(from.fill())).await.ok_or(io::ErrorKind::TimedOut)?;
            if filled? == 0 {
                to.finish();
                return Ok(());
            }
        }
        to.send(from.take()).await.0?;
    }
}
