//! A client's HTTP/2 connection: each stream is an exchange in a task of its own.

use std::{
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use super::link::{End, Link};
use crate::{
    http::h2::{Connection, Event, StreamId},
    net::{Stream, proxy_protocol::Addresses, task},
    policies::LocalResponse,
    proxy::{client::Client, exchange, reject, wire::Wire},
};

/// How often a connection is looked at: idle, draining, stalled.
const LOOK: Duration = Duration::from_secs(1);

/// How long its streams may take to say their last word when its time to drain is over, and how often that is looked at.
const LAST_WORDS: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Serves until either side ends the connection.
pub async fn serve(client: &Client, stream: &mut Stream) -> End {
    let end = streams(client, stream).await;
    if let End::Refused(error) = &end {
        client.core.telemetry.h2_connection_errors.increment(error.reason);
    }
    end
}

async fn streams(client: &Client, stream: &mut Stream) -> End {
    let limits = super::limits(&client.serving().snapshot.settings);
    client.tenure.told(|| Addresses::between(client.peer, stream.sender.local_address()));
    let link = &Link::new(
        Connection::server(&limits, &client.core.header_memory, Instant::now()),
        client.serving().snapshot.settings.timeouts.stream_idle,
    );
    let on = |event| match event {
        Event::Request { stream, .. } => begin(link, client, stream, None),
        Event::Refuse { stream, status, reason } => {
            begin(link, client, stream, Some(reject::refused_head(status, reason)))
        }
        Event::Rejected { reason, .. } => client.core.telemetry.h2_stream_errors.increment(reason),
        _ => {}
    };
    let Stream { receiver, sender } = stream;
    let mut driving = pin!(link.drive(receiver, sender, &on));
    let mut idle_since = Instant::now();
    let mut overdue_since = None;
    loop {
        client.deadline.set(Some(if overdue_since.is_some() { LAST_LOOK } else { LOOK }));
        if let Ok(end) = client.deadline.guard_idle(driving.as_mut()).await {
            return end;
        }
        let now = Instant::now();
        if client.is_overdue() && now - *overdue_since.get_or_insert(now) >= LAST_WORDS {
            return End::Closed;
        }
        if !link.is_empty() {
            idle_since = now;
        }
        link.on_time(now);
        let keep_alive = client.serving().snapshot.settings.timeouts.keep_alive;
        let idle_too_long = keep_alive.is_some_and(|limit| now - idle_since >= limit);
        if idle_too_long || !client.is_wanted() {
            link.leave();
        } else if !client.may_stay() {
            link.retire();
        }
    }
}

/// `refusal`: what to answer without looking at the request.
fn begin(link: &Rc<Link>, client: &Client, id: StreamId, refusal: Option<LocalResponse>) {
    let owned = link.own(id);
    client.tenure.begin_request();
    if !client.may_stay() {
        link.retire();
    }
    let client = client.for_stream();
    let link = link.clone();
    task::spawn(async move {
        let mut workspace = client.core.workspaces.lend(client.peer.ip());
        link.protocol.borrow_mut().take_request(id, &mut workspace.request);
        let mut wire = Wire::Http2(&owned.stream);
        let ran = match refusal {
            None => exchange::run(&client, &mut wire, &mut workspace).await,
            Some(answer) => Ok(exchange::refuse(&client, &mut wire, &mut workspace, answer).await),
        };
        if let Err(suspended) = ran {
            // A task of its own: this one has room for all of an exchange.
            task::spawn(async move {
                let mut wire = Wire::Http2(&owned.stream);
                suspended.run(&client, &mut wire, &mut workspace).await;
            });
        }
    });
}
