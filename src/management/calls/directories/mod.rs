//! Directories: a user is looked for by the service user, and his password tried by a bind as the entry that was found.
//!
//! The two are done over connections of two kinds: over one that users are bound on nobody searches, so that no search is
//! made with a user's rights.

mod connection;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::rand;
use tokio::time::{Instant, sleep, sleep_until};

use self::connection::{Connection, Found};
use super::{
    dial::{Dial, Stream, secured, speaking},
    gate::Gate,
    places::Places,
};
use crate::{
    calls::{Directory, LogIn, Security, Verdict},
    ldap::ResultCode,
    management::resolver::Resolve,
    telemetry::fault::Fault,
    tls::ClientContext,
};

/// Kept for the next question, of each kind, and for how long.
const IDLE_MAX: usize = 16;
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a user who is not there may be made to wait for those who are.
const PRETENCE_MAX: Duration = Duration::from_secs(1);

/// Why there is no verdict: it has answered, and does not do as it is asked to.
const REFUSED: &str = "directory_refused";

#[derive(Default)]
pub struct Directories(Places<Place>);

#[derive(Default)]
struct Place {
    gate: Gate,
    dial: Dial,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
    idle: Mutex<Idle>,
    /// How long the last bind with a wrong password took, in microseconds.
    refused_after: AtomicU64,
    /// The first part of a name that no entry has.
    nobody: OnceLock<String>,
}

type Opened = Connection<Box<dyn Stream>>;

#[derive(Default)]
struct Idle {
    /// By their use.
    kept: [Vec<(Opened, Instant)>; 2],
    /// Somebody looks after those that nobody needs.
    is_swept: bool,
}

/// What a connection is for.
#[derive(Clone, Copy)]
enum Use {
    /// Bound as the service user.
    Search,
    /// Bound as whoever came last.
    Bind,
}

impl Directories {
    /// What the directory says. It is told a password only where there is one.
    pub async fn log_in(&self, log_in: &LogIn, resolver: &impl Resolve) -> Result<Verdict, Fault> {
        let place = self.0.get(log_in.directory.identity(), Place::default);
        // A directory that answers is well, whatever it makes of this user.
        let ask = async || match steps(&place, log_in, resolver).await {
            Err(fault) if fault.reason == REFUSED => Ok(Err(fault)),
            done => done.map(Ok),
        };
        place.gate.pass(log_in.time_max, ask, |_| true).await?
    }
}

async fn steps(place: &Arc<Place>, log_in: &LogIn, resolver: &impl Resolve) -> Result<Verdict, Fault> {
    if log_in.password.is_empty() {
        return Ok(Verdict::Refused);
    }
    let found = find(place, log_in, resolver).await?;
    let began = Instant::now();
    let verdict = match found {
        Found::Nobody => Verdict::Unknown,
        Found::Several => Verdict::Ambiguous,
        Found::One(name) => {
            let verdict = try_password(place, &name, log_in, resolver).await?;
            if verdict == Verdict::Refused {
                let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                place.refused_after.store(micros, Ordering::Relaxed);
            }
            return Ok(verdict);
        }
    };
    pretend(place, began, log_in, resolver).await?;
    Ok(verdict)
}

/// Takes as long as a wrong password does: else how soon a refusal comes would say which users there are. A bind that must fail
/// goes the same way, over the same connections, and what hashing a password takes, which a directory does for entries alone, is
/// waited for.
async fn pretend(place: &Arc<Place>, began: Instant, log_in: &LogIn, resolver: &impl Resolve) -> Result<(), Fault> {
    let name = format!("{},{}", place.nobody(), log_in.directory.base);
    match try_password(place, name.trim_end_matches(',').as_bytes(), log_in, resolver).await {
        Err(fault) if fault.reason != REFUSED => return Err(fault),
        _ => {}
    }
    let usual = Duration::from_micros(place.refused_after.load(Ordering::Relaxed));
    sleep_until(began + usual.min(PRETENCE_MAX)).await;
    Ok(())
}

/// Looks for the user, again over a new connection where one that was kept turns out to be closed.
async fn find(place: &Arc<Place>, log_in: &LogIn, resolver: &impl Resolve) -> Result<Found, Fault> {
    if let Some(kept) = place.take(Use::Search) {
        match search(place, kept, log_in).await {
            Err(fault) if fault.reason == "closed" => {}
            done => return done,
        }
    }
    let directory = &log_in.directory;
    let mut fresh = place.connect(directory, resolver).await?;
    match fresh.bind(directory.service_dn.as_bytes(), directory.service_password.as_bytes()).await? {
        ResultCode::SUCCESS => search(place, fresh, log_in).await,
        code => Err(refused("it does not take the service user", code)),
    }
}

async fn search(place: &Arc<Place>, mut connection: Opened, log_in: &LogIn) -> Result<Found, Fault> {
    let (found, code) = connection.search(log_in).await?;
    place.keep(Use::Search, connection);
    match code {
        ResultCode::SUCCESS => Ok(found),
        // There are more than were asked for, or more than it may tell.
        ResultCode::SIZE_LIMIT_EXCEEDED => Ok(Found::Several),
        code => Err(refused("the search failed", code)),
    }
}

