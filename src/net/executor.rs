//! Runs this core's tasks: a queue of those that were woken, and timers.
//!
//! Everything is of one thread. A waker is a counted pointer to its task without atomics, so it must not leave the core:
//! what other threads have to say comes through the mailbox, which is a socket. The type cannot forbid it (a `Waker` is
//! `Send`), so each task knows its thread, and a waker that is used on another one panics there and touches nothing.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    io,
    mem::ManuallyDrop,
    pin::Pin,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
    time::{Duration, Instant},
};

use super::reactor;

/// How often everything that is woken runs before the kernel is asked again, though tasks wake one another or themselves:
/// no chain of them keeps a socket waiting, and the short ones (a connection just accepted) cost no call of their own.
const ROUNDS: usize = 4;

thread_local! {
    static WOKEN: RefCell<VecDeque<Rc<Task>>> = const { RefCell::new(VecDeque::new()) };
    static TIMERS: RefCell<Timers> = const { RefCell::new(Timers { next_id: 0, waiting: BTreeMap::new() }) };
}

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// `None` when it is done.
    future: RefCell<Option<TaskFuture>>,
    woken: Cell<bool>,
    /// The only one on which anything but this may be looked at, and on which the task is counted. It never changes.
    thread: u64,
}

impl Task {
    fn new(future: TaskFuture) -> Rc<Self> {
        Rc::new(Self { future: RefCell::new(Some(future)), woken: Cell::new(false), thread: this_thread() })
    }
}

/// Starts a task on this core.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    wake(Task::new(Box::pin(future)));
}

/// Runs `main`, and beside it every spawned task, until `main` is done. What other tasks still do then is never resumed.
///
/// # Errors
/// The kernel refuses the driver for good; then `main` is not resumed either.
pub fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let finished = Cell::new(None);
    let task = async { finished.set(Some(main.await)) };
    // SAFETY: `Main` drops the future before this function is left, by a panic too, and with it every borrow.
    let task = unsafe { std::mem::transmute::<Pin<Box<dyn Future<Output = ()> + '_>>, TaskFuture>(Box::pin(task)) };
    let main = Main(Task::new(task));
    wake(main.0.clone());
    loop {
        run_woken();
        if let Some(output) = finished.take() {
            return Ok(output);
        }
        let idle = WOKEN.with_borrow(VecDeque::is_empty);
        let wait = if idle { time_to_next_timer() } else { Some(Duration::ZERO) };
        reactor::park(wait)?;
        fire_timers();
    }
}

/// The task of [`block_on`], whose future must not outlive the call.
struct Main(Rc<Task>);

impl Drop for Main {
    fn drop(&mut self) {
        // A poll that panicked has given its borrow back.
        self.0.future.borrow_mut().take();
    }
}

fn run_woken() {
    for _ in 0..ROUNDS {
        let woken = WOKEN.with_borrow(VecDeque::len);
        for _ in 0..woken {
            let Some(task) = WOKEN.with_borrow_mut(VecDeque::pop_front) else { return };
            run(&task);
        }
        if WOKEN.with_borrow(VecDeque::is_empty) {
            return;
        }
    }
}

fn run(task: &Rc<Task>) {
    task.woken.set(false);
    // Borrowed from `task`: most polls clone no waker.
    let waker = ManuallyDrop::new(raw_waker(Rc::as_ptr(task)));
    let mut future = task.future.borrow_mut();
    if let Some(running) = &mut *future
        && running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    {
        let done = future.take();
        drop(future);
        drop(done);
    }
}

fn wake(task: Rc<Task>) {
    if !task.woken.replace(true) {
        // At the thread's end, when tasks that are dropped wake others, the queue may be gone already.
        let _ = WOKEN.try_with(|woken| woken.borrow_mut().push_back(task));
    }
}

thread_local! {
    /// 0: this thread has no tasks.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A number that no other thread has or had; an address of its own could be given to a later thread again.
fn this_thread() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    if THREAD.get() == 0 {
        THREAD.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
    }
    THREAD.get()
}

/// Whether a waker's task is of this thread.
///
/// # Panics
/// It is not. What the waker held of the count is leaked by that, and the count is not touched: so little is lost that nobody
/// needs to be torn down for it, and the panic names the mistake. Where a panic is under way already there is no other.
fn is_of_this_thread(task: *const ()) -> bool {
    // SAFETY: the waker's part of the count keeps the task alive, and this field is written before a waker exists.
    let is = unsafe { (*task.cast::<Task>()).thread } == THREAD.get();
    if !is {
        strayed();
    }
    is
}

#[cold]
#[inline(never)]
fn strayed() {
    if !std::thread::panicking() {
        panic!("a task's waker was used on another thread than the task's; other threads are heard through a mailbox");
    }
}

const VTABLE: RawWakerVTable = RawWakerVTable::new(
    |task| {
        if !is_of_this_thread(task) {
            return RawWaker::new(Waker::noop().data(), Waker::noop().vtable());
        }
        // SAFETY: the pointer came from an `Rc` whose count this waker is part of, on the thread of that count.
        unsafe { Rc::increment_strong_count(task.cast::<Task>()) };
        RawWaker::new(task, &VTABLE)
    },
    |task| {
        if is_of_this_thread(task) {
            // SAFETY: as above; this takes the waker's count over.
            wake(unsafe { Rc::from_raw(task.cast::<Task>()) });
        }
    },
    |task| {
        if is_of_this_thread(task) {
            // SAFETY: as above; the count stays with the waker.
            let task = ManuallyDrop::new(unsafe { Rc::from_raw(task.cast::<Task>()) });
            wake(Rc::clone(&task));
        }
    },
    |task| {
        if is_of_this_thread(task) {
            // SAFETY: as above; this gives the waker's count back.
            unsafe { Rc::decrement_strong_count(task.cast::<Task>()) };
        }
    },
);

