//! Management tasks that panic are counted and started again, so that one bad answer from a DNS server does not end name
//! resolution for the life of the process. Between tries there is a pause that grows.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A task that ran this long starts over with the shortest pause.
const STEADY: Duration = Duration::from_secs(60);

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics of management tasks since the process started.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs a task until it returns; `start` makes it anew after a panic. Aborting the handle ends the task too.
pub fn spawn<F, T>(name: &'static str, mut start: F) -> JoinHandle<()>
where
    F: FnMut() -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            let mut task = AbortOnDrop(tokio::spawn(start()));
            match (&mut task.0).await {
                Err(error) if error.is_panic() => PANICS.fetch_add(1, Ordering::Relaxed),
                _ => return,
            };
            if began.elapsed() >= STEADY {
                pause = PAUSE_MIN;
            }
            tracing::error!(task = name, "a management task panicked; it starts again in {pause:?}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    })
}

/// Runs a future to its end; `None` where it panicked, which is counted.
pub async fn catch<T: Send + 'static>(
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut task = AbortOnDrop(tokio::spawn(future));
    match (&mut task.0).await {
        Ok(value) => Some(value),
        Err(error) => {
            if error.is_panic() {
                PANICS.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, "a management task panicked");
            }
            None
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panicking_task_starts_again_with_growing_pauses() {
        let before = panics();
        let began = Instant::now();
        let (sender, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let task = spawn("test", move || {
            let sender = sender.clone();
            async move {
                let nth = began.elapsed();
                sender.send(nth).expect("the test listens");
                assert!(nth >= Duration::from_millis(700), "a task that fails three times");
            }
        });
        task.await.expect("the supervisor itself does not panic");
        let mut at = Vec::new();
        while let Some(start) = starts.recv().await {
            at.push(start.as_millis());
        }
        assert_eq!(at, [0, 100, 300, 700]);
        assert!(panics() >= before + 3);
    }
}
