//! After a 101: bytes both ways, each at the pace of its reader, until both sides have ended.

use std::{cell::Cell, time::Duration};

use super::{
    account::Account,
    exchange::After,
    pool::Lease,
    pump::{Direction, Framing, PumpError, pump},
    watch::{Waiting, Watch},
    wire::{Incoming, Outgoing, Wire},
};
use crate::{
    http::{
        h1::body::{BodyLimits, BodyReader},
        head::BodyLength,
    },
    net::{
        Buffer,
        task::{Either, join_until},
    },
};

pub async fn run(
    client: &mut Wire<'_>,
    mut upstream: Lease,
    watch: &Watch<'_>,
    idle: Option<Duration>,
    account: &mut Account,
) -> After {
    watch.wait_for(Waiting::Tunnel, idle);
    let direction = Direction {
        watch,
        reading: Cell::new((Waiting::Tunnel, idle)),
        writing: (Waiting::Tunnel, idle),
        begun: &Cell::new(true),
        sees: None,
        ends: false,
    };
    let to_client = client.outgoing();
    let mut upstream = upstream.wire();
    let to_upstream = upstream.outgoing();
    let (mut asked, mut answered) = (bytes(), bytes());
    let up = copy(client.incoming(&mut asked), &to_upstream, &direction);
    let down = copy(upstream.incoming(&mut answered), &to_client, &direction);
    // A broken direction breaks the other; one that has ended leaves the other to end in its own time.
    let both = join_until(up, down, |done| match done {
        Either::Left(result) | Either::Right(result) => result.is_err(),
    });
    match watch.over(both).await {
        Ok((sent, received)) => {
            account.bytes_in += sent.and_then(Result::ok).unwrap_or_default();
            account.bytes_out += received.and_then(Result::ok).unwrap_or_default();
        }
        Err(stalled) => account.reason = super::reject::stalled(stalled).reason,
    }
    After::Close
}

/// A tunnel's bytes are a body that ends with its side of the connection.
fn bytes() -> BodyReader {
    let none = BodyLimits { trailer_bytes: 0, chunk_extension_bytes: 0, header_count: 0 };
    BodyReader::new(BodyLength::UntilClose, &none)
}

async fn copy(mut from: Incoming<'_>, to: &Outgoing, direction: &Direction<'_>) -> Result<u64, PumpError> {
    let bytes = pump(&mut from, to, Framing::Plain, Buffer::none(), direction).await?;
    to.finish().await;
    Ok(bytes)
}
