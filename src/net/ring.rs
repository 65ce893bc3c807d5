//! The io_uring driver: operations in flight, and the buffers that the kernel picks from.
//!
//! A receive names no buffer; the kernel takes one from a ring of them when bytes have come. So no idle connection holds
//! memory to read into, and nothing needs to be cancelled to get it back. Receives wait for readiness first: nearly always
//! there is nothing yet, and trying costs a walk through the TCP stack; only the first one of a client tries. Where much is
//! to come the ring only says when; it is received by a call (`calls.rs` says why).

use std::{
    alloc::{Layout, alloc_zeroed, handle_alloc_error},
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::RawFd,
    sync::atomic::{AtomicU16, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{BufRingEntry, Fd, SubmitArgs, Timespec},
};
use socket2::SockAddr;

use super::{
    buffer::{Buffer, SMALL_ROOM},
    calls::Next,
    driver::{self, Flags},
    faults::Faults,
};

/// Completions that nobody waits for: closes and cancellations.
const NOBODY: u64 = u64::MAX;
/// A cancellation, of the slot in the lower half.
const CANCELS: u64 = 1 << 32;
/// `IORING_RECVSEND_POLL_FIRST`, in the entry's `ioprio`.
const POLL_FIRST: u16 = 1;
/// Where `ioprio` lies in a submission entry.
const IOPRIO_AT: usize = 2;

/// Receive buffers that the kernel may fill before we look: 1 MiB per core.
const BUFFERS: u16 = 256;
const GROUP: u16 = 0;

pub struct Ring {
    ring: IoUring,
    table: Table,
    faults: Faults,
    /// The kernel has refused it for good, and the core ends: nothing is submitted any more.
    broken: Option<io::Error>,
}

/// The operations, and the buffers that they are given.
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    provided: Provided,
    /// Operations given up that a cancellation did not find: between being ready and being looked at they are nowhere.
    missed: Vec<u32>,
}

/// A place in the table of operations. Given out by `Ring`, and back to it: by [`Ring::poll`] or [`Ring::give_up`].
pub struct Op(u32);

struct Slot {
    state: State,
    /// A multi-shot accept, whose results queue up.
    accepts: bool,
    /// A send that nobody waits for: its buffer goes when it has left.
    posted: bool,
    waker: Option<Waker>,
    /// What the kernel reads from, or has filled.
    buffer: Buffer,
    /// What the kernel reads while it connects.
    address: Option<Box<SockAddr>>,
    /// Connections of a multi-shot accept.
    accepted: VecDeque<io::Result<RawFd>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Done(i32),
    /// Nobody waits any more; the place is free when the kernel is done.
    GivenUp,
    Free,
}

/// How an operation ended.
pub struct Done {
    pub result: io::Result<usize>,
    /// What was received; or what was to be sent, as it was.
    pub buffer: Buffer,
}

impl Ring {
    pub fn new(flags: Flags) -> io::Result<Self> {
        let ring = driver::ring(flags).build(driver::ENTRIES)?;
        let provided = Provided::new(&ring, BUFFERS)?;
        let table = Table { slots: Vec::new(), free: Vec::new(), provided, missed: Vec::new() };
        Ok(Self { ring, table, faults: Faults::default(), broken: None })
    }

    /// Whether the kernel has rings of provided buffers (Linux 5.19).
    pub fn try_buffers(ring: &IoUring) -> io::Result<()> {
        Provided::new(ring, 1).map(drop)
    }

    /// Submits what has gathered, waits for a completion, and takes all there are.
    ///
    /// # Errors
    /// The kernel refuses that for good: this and every further one.
    pub fn park(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let timespec = wait.map(Timespec::from);
        let args = SubmitArgs::new();
        let args = match &timespec {
            Some(timespec) => args.timespec(timespec),
            None => args,
        };
        if let Some(error) = &self.broken {
            return Err(same(error));
        }
        let entered = self.ring.submitter().submit_with_args(1, &args);
        for entry in self.ring.completion() {
            self.table.complete(&entry);
        }
        for index in std::mem::take(&mut self.table.missed) {
            if self.table.slots[index as usize].state == State::GivenUp {
                self.cancel(&Op(index));
            }
        }
        self.heed(entered)
    }

