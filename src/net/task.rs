//! Spawning, sleeping and yielding on this core.

use std::{
    cell::Cell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use super::executor;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Runs a task on this core. A panic inside ends that task alone; it is counted, and the hook has logged it.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    executor::spawn(Caught(task));
}

/// How many tasks of this core panicked.
pub fn panics() -> u64 {
    PANICS.get()
}

/// A precise wait; coarse deadlines belong into the core's deadline table.
pub async fn sleep(duration: Duration) {
    executor::sleep(duration).await;
}

/// `None` when `duration` passed first.
pub async fn timeout<F: Future>(duration: Option<Duration>, future: F) -> Option<F::Output> {
    match duration {
        Some(duration) => {
            let over = executor::sleep(duration);
            let (output, _) = join_until(future, over, |_| true).await;
            output
        }
        None => Some(future.await),
    }
}

struct Caught<F>(F);

impl<F: Future<Output = ()>> Future for Caught<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the inner future is never moved out of `self`; this is the structural projection.
        let task = unsafe { self.map_unchecked_mut(|caught| &mut caught.0) };
        catch_unwind(AssertUnwindSafe(|| task.poll(context))).unwrap_or_else(|_| {
            PANICS.set(PANICS.get() + 1);
            Poll::Ready(())
        })
    }
}

/// Runs two futures in one task until both are done, or `stop` says after the first that the second need not go on.
pub async fn join_until<A: Future, B: Future>(
    a: A,
    b: B,
    stop: impl Fn(Either<&A::Output, &B::Output>) -> bool,
) -> (Option<A::Output>, Option<B::Output>) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |context| {
        if first.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(context)
        {
            let done = stop(Either::Left(&output));
            first = Some(output);
            if done {
                return Poll::Ready((first.take(), second.take()));
            }
        }
        if second.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(context)
        {
            let done = stop(Either::Right(&output));
            second = Some(output);
            if done {
                return Poll::Ready((first.take(), second.take()));
            }
        }
        if first.is_some() && second.is_some() { Poll::Ready((first.take(), second.take())) } else { Poll::Pending }
    })
    .await
}

pub enum Either<A, B> {
    Left(A),
    Right(B),
}
