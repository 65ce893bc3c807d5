//! A limit of time for what others do, which does not count when this process could not run.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, timeout};

/// A time-out that comes so much too late says that this process has been stopped, or starved.
const OVERSLEPT: Duration = Duration::from_millis(100);

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
    use std::future::pending;

    use tokio::{
        spawn,
        sync::oneshot,
        time::{advance, sleep},
    };

    use super::*;

    const TIME: Duration = Duration::from_millis(250);

    /// To whoever is stopped it is later all of a sudden.
    async fn stop() {
        advance(TIME + OVERSLEPT).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_while_nobody_could_look_has_come() {
        let (tell, told) = oneshot::channel();
        // As with a client library, what reads the answer is a task of its own, and has its turn later.
        spawn(async move {
            stop().await;
            sleep(TIME / 2).await;
            tell.send(()).expect("it is waited for");
        });
        assert_eq!(within(TIME, told).await, Some(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_given_its_time_and_no_more() {
        let began = Instant::now();
        assert_eq!(within(TIME, pending::<()>()).await, None);
        assert!(began.elapsed() < TIME + OVERSLEPT);
        spawn(stop());
        assert_eq!(within(TIME, pending::<()>()).await, None);
        assert!(began.elapsed() < 3 * TIME + 2 * OVERSLEPT);
    }
}
