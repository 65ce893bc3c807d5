//! A conversation that a policy has for one exchange, carried on: one stream of gRPC over this core's own pools, in a task of
//! its own, since both directions of the exchange use it and neither may end it for the other.
//!
//! A server that is slow holds up the one exchange that waits for it; one that says more than it is asked is not listened to.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    call::{Failure, TRIES_MAX, final_head, midway, unavailable, unseen},
    core::{Core, Serving},
    h2,
    pool::{Carrier, Reuse, Upstream, Wanted},
};
use crate::{
    calls::{
        Hear, Heard, Talk,
        direct::{MALFORMED_ANSWER, NO_HTTP2},
        outcome,
        talk::Next,
    },
    config::snapshot::LoadBalancing,
    http::h2::Outgoing,
    net::task::{self, join_until},
    policies::grpc,
    telemetry::fault::Fault,
};

/// What a message may have beside a body: its headers, and what frames them.
const BESIDE_BODY: usize = 64 << 10;

/// How long a server has to end its side of a stream that has served its exchange.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the policy waits for, in its time. The first wait begins the conversation.
pub async fn hear(core: &Rc<Core>, serving: &Serving, hear: &Hear) -> Result<Heard, Fault> {
    if hear.talk.begins() {
        begin(core, serving, &hear.talk);
    }
    loop {
        let until = hear.until();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match task::timeout(left, poll_fn(|context| hear.poll(until, context))).await {
            Some(Some(heard)) => return heard,
            Some(None) => {}
            None => return Err(hear.is_late()),
        }
    }
}

fn begin(core: &Rc<Core>, serving: &Serving, talk: &Rc<Talk>) {
    let (core, talk, began) = (core.clone(), talk.clone(), Instant::now());
    let Some(upstream) = serving.called(talk.server.identity).cloned() else {
        return talk.end(Err(Fault::new("gone", "nobody is to be asked there any more")));
    };
    let settings = &serving.snapshot.settings;
    let message_bytes_max = settings.limits.buffered_body_bytes.saturating_add(BESIDE_BODY);
    let connect_timeout = settings.timeouts.upstream_connect;
    task::spawn(async move {
        let speaking = Speaking { core: &core, talk: &talk, upstream, connect_timeout, message_bytes_max };
        let is_given_up = !speaking.run().await;
        let fault = talk.fault();
        if is_given_up && fault.is_none() {
            return;
        }
        if let Some(Fault { reason, text }) = &fault {
            tracing::debug!(reason, policy = talk.server.policy, "{}: {text}", talk.server.origin());
        }
        let answered = fault.as_ref().map_or(Ok(200), Err);
        let (calls, server) = (&core.telemetry.calls, &talk.server);
        calls.count(server.policy, server.origin(), outcome(answered), began.elapsed());
    });
}

/// The end that speaks.
struct Speaking<'a> {
    core: &'a Core,
    talk: &'a Talk,
    upstream: Rc<Upstream>,
    connect_timeout: Option<Duration>,
    message_bytes_max: usize,
}

impl Speaking<'_> {
    /// To the stream's end. False: nobody waits for it any more, in the middle of something.
    async fn run(&self) -> bool {
        let given_up = poll_fn(|context| self.talk.poll_given_up(context));
        let (_, ended) = join_until(given_up, pin!(self.tries()), |_| true).await;
        let is_ended = ended.is_some();
        if let Some(ended) = ended {
            self.talk.end(ended);
        }
        is_ended
    }

    async fn tries(&self) -> Result<(), Fault> {
        let (mut reuse, mut left) = (Reuse::Any, TRIES_MAX);
        loop {
            left -= 1;
            match self.attempt(reuse).await {
                Ok(()) => return Ok(()),
                Err(Failure::Unseen(next, _)) if left > 0 => reuse = next,
                Err(Failure::Unseen(_, fault) | Failure::Fault(fault)) => return Err(fault),
            }
            self.talk.say_again();
        }
    }

    async fn attempt(&self, reuse: Reuse) -> Result<(), Failure> {
        let wanted = Wanted {
            balancing: LoadBalancing::RoundRobin,
            random: self.core.random() as u32,
            connect_timeout: self.connect_timeout,
            reuse,
            own: None,
            websocket: false,
        };
        let mut lease = self.upstream.acquire(wanted).await.map_err(|error| unavailable(&error))?;
        let Carrier::Http2(link) = lease.carrier() else {
            return Err(Fault::new(NO_HTTP2, "TLS was agreed on, and HTTP/2 was not").into());
        };
        let address = &self.talk.server.destination.address;
        let asked = Outgoing {
            method: b"POST",
            scheme: if address.secure { b"https" } else { b"http" },
            authority: address.authority.as_bytes(),
            path: self.talk.target.as_bytes(),
            query: b"",
            protocol: None,
        };
        let owned = link.ask(&asked, &grpc::fields(None), false).map_err(|_| unseen("it takes no more requests"))?;
        let stream = owned.stream.clone();
        lease.hold(owned);
        let mut receiving = pin!(self.receive(&stream, lease.reused));
        match join_until(self.send(&stream), receiving.as_mut(), |_| true).await {
            (_, Some(received)) => received,
            // Everything was said: whoever has ended its side well hears the same of the other.
            (_, None) => self.last_words(receiving).await,
        }
    }

    /// Sends what there is to say, until nobody has anything to say.
    async fn send(&self, to: &h2::Stream) {
        while let Next::Message(message) = poll_fn(|context| self.talk.poll_next(context)).await {
            if to.send(&message, false).await.is_err() {
                // Whoever receives is told why.
                pending::<()>().await;
            }
        }
        to.finish(None);
    }

    async fn last_words(&self, receiving: Pin<&mut impl Future<Output = Result<(), Failure>>>) -> Result<(), Failure> {
        let _ = task::timeout(Some(LAST_WORDS), receiving).await;
        Ok(())
    }

    async fn receive(&self, from: &h2::Stream, reused: bool) -> Result<(), Failure> {
        let head = final_head(from, reused).await?;
        self.talk.answers();
        grpc::is_of_grpc(head.status, &head.fields)?;
        let (mut come, mut is_alone) = (Vec::new(), true);
        while let Some(piece) = from.data().await.map_err(midway)? {
            is_alone = false;
            come.extend_from_slice(piece.bytes());
            while let Some(message) = grpc::take_message(&mut come, self.message_bytes_max)? {
                self.talk.take(message)?;
            }
            from.release(piece.len(), self.message_bytes_max.saturating_sub(come.len()));
        }
        if !come.is_empty() {
            return Err(Fault::new(MALFORMED_ANSWER, "it ended in the middle of a message").into());
        }
        // A call that has failed at once has its status in the head.
        let trailers = from.take_trailers().unwrap_or_default();
        let end = if is_alone && trailers.is_empty() { &head.fields } else { &trailers };
        Ok(grpc::went_well(end)?)
    }
}