    /// What was not submitted is submitted the next time.
    fn heed(&mut self, entered: io::Result<usize>) -> io::Result<()> {
        match entered {
            Err(error) if !is_everyday(&error) => self.faults.back_off(error).inspect_err(|error| {
                self.broken = Some(same(error));
            }),
            _ => {
                self.faults.over();
                Ok(())
            }
        }
    }

    /// Receives into a buffer of the kernel's choice, `SMALL_ROOM` bytes at most. `at_once`: they have most likely come.
    pub fn receive(&mut self, fd: RawFd, at_once: bool) -> Op {
        let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        let entry = entry.flags(squeue::Flags::BUFFER_SELECT);
        self.begin(if at_once { entry } else { poll_first(entry) }, Buffer::none(), None)
    }

    /// Waits until there is something to receive: bytes, the end or an error.
    pub fn wait_readable(&mut self, fd: RawFd) -> Op {
        self.begin(opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build(), Buffer::none(), None)
    }

    /// Waits until the socket takes more than a little, or is broken.
    pub fn wait_writable(&mut self, fd: RawFd) -> Op {
        self.begin(opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build(), Buffer::none(), None)
    }

    /// Sends all of a buffer, however long that takes.
    pub fn send(&mut self, fd: RawFd, buffer: Buffer, next: Next) -> Op {
        let (bytes, len) = (buffer.bytes().as_ptr(), buffer.len());
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | next.flag();
        let entry = opcode::Send::new(Fd(fd), bytes, len as u32).flags(flags).build();
        // The bytes stay where they are: moving a buffer does not move its allocation.
        self.begin(entry, buffer, None)
    }

    /// As [`Ring::send`], and the buffer is not kept for whoever polls: there is one again only if not all of it was sent.
    pub fn post(&mut self, fd: RawFd, buffer: Buffer) -> Op {
        let op = self.send(fd, buffer, Next::Anything);
        self.table.slots[op.0 as usize].posted = true;
        op
    }

    pub fn connect(&mut self, fd: RawFd, address: SocketAddr) -> Op {
        let address = Box::new(SockAddr::from(address));
        let entry = opcode::Connect::new(Fd(fd), address.as_ptr().cast(), address.len()).build();
        self.begin(entry, Buffer::none(), Some(address))
    }

