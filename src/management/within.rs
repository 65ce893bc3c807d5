//! A limit of time for what others do, which does not count when this process could not run.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use tokio::time::timeout;

/// A time-out that comes so much too late says that this process has been stopped, or starved.
pub const OVERSLEPT: Duration = Duration::from_millis(100);

/// What the future comes to in the time; none where it does not. Where the time has passed unseen, what came meanwhile has not
/// been looked at: then the future is given as much again.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    loop {
        let began = Instant::now();
        match timeout(time, &mut future).await {
            Ok(done) => return Some(done),
            Err(_) if began.elapsed() >= time + OVERSLEPT => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, thread, time::Duration};

    use tokio::{net::UdpSocket, spawn, sync::oneshot};

    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    /// Who stops the whole process stops its only thread.
    fn stop() {
        thread::sleep(TIME + 2 * OVERSLEPT);
    }

    #[tokio::test]
    async fn what_came_while_nobody_could_look_has_come() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let to = socket.local_addr().expect("bound");
        let (tell, told) = oneshot::channel();
        // As with a client library, what reads the socket is a task of its own.
        spawn(async move {
            let mut bytes = [0; 1];
            socket.recv(&mut bytes).await.expect("a message");
            tell.send(bytes[0]).expect("it is waited for");
        });
        spawn(async move {
            peer.send_to(b"!", to).await.expect("room");
            stop();
        });
        assert_eq!(within(TIME, told).await, Some(Ok(b'!')));
    }

    #[tokio::test]
    async fn what_does_not_come_is_not_waited_for() {
        assert_eq!(within(TIME, pending::<()>()).await, None);
        spawn(async { stop() });
        assert_eq!(within(TIME, pending::<()>()).await, None);
    }
}
