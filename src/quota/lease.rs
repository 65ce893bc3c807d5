//! What a replica has been granted of one key and has not spent yet, and how it asks for more.
//!
//! A lease is spent while the windows that it is of are surely open. When the authority answers, `left_ms` remain of a window by
//! its clock, of which up to a millisecond is over already; and the question was sent before that. So the lease ends, by the
//! holder's clock, `left_ms` after the question was sent, less 1 ms and less a thousandth: right for any delay, as long as of
//! the two clocks neither runs faster than the other by more than a thousandth. Nobody compares what clocks say.

use super::{
    Answer, Asked, Limit, Question, Returned, Standing, Stands, Tick, WAIT_MAX_US, Wake,
    windows::{Exhausted, most_restrictive},
};

/// So much is asked for as is spent in this time, or in a quarter of the shortest window.
const AHEAD_US: u64 = 100_000;

/// What is unspent for so long, or for an eighth of the shortest window, is returned.
const IDLE_US_MAX: u64 = 250_000;

/// After an answer was lost, or said nothing, it is asked again so much later.
const AGAIN_US: u64 = 20_000;

/// A grant ahead of need is at most one part of so many for each replica.
const SHARES_PER_REPLICA: u64 = 2;

/// How much earlier than the authority's windows leases end.
#[derive(Clone, Copy, Debug)]
pub struct Margin {
    /// By so many thousandths clocks may differ in their rate.
    pub per_mille: u64,
    /// For the authority's milliseconds.
    pub us: u64,
}

impl Margin {
    pub const STATED: Self = Self { per_mille: 1, us: 1000 };

    /// Exclusive: when a window surely is still open until, that had `left_ms` left after this.
    fn surely_open(self, sent_at: Tick, left_ms: u64) -> Tick {
        let left = left_ms.saturating_mul(1000);
        sent_at.after(left.saturating_sub(self.drift(left)).saturating_sub(self.us))
    }

    fn drift(self, left: u64) -> u64 {
        (left / 1000).saturating_add(1).saturating_mul(self.per_mille)
    }
}

#[derive(Default)]
pub struct Lease {
    /// What is known of the authority's windows, one for each limit; none before the first grant.
    windows: Box<[Known]>,
    /// Granted and not lent to a core.
    pub pool: u64,
    /// Granted in all, less what was returned: what is not in the pool or lent has been spent.
    granted: u64,
    pub exhausted: Exhausted,
    /// To be returned with the next question, and until when that makes sense.
    unsent: Option<(Returned, Tick)>,
    asking: Asking,
    /// Who waits for the next answer, and until when at most.
    waiting: Vec<(Tick, Wake)>,
    /// Not to be asked earlier.
    again_at: Tick,
    /// When an answer came that its window had not outlived: whoever waited then is decided without.
    too_late: Option<Tick>,
    pace: Pace,
    /// The next question asks ahead of need.
    refill: bool,
    /// The last question got nothing ahead of need: what is left is too little to be stored.
    dry: bool,
    /// What had been spent when somebody last looked whether the lease is needed.
    looked: (Tick, u64),
    pub watched: bool,
    /// Something was granted since somebody last looked.
    pub fresh: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    window: u64,
    used: u64,
    surely_open: Tick,
    /// Not before the authority's window is, if clocks run alike. Nothing is admitted by it.
    over: Tick,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asking {
    #[default]
    Nothing,
    Queued,
    Sent {
        sequence: u64,
        at: Tick,
    },
}

/// How fast requests come.
#[derive(Default)]
struct Pace {
    since: Tick,
    spent: u64,
    /// As many as are to be expected in [`AHEAD_US`].
    ahead: u64,
}

impl Pace {
    /// Looks at what has been spent in all. It rises to at most twice as many, and falls by half, except after a pause.
    fn measure(&mut self, spent: u64, slice: u64, need: u64, now: Tick) -> u64 {
        let elapsed = now.since(self.since).max(1000);
        let seen = u128::from(spent.saturating_sub(self.spent)) * u128::from(slice) / u128::from(elapsed);
        let seen = u64::try_from(seen).unwrap_or(u64::MAX);
        self.ahead = match seen > self.ahead {
            true => seen.min(self.ahead.saturating_mul(2).saturating_add(need)),
            false if elapsed > 10 * slice => seen,
            false => seen + (self.ahead - seen) / 2,
        };
        (self.since, self.spent) = (now, spent);
        self.ahead
    }
}

/// What was asked, as far as the answer is understood by it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub sequence: u64,
    pub limits: std::sync::Arc<[Asked]>,
    pub need: u64,
    pub want: u64,
}