    /// Accepts until it is given up or fails.
    pub fn accept(&mut self, fd: RawFd) -> Op {
        let entry = opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).build();
        let op = self.begin(entry, Buffer::none(), None);
        self.table.slots[op.0 as usize].accepts = true;
        op
    }

    /// Closes behind everything submitted so far. True: it is under way.
    pub fn close(&mut self, fd: RawFd) -> bool {
        self.push(opcode::Close::new(Fd(fd)).build().user_data(NOBODY));
        self.broken.is_none()
    }

    /// The end of an operation; its place is free then.
    pub fn poll(&mut self, op: &Op, context: &mut Context<'_>) -> Poll<Done> {
        let slot = &mut self.table.slots[op.0 as usize];
        let State::Done(result) = slot.state else {
            slot.wait(context);
            return Poll::Pending;
        };
        let buffer = std::mem::take(&mut slot.buffer);
        self.table.release(op.0);
        let result = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) };
        Poll::Ready(Done { result, buffer })
    }

    /// Ready when [`Ring::poll`] would be.
    pub fn poll_done(&mut self, op: &Op, context: &mut Context<'_>) -> Poll<()> {
        let slot = &mut self.table.slots[op.0 as usize];
        if let State::Done(_) = slot.state {
            return Poll::Ready(());
        }
        slot.wait(context);
        Poll::Pending
    }

    /// The next connection of an accept. An error ends it.
    pub fn poll_accept(&mut self, op: &Op, context: &mut Context<'_>) -> Poll<io::Result<RawFd>> {
        let slot = &mut self.table.slots[op.0 as usize];
        match slot.accepted.pop_front() {
            Some(Ok(fd)) => Poll::Ready(Ok(fd)),
            Some(Err(error)) => {
                self.table.release(op.0);
                Poll::Ready(Err(error))
            }
            None => {
                slot.wait(context);
                Poll::Pending
            }
        }
    }

    /// Asks an operation to end; it may bring something all the same, and its end is polled for as ever.
    pub fn cancel(&mut self, op: &Op) {
        self.push(opcode::AsyncCancel::new(u64::from(op.0)).build().user_data(CANCELS | u64::from(op.0)));
    }

    /// Nobody wants the result any more. What the kernel uses stays until it is done.
    pub fn give_up(&mut self, op: Op) {
        let slot = &mut self.table.slots[op.0 as usize];
        slot.waker = None;
        slot.close_accepted();
        match slot.state {
            State::InFlight => {
                slot.state = State::GivenUp;
                self.cancel(&op);
            }
            State::Done(_) => {
                slot.buffer = Buffer::none();
                self.table.release(op.0);
            }
            State::GivenUp | State::Free => unreachable!("an operation is given up once, by its owner"),
        }
    }

    fn begin(&mut self, entry: squeue::Entry, buffer: Buffer, address: Option<Box<SockAddr>>) -> Op {
        let index = self.table.begin(buffer, address);
        self.push(entry.user_data(u64::from(index)));
        Op(index)
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: what the entry points to lives in a slot until its completion, or is nothing.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full; the kernel takes it. Should it not, it has completions to give first.
            if self.broken.is_some() {
                // The core ends, with whoever would wait for this.
                return;
            }
            if let Err(error) = self.ring.submit()
                && self.heed(Err(error)).is_ok()
            {
                // A further refusal is seen in the next round, or by then has broken the ring.
                let _ = self.park(Some(Duration::ZERO));
            }
        }
    }
}

/// A time-out, a signal, and a completion queue that is full until it has been looked at.
fn is_everyday(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY))
}

fn same(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

impl Drop for Ring {
    /// At the thread's end: descriptors are closed, and what the kernel may still read stays where it is.
    fn drop(&mut self) {
        let _ = self.ring.submit();
        for slot in &mut self.table.slots {
            slot.close_accepted();
            if matches!(slot.state, State::InFlight | State::GivenUp) {
                std::mem::forget(std::mem::take(&mut slot.buffer));
                std::mem::forget(slot.address.take());
            }
        }
    }
}

impl Table {
    fn begin(&mut self, buffer: Buffer, address: Option<Box<SockAddr>>) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::free());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.state = State::InFlight;
        slot.buffer = buffer;
        slot.address = address;
        index
    }

    fn complete(&mut self, entry: &cqueue::Entry) {
        if entry.user_data() == NOBODY {
            return;
        }
        let (result, flags) = (entry.result(), entry.flags());
        if entry.user_data() & CANCELS != 0 {
            if result == -libc::ENOENT {
                self.missed.push(entry.user_data() as u32);
            }
            return;
        }
        let received =
            cqueue::buffer_select(flags).map(|id| self.provided.take(id, usize::try_from(result).unwrap_or_default()));
        let index = entry.user_data() as u32;
        let slot = &mut self.slots[index as usize];
        let over = !cqueue::more(flags);
        match slot.state {
            State::GivenUp => {
                if slot.accepts && result >= 0 {
                    // SAFETY: a connection that nobody has seen.
                    unsafe { libc::close(result) };
                }
                if over {
                    slot.buffer = Buffer::none();
                    self.release(index);
                }
                return;
            }
            State::InFlight => {}
            State::Done(_) | State::Free => return,
        }
        if slot.accepts {
            slot.accepted.push_back(if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) });
            if over && result >= 0 {
                // It ended without an error of its own: whoever accepts begins anew.
                slot.accepted.push_back(Err(io::ErrorKind::Interrupted.into()));
            }
        }
        if let Some(received) = received {
            slot.buffer = received;
        }
        if over {
            slot.state = State::Done(result);
            if slot.posted && usize::try_from(result).is_ok_and(|sent| sent == slot.buffer.len()) {
                slot.buffer = Buffer::none();
            }
        }
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Free;
        slot.accepts = false;
        slot.posted = false;
        slot.waker = None;
        slot.address = None;
        self.free.push(index);
    }
}

