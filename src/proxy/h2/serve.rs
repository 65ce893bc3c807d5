//! A client's HTTP/2 connection: each stream is an exchange in a task of its own.

use std::{
    cell::RefCell,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use super::link::{End, Link};
use crate::{
    config::settings::Settings,
    http::h2::{Connection, Event, Limits, StreamId},
    net::{Stream, task},
    policies::LocalResponse,
    proxy::{
        client::{Client, Workspace},
        exchange, reject,
        wire::Wire,
    },
};

/// How often a connection is looked at: idle, draining, stalled.
const LOOK: Duration = Duration::from_secs(1);

/// What the streams of one connection share.
struct Served {
    link: Rc<Link>,
    /// Used again by later streams: as many as were under way at once.
    workspaces: RefCell<Vec<Workspace>>,
}

/// Serves until either side ends the connection.
pub async fn serve(client: &Client, stream: &mut Stream) -> End {
    let end = streams(client, stream).await;
    if let End::Refused(error) = &end {
        client.core.telemetry.h2_connection_failed(error.reason);
    }
    end
}

async fn streams(client: &Client, stream: &mut Stream) -> End {
    let limits = limits(&client.serving().snapshot.settings);
    let served = Rc::new(Served {
        link: Link::new(Connection::server(&limits, &client.core.header_memory, Instant::now())),
        workspaces: RefCell::default(),
    });
    let link = &served.link;
    let on = |event| match event {
        Event::Request { stream, .. } => begin(&served, client, stream, None),
        Event::Refuse { stream, status, reason } => {
            begin(&served, client, stream, Some(reject::refused_head(status, reason)))
        }
        Event::Rejected { reason, .. } => client.core.telemetry.h2_stream_failed(reason),
        _ => {}
    };
    let Stream { receiver, sender } = stream;
    let mut driving = pin!(link.drive(receiver, sender, &on));
    let mut idle_since = Instant::now();
    loop {
        client.deadline.set(Some(LOOK));
        if let Ok(end) = client.deadline.guard_idle(driving.as_mut()).await {
            return end;
        }
        if client.listener.is_overdue() {
            return End::Closed;
        }
        let now = Instant::now();
        if !link.is_empty() {
            idle_since = now;
        }
        if let Err(error) = link.on_time(now) {
            return End::Refused(error);
        }
        let keep_alive = client.serving().snapshot.settings.timeouts.keep_alive;
        let idle_too_long = keep_alive.is_some_and(|limit| now - idle_since >= limit);
        if idle_too_long || !client.may_stay() {
            link.shut_down();
            if idle_too_long || !client.is_wanted() {
                link.leave();
            }
        }
    }
}

/// `refusal`: what to answer without looking at the request.
fn begin(served: &Rc<Served>, client: &Client, id: StreamId, refusal: Option<LocalResponse>) {
    let owned = served.link.own(id);
    let secured = client.secured.clone();
    let client = Client { secured, ..Client::new(client.core.clone(), client.listener.clone(), client.peer) };
    let served = served.clone();
    task::spawn(async move {
        let workspace = served.workspaces.borrow_mut().pop();
        let mut workspace = workspace.unwrap_or_else(|| Workspace::new(client.peer));
        served.link.protocol.borrow_mut().take_request(id, &mut workspace.request);
        let mut wire = Wire::Http2(&owned.stream);
        match refusal {
            None => exchange::run(&client, &mut wire, &mut workspace).await,
            Some(answer) => exchange::refuse(&client, &mut wire, &mut workspace, answer).await,
        };
        drop(owned);
        served.workspaces.borrow_mut().push(workspace);
    });
}

pub fn limits(settings: &Settings) -> Limits {
    let (limits, h2) = (&settings.limits, &settings.limits.h2);
    Limits {
        concurrent_streams: h2.concurrent_streams as u32,
        stream_window: h2.stream_window as u32,
        connection_window: h2.connection_window as u32,
        work_per_second: h2.work_per_second as u32,
        header_memory_per_connection: h2.header_memory_per_connection,
        head_bytes: limits.head_bytes,
        header_count: limits.header_count,
        trailer_bytes: limits.trailer_bytes,
        extended_connect: true,
        stall_timeout: settings.timeouts.stream_idle.unwrap_or(Duration::MAX),
    }
}
