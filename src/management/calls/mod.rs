//! The calls of policies as the management thread makes them: what the cores ask is taken from their queue, each on a task of
//! its own, and so many at a time.

mod client;
mod counts;
mod dial;
mod directories;
mod gate;
mod place;
mod places;
pub(super) mod tunnel;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::{sync::Mutex, task::JoinSet};

pub(super) use self::dial::Stream;
pub use self::{client::Client, counts::Counts};
use super::{resolver::Resolve, supervise};
use crate::calls::{Queue, Work};

/// Under way at the same time, those included that wait for their turn at one destination.
const UNDER_WAY_MAX: usize = 1024;

/// Starts the task on the current runtime.
pub fn start<R: Resolve>(queue: Queue, client: Arc<Client<R>>) {
    let queue = Arc::new(Mutex::new(queue));
    supervise::spawn("calls of policies", move || serve(queue.clone(), client.clone()));
}

async fn serve<R: Resolve>(queue: Arc<Mutex<Queue>>, client: Arc<Client<R>>) {
    let mut queue = queue.lock().await;
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            work = queue.recv(), if under_way.len() < UNDER_WAY_MAX => match work {
                // A panic drops what was to be done with the answer, which is told that there is none.
                Some(work) => drop(under_way.spawn(supervise::catch("call", one(work, client.clone())))),
                None => return,
            },
            Some(_) = under_way.join_next() => {}
        }
    }
}

async fn one<R: Resolve>(work: Work, client: Arc<Client<R>>) {
    match work {
        Work::Http(call, done) => done.run(client.call(call).await),
        Work::LogIn(log_in, done) => done.run(client.log_in(log_in).await),
    }
}