impl Lease {
    /// What may be spent may be so until then.
    pub fn until(&self) -> Tick {
        self.windows.iter().map(|window| window.surely_open).min().unwrap_or_default()
    }

    /// Whether it may have something to spend, or knows that there is nothing.
    pub fn says(&self, now: Tick) -> bool {
        now < self.until() || now < self.exhausted.until
    }

    /// Ends the lease: what was not spent is returned, where it still counts in a window.
    pub fn end(&mut self, asked: &[Asked], now: Tick) {
        let unspent = std::mem::take(&mut self.pool);
        self.give_back(asked, unspent, now);
    }

    /// What the next question returns. One lease waits for that at a time; an older one then counts as spent.
    fn give_back(&mut self, asked: &[Asked], count: u64, now: Tick) {
        self.granted -= count;
        let counts_until = self.windows.iter().map(|window| window.over).max().unwrap_or_default();
        if count == 0 || counts_until <= now {
            return;
        }
        let windows = asked.iter().zip(&self.windows).map(|(asked, window)| (asked.field, window.window)).collect();
        let mut returned = Returned { windows, count };
        if let Some((before, _)) = self.unsent.take().filter(|(before, _)| before.windows == returned.windows) {
            returned.count += before.count;
        }
        self.unsent = Some((returned, counts_until));
    }

    /// Other limits hold from now on: nothing that is known is known of them.
    pub fn reload(&mut self, asked: &[Asked], now: Tick) {
        self.end(asked, now);
        self.windows = Box::default();
        self.exhausted = Exhausted::NOTHING;
        self.dry = false;
    }

    /// With so many held in the pool and by cores.
    pub fn standing(&self, limits: &[Limit], held: u64, now: Tick) -> Standing {
        most_restrictive(limits.iter().zip(&self.windows).map(|(limit, window)| Standing {
            limit: limit.maximum,
            remaining: limit.maximum.saturating_sub(window.used).saturating_add(held).min(limit.maximum),
            reset_ms: now.ms_until(window.over),
        }))
    }

    /// Whether to ask for more before it is needed, so many being left to whoever looks. Then it is to be queued.
    pub fn wants_refill(&mut self, left: u64, now: Tick) -> bool {
        let is_low = self.pace.ahead > 1 && left <= self.pace.ahead / 2;
        let is_worth_it = !self.dry && now >= self.exhausted.until && now < self.until() && now >= self.again_at;
        is_low && is_worth_it && {
            self.refill = true;
            self.queue()
        }
    }

    /// Has a request wait that began to do so then. Returns for how long at most, and whether a question is to be queued; none
    /// where it is to be decided without the authority.
    pub fn wait(
        &mut self,
        since: Tick,
        waits: bool,
        now: Tick,
        bell: impl FnOnce() -> Option<Wake>,
    ) -> Option<(u64, bool)> {
        let left = WAIT_MAX_US.saturating_sub(now.since(since));
        let too_late = waits && self.too_late.is_some_and(|at| at >= since);
        if left == 0 || too_late {
            return None;
        }
        let bell = bell()?;
        self.give_up(now);
        let pause = self.again_at.since(now);
        let at_most = if pause > 0 { left.min(pause) } else { left };
        self.waiting.push((now.after(at_most), bell));
        Some((at_most, pause == 0 && self.queue()))
    }

    /// How many wait still. Those whose time is over have looked again by themselves.
    fn waiting(&mut self, now: Tick) -> u64 {
        self.waiting.retain(|(until, _)| now < *until);
        self.waiting.len() as u64
    }

    /// An answer that has not come by now will not be waited for.
    fn give_up(&mut self, now: Tick) {
        if matches!(self.asking, Asking::Sent { at, .. } if now.since(at) >= WAIT_MAX_US) {
            self.asking = Asking::Nothing;
        }
    }

    /// `true` where a question is to be queued that was not.
    fn queue(&mut self) -> bool {
        let is_new = self.asking == Asking::Nothing;
        if is_new {
            self.asking = Asking::Queued;
        }
        is_new
    }

    /// The question that has been queued, if it is still worth asking.
    pub fn question(&mut self, mut question: Question, held: u64, slice: u64, now: Tick) -> Option<Question> {
        if self.asking != Asking::Queued {
            return None;
        }
        self.asking = Asking::Nothing;
        question.need = self.waiting(now);
        let wants = std::mem::take(&mut self.refill) && now < self.until() || question.need > 0;
        if wants {
            let ahead = self.pace.measure(self.granted - held, slice.min(AHEAD_US), question.need, now);
            question.want = ahead.saturating_sub(held);
        }
        question.returns = self.unsent.take().filter(|(_, until)| now < *until).map(|(returned, _)| returned);
        if question.need == 0 && question.want == 0 && question.returns.is_none() {
            return None;
        }
        self.asking = Asking::Sent { sequence: question.sequence, at: now };
        Some(question)
    }