/// Binds as the user, again over a new connection as in [`find`]: a password that was tried twice is no harm.
async fn try_password(
    place: &Arc<Place>,
    name: &[u8],
    log_in: &LogIn,
    resolver: &impl Resolve,
) -> Result<Verdict, Fault> {
    if let Some(kept) = place.take(Use::Bind) {
        match bind(place, kept, name, log_in).await {
            Err(fault) if fault.reason == "closed" => {}
            done => return done,
        }
    }
    let fresh = place.connect(&log_in.directory, resolver).await?;
    bind(place, fresh, name, log_in).await
}

async fn bind(place: &Arc<Place>, mut connection: Opened, name: &[u8], log_in: &LogIn) -> Result<Verdict, Fault> {
    let code = connection.bind(name, &log_in.password).await?;
    place.keep(Use::Bind, connection);
    match code {
        ResultCode::SUCCESS => Ok(Verdict::Accepted),
        // Of this entry or this password. Accounts that are locked have several of them.
        ResultCode::REFERRAL
        | ResultCode::CONSTRAINT_VIOLATION
        | ResultCode::NO_SUCH_OBJECT
        | ResultCode::INVALID_DN_SYNTAX
        | ResultCode::INAPPROPRIATE_AUTHENTICATION
        | ResultCode::INVALID_CREDENTIALS
        | ResultCode::INSUFFICIENT_ACCESS_RIGHTS
        | ResultCode::UNWILLING_TO_PERFORM => Ok(Verdict::Refused),
        code => Err(refused("the bind of a user failed", code)),
    }
}

/// The directory has answered, and does not do its work.
fn refused(what: &str, code: ResultCode) -> Fault {
    let reason = match code {
        ResultCode::TIME_LIMIT_EXCEEDED => "timeout",
        ResultCode::BUSY | ResultCode::UNAVAILABLE => "busy",
        _ => REFUSED,
    };
    Fault::new(reason, format!("{what}: {code}"))
}

impl Place {
    fn take(&self, of: Use) -> Option<Opened> {
        let kept = &mut self.idle().kept[of as usize];
        kept.retain(|(_, since)| since.elapsed() < IDLE_TIME_MAX);
        kept.pop().map(|(connection, _)| connection)
    }

    /// Where nothing stands in the way of another question.
    fn keep(self: &Arc<Self>, of: Use, connection: Opened) {
        let mut idle = self.idle();
        if connection.has_more() || idle.kept[of as usize].len() >= IDLE_MAX {
            return;
        }
        idle.kept[of as usize].push((connection, Instant::now()));
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Made once: a directory that keeps a list of failures has one of it.
    fn nobody(&self) -> &str {
        self.nobody.get_or_init(|| {
            let mut random = [0; 16];
            rand::fill(&mut random).expect("the system's random numbers");
            format!("cn={:032x}", u128::from_be_bytes(random))
        })
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, secured as the directory is to be.
    async fn connect(&self, directory: &Directory, resolver: &impl Resolve) -> Result<Opened, Fault> {
        if let Some(why) = &directory.insecure {
            return Err(Fault::new("tls", why));
        }
        let stream = self.dial.dial(&directory.endpoint, false, resolver).await?;
        let stream: Box<dyn Stream> = match &directory.security {
            Security::Plain => Box::new(stream),
            Security::Tls(tls) => Box::new(secured(self.config(tls), tls, stream).await?),
            Security::StartTls(tls) => {
                let stream = Connection::new(stream).start_tls().await?;
                Box::new(secured(self.config(tls), tls, stream).await?)
            }
        };
        Ok(Connection::new(stream))
    }

    fn config(&self, tls: &ClientContext) -> &Arc<rustls::ClientConfig> {
        self.tls.get_or_init(|| speaking(tls, None))
    }
}

/// Ends connections that nobody has needed, until there are none.
async fn sweep(place: Weak<Place>) {
    loop {
        sleep(IDLE_TIME_MAX).await;
        let Some(place) = place.upgrade() else { return };
        let (unneeded, are_all) = place.idle().unneeded();
        for connection in unneeded {
            connection.unbind().await;
        }
        if are_all {
            return;
        }
    }
}

impl Idle {
    /// Those that have been here for too long, and whether no other is left to be looked after.
    fn unneeded(&mut self) -> (Vec<Opened>, bool) {
        let is_over = |(_, since): &mut (Opened, Instant)| since.elapsed() >= IDLE_TIME_MAX;
        let over = self.kept.iter_mut().flat_map(|kept| kept.extract_if(.., is_over).collect::<Vec<_>>());
        let over = over.map(|(connection, _)| connection).collect();
        self.is_swept = self.kept.iter().any(|kept| !kept.is_empty());
        (over, !self.is_swept)
    }
}
