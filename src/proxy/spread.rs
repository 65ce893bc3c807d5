//! Spreading connections over the cores: one that would be too many for this core goes to the least loaded one.
//!
//! The kernel spreads connections by a hash, which knows no load: of 32 connections one of two cores may well get 22, and
//! keep them for hours. So at accept, before anything else exists for a connection, a core compares itself with the least
//! loaded. What it hands over is a plain socket, which no ring knows.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use super::{
    core::{Core, Load},
    listener::{self, OpenListener},
};
use crate::net::{
    listen::Accepted,
    mailbox::{Mailbox, Post},
};

/// Connections that may wait for a core to take them over. One that falls so far behind is not the least loaded.
pub const QUEUE: usize = 64;

/// A core has to be ahead of the least loaded by this many connections, and by an eighth of that one's: then 16 and more
/// per core stay within 20 % of each other, and a few that come and go stay where they are.
const AHEAD_MIN: usize = 2;
const AHEAD_PART: usize = 8;

/// A core, as the others see it.
pub struct Neighbour {
    pub load: Arc<Load>,
    pub post: Post<HandedOver>,
}

/// A connection on its way from the core that accepted it.
pub struct HandedOver {
    /// Of the listener.
    address: SocketAddr,
    accepted: Accepted,
}

/// Gives a connection to a less loaded core, or gives it back to be served here.
pub fn hand_over(core: &Core, open: &OpenListener, accepted: Accepted) -> Option<Accepted> {
    // Cores leave one by one; what the last ones still accept has nowhere to go.
    if core.neighbours.is_empty() || open.is_closing() || !core.serving().snapshot.settings.connections.spread {
        return Some(accepted);
    }
    // One that has not taken over this snapshot yet may not have the listener yet.
    let generation = core.load.generation();
    let others = core.neighbours.iter().filter(|other| other.load.generation() >= generation);
    let least = others.min_by_key(|other| other.load.expected());
    let Some(least) = least.filter(|least| is_far_ahead(core.load.expected(), least.load.expected())) else {
        return Some(accepted);
    };
    least.load.comes();
    match least.post.send(HandedOver { address: open.address, accepted }) {
        Ok(()) => {
            core.telemetry.connections_handed_over.increment();
            None
        }
        Err(HandedOver { accepted, .. }) => {
            least.load.came();
            Some(accepted)
        }
    }
}

/// Whether a core that has so many connections, and one more, should give that one away.
fn is_far_ahead(own: usize, least: usize) -> bool {
    own >= least + AHEAD_MIN.max(least / AHEAD_PART)
}

/// Takes over what other cores hand over, for as long as they live.
pub async fn take_over(core: Rc<Core>, mut queue: Mailbox<HandedOver>) {
    while let Some(HandedOver { address, accepted }) = queue.receive().await {
        let serving = core.listeners.borrow().iter().find(|open| open.address == address).cloned();
        // The core that accepted it may be slower to leave; its clients are served as those of this core's own listener.
        let gone = || core.gone.borrow().iter().rev().find(|open| open.address == address).cloned();
        if let Some(open) = serving.or_else(gone) {
            core.telemetry.connections_taken_over.increment();
            listener::admit(&core, &open, accepted);
        }
        core.load.came();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;
    use crate::{
        config::snapshot::Snapshot,
        net::{
            driver::{self, Kind},
            listen::Listener,
            mailbox::{Unopened, mailbox},
        },
        policies,
        proxy::core::Counted,
        telemetry::core::CoreTelemetry,
    };

    #[test]
    fn a_few_connections_stay_and_many_are_within_a_fifth() {
        assert!(!is_far_ahead(0, 0) && !is_far_ahead(1, 0) && is_far_ahead(2, 0));
        assert!(!is_far_ahead(16, 15) && is_far_ahead(17, 15));
        // Whoever gets all of them: the busiest core ends at most so far ahead of the least busy.
        for cores in [2, 3, 8, 64] {
            let mut connections = vec![0usize; cores];
            for accepted in 1..=2000 {
                let least = connections.iter().copied().enumerate().min_by_key(|(_, count)| *count).expect("some");
                let taker = if is_far_ahead(connections[0], least.1) { least.0 } else { 0 };
                connections[taker] += 1;
                let (most, least) = (connections.iter().max().expect("some"), connections.iter().min().expect("some"));
                let mean = accepted as f64 / cores as f64;
                assert!(mean < 17.0 || *most as f64 <= 1.2 * *least as f64, "{most} and {least} of {accepted}");
            }
        }
    }

    /// A core of two, alone with its neighbour's queue, which has room for one.
    fn core_beside(own: usize, other: &Arc<Load>) -> (Rc<Core>, Vec<Counted>, Unopened<HandedOver>) {
        let load = Arc::<Load>::default();
        let (post, _) = mailbox(1).expect("descriptors are free");
        let (other_post, queue) = mailbox(1).expect("descriptors are free");
        let neighbours = [(load.clone(), post), (other.clone(), other_post)];
        let neighbours = neighbours.into_iter().map(|(load, post)| Neighbour { load, post }).collect();
        let counted = (0..own).map(|_| load.connection()).collect();
        let snapshot = Arc::new(Snapshot { generation: 7, ..Snapshot::empty() });
        other.serves(7);
        let for_policies = policies::Core::default();
        (Core::new(for_policies, 2, snapshot, CoreTelemetry::new(0), load, neighbours), counted, queue)
    }

    /// What becomes of so many connections that come to a core with `own`; `prepare` sees its neighbour before.
    fn handed_over(own: usize, coming: usize, prepare: fn(&Arc<Load>, &OpenListener, &Core)) -> u64 {
        let result = driver::run(Kind::Epoll, async move {
            let other = Arc::<Load>::default();
            let (core, _counted, _queue) = core_beside(own, &other);
            let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
            socket.set_nonblocking(true).expect("an option of every socket");
            let address = socket.local_addr().expect("it is bound");
            let again = socket.try_clone().expect("descriptors are free");
            let listening = Listener::open(socket.into()).expect("descriptors are free");
            let open = OpenListener::open(&core, address, listening, 0, None);
            prepare(&other, &open, &core);
            let (listener, _closer) = Listener::open(again.into()).expect("descriptors are free");
            for _ in 0..coming {
                let _client = TcpStream::connect(address).expect("it listens");
                let accepted = listener.accept_waiting().expect("one waits");
                let before = other.expected();
                if hand_over(&core, &open, accepted).is_some() {
                    assert_eq!(other.expected(), before, "what stays is not expected elsewhere");
                } else {
                    assert_eq!(other.expected(), before + 1);
                }
            }
            core.telemetry.connections_handed_over.value()
        });
        result.expect("epoll is always there")
    }

    #[test]
    fn a_full_queue_keeps_the_connection_where_it_is() {
        assert_eq!(handed_over(9, 3, |_, _, _| {}), 1);
    }

    #[test]
    fn what_is_even_or_leaving_or_not_there_yet_keeps_its_connections() {
        assert_eq!(handed_over(1, 1, |_, _, _| {}), 0);
        assert_eq!(handed_over(9, 1, |other, _, _| other.serves(6)), 0, "it may not have the listener yet");
        assert_eq!(handed_over(9, 1, |other, _, _| other.serves(8)), 1, "it has, or has had it");
        assert_eq!(handed_over(9, 1, |other, _, _| other.leave()), 0, "nobody is there");
        assert_eq!(handed_over(9, 1, |_, open, core| open.close(Duration::ZERO, core.serving())), 0);
    }
}