    /// Whether this is the answer that is waited for: then it is so no more.
    pub fn is_expected(&mut self, sequence: u64) -> bool {
        let is_expected = matches!(self.asking, Asking::Sent { sequence: asked, .. } if asked == sequence);
        if is_expected {
            (self.asking, self.refill) = (Asking::Nothing, false);
        }
        is_expected
    }

    /// No answer came: whoever waits goes on waiting, and asks again soon.
    pub fn lost(&mut self, now: Tick) {
        self.again_at = now.after(AGAIN_US);
    }

    /// The storage will not answer this: whoever waits is decided without.
    pub fn refused(&mut self, now: Tick) {
        self.too_late = Some(now);
        self.lost(now);
    }

    /// What was granted of limits that do not hold any more.
    pub fn outdated(&mut self, sent: &Sent, answer: &Answer, now: Tick) {
        let windows = sent.limits.iter().zip(&answer.limits);
        let returned = Returned {
            windows: windows.map(|(asked, stands)| (asked.field, stands.window)).collect(),
            count: answer.granted,
        };
        let left_ms = answer.limits.iter().map(|stands| stands.left_ms).max().unwrap_or_default();
        let counts_until = over(now, left_ms);
        self.unsent = (answer.granted > 0).then_some((returned, counts_until));
    }

    /// Whether an answer is of the windows that the lease is of.
    pub fn is_of(&self, answer: &Answer) -> bool {
        self.windows.len() == answer.limits.len()
            && self.windows.iter().zip(&answer.limits).all(|(known, stands)| known.window == stands.window)
    }

    /// Takes an answer in, of the same windows or after the lease of others has ended. `held` is what the lease has left.
    pub fn answered(&mut self, sent: &Sent, answer: &Answer, at: (Tick, Tick), margin: Margin, held: u64) {
        let (sent_at, now) = at;
        // No authority grants more than it was asked for; what says so is none.
        let granted = answer.granted.min(sent.need.saturating_add(sent.want));
        let known = |stands: &Stands| Known {
            window: stands.window,
            used: stands.used,
            surely_open: margin.surely_open(sent_at, stands.left_ms),
            over: over(now, stands.left_ms),
        };
        let fresh: Box<[Known]> = answer.limits.iter().map(known).collect();
        self.exhausted = exhausted(&sent.limits, answer, &fresh, now);
        self.dry = sent.want > 0 && granted <= sent.need;
        if self.is_of(answer) {
            // Both are right, so the better one is.
            self.windows.iter_mut().zip(fresh).for_each(|(known, fresh)| {
                known.used = fresh.used;
                known.surely_open = known.surely_open.max(fresh.surely_open);
                known.over = known.over.min(fresh.over);
            });
        } else if granted > 0 {
            self.windows = fresh;
        }
        if held == 0 {
            self.looked = (now, self.granted);
        }
        self.fresh |= granted > 0;
        self.granted += granted;
        self.pool += granted;
        if granted == 0 && sent.need > 0 && self.exhausted.until <= now {
            self.again_at = now.after(AGAIN_US);
        }
        if granted > 0 && self.until() <= now {
            self.arrived_dead(&sent.limits, answer, now);
        }
    }

    /// A grant that has ended before it came. At the end of a window one waits for the next; where the network is slower
    /// than the window that makes no sense.
    fn arrived_dead(&mut self, asked: &[Asked], answer: &Answer, now: Tick) {
        let ended = |known: &Known| known.surely_open <= now;
        let each = asked.iter().zip(&answer.limits).zip(&self.windows).filter(|(_, known)| ended(known));
        let is_slow = each.clone().any(|((asked, stands), _)| stands.left_ms > asked.field.period_ms / 2);
        let over = each.map(|(_, known)| known.over).max().unwrap_or(now);
        match is_slow {
            true => self.too_late = Some(now),
            false => self.again_at = over,
        }
        self.end(asked, now);
    }