impl Slot {
    fn free() -> Self {
        Self {
            state: State::Free,
            accepts: false,
            posted: false,
            waker: None,
            buffer: Buffer::none(),
            address: None,
            accepted: VecDeque::new(),
        }
    }

    fn close_accepted(&mut self) {
        for fd in self.accepted.drain(..).flatten() {
            // SAFETY: a connection that nobody has seen.
            unsafe { libc::close(fd) };
        }
    }

    fn wait(&mut self, context: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
    }
}

fn poll_first(mut entry: squeue::Entry) -> squeue::Entry {
    let ioprio = (&raw mut entry).cast::<u8>().wrapping_add(IOPRIO_AT).cast::<u16>();
    // SAFETY: an entry is the kernel's `struct io_uring_sqe`, 64 plain bytes, with `ioprio` at offset 2; the crate has no
    // setter for it on a receive.
    unsafe { ioprio.write(POLL_FIRST) };
    entry
}

/// The receive buffers, and the ring by which the kernel learns of them:
///
/// ```text
/// entry 0:  addr u64 | len u32 | bid u16 | tail u16      the tail counts buffers offered, ever
/// entry n:  addr u64 | len u32 | bid u16 | -             n < count, a power of two
/// ```
struct Provided {
    entries: *mut BufRingEntry,
    count: u16,
    tail: u16,
    /// By number: what the kernel may write into. Given away as a `Buffer` when filled, and another takes its place.
    offered: Vec<*mut [u8]>,
}

impl Provided {
    fn new(ring: &IoUring, count: u16) -> io::Result<Self> {
        const PAGE: usize = 4096;
        let layout =
            Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE).map_err(io::Error::other)?;
        // SAFETY: the layout is not empty. The memory is never freed: the kernel may read it for as long as the ring lives,
        // which is as long as the process does.
        let entries = unsafe { alloc_zeroed(layout) }.cast::<BufRingEntry>();
        if entries.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: as above; the address is aligned to a page, and the length is that of the allocation.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, count, GROUP, 0)? };
        let offered = (0..count).map(|_| Box::into_raw(Buffer::allocate(SMALL_ROOM))).collect();
        let mut provided = Self { entries, count, tail: 0, offered };
        (0..count).for_each(|id| provided.offer(id));
        Ok(provided)
    }

    /// A filled buffer, in whose place another is offered.
    fn take(&mut self, id: u16, len: usize) -> Buffer {
        let fresh = Box::into_raw(Buffer::allocate(SMALL_ROOM));
        let filled = std::mem::replace(&mut self.offered[usize::from(id)], fresh);
        self.offer(id);
        // SAFETY: the pointer came from a box, and the kernel has given the buffer back.
        Buffer::filled(unsafe { Box::from_raw(filled) }, len)
    }

    fn offer(&mut self, id: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        let bytes = self.offered[usize::from(id)].cast::<u8>().wrapping_add(Buffer::RECEIVE_AT);
        // SAFETY: `place` is below `count`, and the kernel reads an entry only when the tail says that it is there.
        unsafe {
            let entry = &mut *self.entries.add(place);
            entry.set_addr(bytes as u64);
            entry.set_len(SMALL_ROOM as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
