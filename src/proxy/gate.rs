//! Lets a bounded number in at a time: handshakes, which cost a core more than anything else a stranger can ask for.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

#[derive(Default)]
pub struct Gate {
    inside: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Default)]
struct Waiter {
    /// A place was given to it.
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A place inside; dropped, it goes to the next.
pub struct Inside<'g>(&'g Gate);

/// A place in the queue; dropped, it is left.
struct Place<'g> {
    gate: &'g Gate,
    waiter: Rc<Waiter>,
    entered: Cell<bool>,
}

impl Gate {
    /// In the order in which they came. `None`: too many wait already.
    pub async fn enter(&self, inside_max: usize, waiting_max: usize) -> Option<Inside<'_>> {
        if self.inside.get() < inside_max {
            self.inside.set(self.inside.get() + 1);
            return Some(Inside(self));
        }
        if self.waiting.borrow().len() >= waiting_max {
            return None;
        }
        let place = Place { gate: self, waiter: Rc::default(), entered: Cell::new(false) };
        self.waiting.borrow_mut().push_back(place.waiter.clone());
        poll_fn(|context| {
            if place.waiter.called.get() {
                return Poll::Ready(());
            }
            place.waiter.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        place.entered.set(true);
        Some(Inside(self))
    }

    fn leave(&self) {
        let Some(next) = self.waiting.borrow_mut().pop_front() else {
            return self.inside.set(self.inside.get() - 1);
        };
        next.called.set(true);
        if let Some(waker) = next.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.entered.get() {
            return;
        }
        if self.waiter.called.get() {
            self.gate.leave();
        } else {
            self.gate.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::Context,
    };

    use super::*;

    type Entering<'g> = Pin<Box<dyn Future<Output = Option<Inside<'g>>> + 'g>>;

    #[test]
    fn one_who_leaves_lets_the_next_in_and_one_who_gives_up_does_not_count() {
        let gate = Gate::default();
        let Poll::Ready(Some(first)) = pin!(gate.enter(1, 2)).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("there is room")
        };
        let mut second: Entering<'_> = Box::pin(gate.enter(1, 2));
        let mut third: Entering<'_> = Box::pin(gate.enter(1, 2));
        let poll = |entering: &mut Entering<'_>| match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(inside) => inside.is_some(),
            Poll::Pending => false,
        };
        assert!(!poll(&mut second) && !poll(&mut third));
        let fourth = pin!(gate.enter(1, 2)).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(fourth, Poll::Ready(None)), "two wait already");
        drop(second);
        drop(first);
        assert!(poll(&mut third), "the second has left the queue");
        drop(third);
        assert_eq!((gate.inside.get(), gate.waiting.borrow().len()), (0, 0));
    }
}