    /// Those who wait look again.
    pub fn wake(&mut self) -> Vec<Wake> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, wake)| wake).collect()
    }

    /// What is to be returned as nobody needs it, of so much that is held.
    pub fn excess(&mut self, held: u64, period: u64, now: Tick) -> u64 {
        let (looked_at, spent_then) = self.looked;
        if held == 0 || now.since(looked_at) < idle_us(period) {
            return 0;
        }
        let spent = (self.granted - held).saturating_sub(spent_then);
        self.looked = (now, self.granted - held);
        // Who spends as fast as so far needs it soon.
        if held > spent.saturating_mul(4) { held - spent * 2 } else { 0 }
    }

    /// Gives back so much of what is in the pool: it is there to be had again.
    pub fn return_excess(&mut self, asked: &[Asked], excess: u64, now: Tick) {
        self.pool -= excess;
        self.give_back(asked, excess, now);
        self.exhausted = Exhausted::NOTHING;
    }

    /// Whether a question is to be queued now, for those who wait or for what is to be returned.
    pub fn is_to_ask(&mut self, now: Tick) -> bool {
        self.give_up(now);
        self.unsent.take_if(|(_, until)| *until <= now);
        let waits = self.waiting(now) > 0 && self.again_at <= now;
        (waits || self.unsent.is_some()) && self.queue()
    }

    /// When to look again, with so much held; none where there is nothing to look after.
    pub fn due(&self, held: u64, period: u64, now: Tick) -> Option<Tick> {
        let idle = (held > 0).then(|| self.looked.0.after(idle_us(period)).min(self.until()));
        let again = (!self.waiting.is_empty()).then_some(self.again_at);
        // An answer may bring something that is to be looked after.
        let soon = now.after(idle_us(period));
        let other = (self.asking != Asking::Nothing || self.unsent.is_some()).then_some(soon);
        let due = [idle, again.map(|again| again.max(soon)), other].into_iter().flatten().min();
        due.map(|due| due.max(now.after(1000)))
    }

    /// Whether somebody waits, or an answer is expected that may bring something.
    pub fn is_busy(&self, now: Tick) -> bool {
        let expects = matches!(self.asking, Asking::Sent { at, .. } if now.since(at) < WAIT_MAX_US);
        expects || self.waiting.iter().any(|(until, _)| now < *until)
    }
}

/// When a window is over that had so much left before this.
fn over(answered_at: Tick, left_ms: u64) -> Tick {
    answered_at.after(left_ms.saturating_mul(1000))
}

fn idle_us(period: u64) -> u64 {
    (period / 8).min(IDLE_US_MAX)
}

/// For so many replicas.
pub fn share(replicas: u64) -> u64 {
    replicas.max(1).saturating_mul(SHARES_PER_REPLICA)
}

fn exhausted(asked: &[Asked], answer: &Answer, known: &[Known], now: Tick) -> Exhausted {
    let each = asked.iter().zip(&answer.limits).zip(known);
    let exhausted = each.filter(|((asked, stands), _)| stands.used >= asked.maximum).map(|((asked, stands), known)| {
        let period = asked.field.period_ms.saturating_mul(1000);
        let until = if stands.left_ms > 0 { known.over } else { now.after(period) };
        Exhausted { until, limit: asked.maximum }
    });
    exhausted.max_by_key(|exhausted| exhausted.until).unwrap_or(Exhausted::NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_before_its_window_whatever_the_clocks_do() {
        for left_ms in [1, 2, 50, 999, 1000, 3_600_000] {
            // By the authority's clock a window ends so much after the question came, which is when it was sent, at best.
            for left in [left_ms * 1000 - 999, left_ms * 1000] {
                for per_mille in [999, 1000, 1001] {
                    let sent_at = Tick(7_000_000);
                    let elapsed = left * per_mille / 1000;
                    let open = Margin::STATED.surely_open(sent_at, left_ms);
                    // The first tick that is not before the window's end by the holder's clock.
                    assert!(open <= sent_at.after(elapsed), "{left} left, at {per_mille}: {open:?}");
                }
            }
        }
        let years = [Margin::STATED.surely_open(Tick(1), u64::MAX), over(Tick(1), u64::MAX)];
        assert!(years.iter().all(|year| *year > Tick(u64::MAX / 2)));
    }

    #[test]
    fn the_pace_follows_what_is_spent() {
        let mut pace = Pace::default();
        // 10,000 a second.
        let (mut spent, mut seen) = (0, Vec::new());
        for now in (1..).map(|turn| Tick(turn * 10_000)).take(14) {
            seen.push(pace.measure(spent, AHEAD_US, 1, now));
            spent += 100;
        }
        assert_eq!(seen, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1000, 1000, 1000, 1000]);
        assert_eq!(pace.measure(spent, AHEAD_US, 0, Tick(160_000)), 750);
        assert_eq!(pace.measure(spent, AHEAD_US, 0, Tick(2_160_000)), 0);
        assert_eq!(pace.measure(u64::MAX, AHEAD_US, 5, Tick(u64::MAX)), 5);
    }
}
