//! A time limit of the time that this process has run: one that was stopped meanwhile has not waited.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, sleep};

/// What may be missed of a stop, and what a stop may count as at the most.
const STEP_MAX: Duration = Duration::from_millis(250);

/// `None`: it took longer. What is ready is never late.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = time;
    loop {
        let (step, began) = (left.min(STEP_MAX), Instant::now());
        tokio::select! {
            biased;
            value = &mut future => return Some(value),
            () = sleep(step) => {}
        }
        left = left.saturating_sub(began.elapsed().min(2 * step));
        if left.is_zero() {
            // What has come while the clock ran out is there.
            return tokio::select! {
                biased;
                value = &mut future => Some(value),
                () = std::future::ready(()) => None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_takes_its_time_and_no_more() {
        let began = Instant::now();
        assert_eq!(within(Duration::from_secs(10), pending::<()>()).await, None);
        assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&began.elapsed()));
        assert_eq!(within(Duration::ZERO, std::future::ready(1)).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_has_not_waited() {
        let stopped = async {
            tokio::time::advance(Duration::from_secs(3600)).await;
            sleep(Duration::from_secs(5)).await;
        };
        assert_eq!(within(Duration::from_secs(10), stopped).await, Some(()));
    }
}
