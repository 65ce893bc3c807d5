//! After a 101: bytes both ways, each at the pace of its reader, until both sides have ended.

use std::{io, time::Duration};

use super::{
    account::Account,
    exchange::After,
    pool::Lease,
    watch::{Waiting, Watch},
};
use crate::net::{
    Receiver, Sender, Stream,
    buffer::{LARGE_ROOM, SMALL_ROOM},
    task::{Either, join_until},
};

pub async fn run(
    client: &mut Stream,
    mut upstream: Lease,
    watch: &Watch<'_>,
    idle: Option<Duration>,
    account: &mut Account,
) -> After {
    let upstream = upstream.stream();
    watch.wait_for(Waiting::Tunnel, idle);
    let up = copy(&mut client.receiver, &upstream.sender, watch);
    let down = copy(&mut upstream.receiver, &client.sender, watch);
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

async fn copy(from: &mut Receiver, to: &Sender, watch: &Watch<'_>) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        if !from.buffered().is_empty() {
            bytes += from.buffered().len() as u64;
            let (sent, _) = to.send(from.take()).await;
            sent?;
            watch.progress();
        }
        let received = from.fill().await?;
        if received == 0 {
            to.finish();
            return Ok(bytes);
        }
        watch.progress();
        from.want(if received >= SMALL_ROOM { LARGE_ROOM } else { SMALL_ROOM });
    }
}