fn raw_waker(task: *const Task) -> Waker {
    // SAFETY: the functions of the table keep to the contract; that they count without atomics is sound because each looks
    // first whether it runs on the task's thread, and does nothing where it does not.
    unsafe { Waker::from_raw(RawWaker::new(task.cast(), &VTABLE)) }
}

struct Timers {
    next_id: u64,
    waiting: BTreeMap<(Instant, u64), Waker>,
}

/// Waits until a time; dropping it forgets it.
pub struct Sleep {
    until: Instant,
    /// Its place among the timers, once it waits.
    id: Option<u64>,
}

pub fn sleep(duration: Duration) -> Sleep {
    Sleep { until: Instant::now() + duration, id: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        TIMERS.with_borrow_mut(|timers| {
            let id = self.id.unwrap_or_else(|| {
                timers.next_id += 1;
                timers.next_id
            });
            self.id = Some(id);
            timers.waiting.insert((self.until, id), context.waker().clone());
        });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // At the thread's end the table may be gone already.
            let _ = TIMERS.try_with(|timers| timers.borrow_mut().waiting.remove(&(self.until, id)));
        }
    }
}

/// Lets every other task that is woken run first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn time_to_next_timer() -> Option<Duration> {
    TIMERS.with_borrow(|timers| {
        let ((until, _), _) = timers.waiting.first_key_value()?;
        Some(until.saturating_duration_since(Instant::now()))
    })
}

fn fire_timers() {
    let now = Instant::now();
    loop {
        let due = TIMERS.with_borrow_mut(|timers| {
            let first = timers.waiting.first_entry()?;
            (first.key().0 <= now).then(|| first.remove())
        });
        match due {
            Some(waker) => waker.wake(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::net::driver::{self, Flags, Kind};

    /// Wakes another task when its own goes.
    struct WakesInPassing(Rc<RefCell<Option<Waker>>>);

    impl Drop for WakesInPassing {
        fn drop(&mut self) {
            if let Some(waker) = self.0.take() {
                waker.wake();
            }
        }
    }

    #[test]
    fn a_thread_ends_though_its_tasks_wake_one_another_as_they_are_dropped() {
        for kind in [Kind::Epoll, Kind::IoUring(Flags::DeferTaskrun)] {
            let thread = std::thread::spawn(move || {
                let ended = driver::run(kind, async {
                    let peer = leave_waiting_for_a_peer().await;
                    leave_waiting_for_a_time();
                    yield_now().await;
                    yield_now().await;
                    peer
                });
                assert!(ended.is_ok() || kind != Kind::Epoll);
                ended.ok()
            });
            let peer = thread.join().expect("neither the run nor the thread's end panics");
            if let Some(mut peer) = peer {
                // The thread has gone with its tasks, their sockets and its descriptors.
                assert_eq!(peer.read(&mut [0]).expect("no error but the end"), 0);
            }
        }
    }

    /// What a policy would do that awaits a channel of another thread: its waker is cloned, woken and dropped there.
    #[test]
    fn a_waker_that_is_used_on_another_thread_is_an_error_and_no_race() {
        let uses: [fn(Waker); 4] =
            [|waker| waker.wake_by_ref(), |waker| drop(waker.clone()), Waker::wake, |waker| drop(waker)];
        for use_it in uses {
            let done = driver::run(Kind::Epoll, async move {
                let (give, take) = std::sync::mpsc::channel();
                let held = Rc::new(());
                let in_task = held.clone();
                spawn(poll_fn(move |context| {
                    let _ = &in_task;
                    let _ = give.send(context.waker().clone());
                    Poll::Ready(())
                }));
                yield_now().await;
                let waker: Waker = take.recv().expect("the task has run");
                let strayed = std::thread::spawn(move || use_it(waker));
                let message = strayed.join().expect_err("the other thread is told");
                let message = message.downcast_ref::<&str>().expect("it says why");
                assert!(message.contains("on another thread"), "{message}");
                assert_eq!(Rc::strong_count(&held), 1, "the task itself is gone as ever");
                yield_now().await;
            });
            done.expect("epoll is always there");
        }
    }

    /// A second panic would end the process.
    #[test]
    fn wakers_that_stray_into_a_panic_are_left_alone() {
        let done = driver::run(Kind::Epoll, async {
            let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
            let wakers = [waker.clone(), waker];
            let strayed = std::thread::spawn(move || {
                let _wakers = wakers;
                panic!("of another thread's own");
            });
            let message = strayed.join().expect_err("it panicked");
            assert_eq!(message.downcast_ref::<&str>(), Some(&"of another thread's own"));
        });
        done.expect("epoll is always there");
    }

    /// The task is held by the driver alone.
    async fn leave_waiting_for_a_peer() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let mut stream = crate::net::Stream::connect(address).await.expect("it listens");
        let wakes = wakes_in_passing();
        spawn(async move {
            let _wakes = wakes;
            let _ = stream.receiver.fill().await;
        });
        listener.accept().expect("a connection waits").0
    }

    /// The task is held by the timers alone.
    fn leave_waiting_for_a_time() {
        let wakes = wakes_in_passing();
        spawn(async move {
            let _wakes = wakes;
            sleep(Duration::from_secs(3600)).await;
        });
    }

    /// Of a task that waits for nothing else.
    fn wakes_in_passing() -> WakesInPassing {
        let place = Rc::<RefCell<Option<Waker>>>::default();
        let waits = place.clone();
        spawn(poll_fn(move |context| {
            waits.replace(Some(context.waker().clone()));
            Poll::Pending
        }));
        WakesInPassing(place)
    }
}
