//! What a core counts with, what a scrape gets of it, and a line of the metrics page.
//!
//! A count is declared once, in [`super::core`]; all else follows from its type.

use std::{
    cell::{Cell, RefCell},
    marker::PhantomData,
    ops::AddAssign,
    time::Duration,
};

use super::core::CoreCopy;

/// What a reader of metrics may do with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever counts up.
    Counter,
    /// Goes up and down.
    Gauge,
    Histogram,
}

/// One count as the metrics page shows it.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    /// What its values are told apart by; empty where there is but one.
    pub label: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub value: for<'c> fn(&'c CoreCopy) -> Value<'c>,
}

/// A count, or several of one name.
#[derive(Clone, Copy, Debug)]
pub enum Value<'c> {
    Count(u64),
    Number(f64),
    By(&'c Reasons),
}

/// Something that a core counts with.
pub trait Count: Default {
    const KIND: Kind;
    /// What a scrape gets.
    type Copy;

    fn copy(&self) -> Self::Copy;
    /// Adds another core's.
    fn merge(mine: &mut Self::Copy, theirs: &Self::Copy);
    fn show(copy: &Self::Copy) -> Value<'_>;
}

/// Only ever counts up.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

impl Count for Counter {
    const KIND: Kind = Kind::Counter;
    type Copy = u64;

    fn copy(&self) -> u64 {
        self.value()
    }

    fn merge(mine: &mut u64, theirs: &u64) {
        *mine = mine.wrapping_add(*theirs);
    }

    fn show(copy: &u64) -> Value<'_> {
        Value::Count(*copy)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(Cell<u64>);

impl Gauge {
    pub fn increment(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// Stays at 0: a count that is off by one must not become the largest number there is.
    pub fn decrement(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    pub fn set(&self, value: u64) {
        self.0.set(value);
    }

    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

impl Count for Gauge {
    const KIND: Kind = Kind::Gauge;
    type Copy = u64;

    fn copy(&self) -> u64 {
        self.value()
    }

    fn merge(mine: &mut u64, theirs: &u64) {
        *mine += theirs;
    }

    fn show(copy: &u64) -> Value<'_> {
        Value::Count(*copy)
    }
}

/// A counter for each reason code; there are few, and only failures come here.
#[derive(Debug, Default)]
pub struct ByReason(RefCell<Reasons>);

impl ByReason {
    pub fn increment(&self, reason: &'static str) {
        self.0.borrow_mut().add(reason, 1);
    }
}

impl Count for ByReason {
    const KIND: Kind = Kind::Counter;
    type Copy = Reasons;

    fn copy(&self) -> Reasons {
        self.0.borrow().clone()
    }

    fn merge(mine: &mut Reasons, theirs: &Reasons) {
        mine.merge(theirs);
    }

    fn show(copy: &Reasons) -> Value<'_> {
        Value::By(copy)
    }
}

/// Counts by reason code.
#[derive(Clone, Debug, Default)]
pub struct Reasons(Vec<(&'static str, u64)>);

impl Reasons {
    pub fn add(&mut self, reason: &'static str, more: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += more,
            None => self.0.push((reason, more)),
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(reason, count)| self.add(reason, count));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }
}

/// Known elsewhere: whoever knows it writes it into the copy.
#[derive(Debug, Default)]
pub struct Told<T>(PhantomData<T>);

/// A number that may be told.
pub trait Tell: Copy + Default + AddAssign {
    const KIND: Kind;

    fn show(self) -> Value<'static>;
}

impl<T: Tell> Count for Told<T> {
    const KIND: Kind = T::KIND;
    type Copy = T;

    fn copy(&self) -> T {
        T::default()
    }

    fn merge(mine: &mut T, theirs: &T) {
        *mine += *theirs;
    }

    fn show(copy: &T) -> Value<'_> {
        copy.show()
    }
}

impl Tell for u64 {
    const KIND: Kind = Kind::Counter;

    fn show(self) -> Value<'static> {
        Value::Count(self)
    }
}

/// Shown in seconds.
impl Tell for Duration {
    const KIND: Kind = Kind::Counter;

    fn show(self) -> Value<'static> {
        Value::Number(self.as_secs_f64())
    }
}

/// A share of something.
impl Tell for f64 {
    const KIND: Kind = Kind::Gauge;

    fn show(self) -> Value<'static> {
        Value::Number(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_does_not_go_below_nothing() {
        let gauge = Gauge::default();
        gauge.decrement();
        assert_eq!(gauge.value(), 0);
    }

    #[test]
    fn each_kind_adds_up_over_cores() {
        fn sum<C: Count>(one: impl Fn(&C), other: impl Fn(&C)) -> C::Copy {
            let cores = [C::default(), C::default()];
            one(&cores[0]);
            other(&cores[1]);
            let mut sum = cores[0].copy();
            C::merge(&mut sum, &cores[1].copy());
            sum
        }
        assert_eq!(sum::<Counter>(|count| count.add(u64::MAX), |count| count.add(3)), 2);
        assert_eq!(sum::<Gauge>(|count| count.set(5), Gauge::decrement), 5);
        let reasons = sum::<ByReason>(
            |count| count.increment("a"),
            |count| ["b", "a"].into_iter().for_each(|reason| count.increment(reason)),
        );
        assert_eq!(reasons.iter().collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
    }
}
