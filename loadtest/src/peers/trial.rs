//! One peer under one workload for one round: as fast as it can, then at a rate that all can do.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::workload::Workload;
use crate::{
    driver::Driver,
    generator::{self, IdleConnections, Limits, Loop, Outcome, Plan, Verdict},
    measure::{self, CoreTicks, Cost, ProcessTree},
    report::Percentiles,
    schedule::Shape,
};

/// Above this share of its cores a proxy can do no more.
pub const SATURATED: f64 = 0.97;
/// So much of the proxy's core may others take before a round is marked.
const DISTURBED: f64 = 0.05;
const WARMUP: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(10);
/// For a server to give back what it does not need while connections are idle.
const SETTLE: Duration = Duration::from_millis(2500);

/// How loads are put on.
#[derive(Clone)]
pub struct Bench {
    pub driver: Driver,
    /// A generator thread on each.
    pub generator_cpus: Vec<usize>,
    pub proxy_cpus: Vec<usize>,
    pub duration: Duration,
    pub limits: Limits,
}

/// What one round saw. Percentiles are missing where the generator was late itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    pub at_maximum: Phase,
    /// Whether the proxy's cores were full, so that the rate is the proxy's and not the generator's.
    pub saturated: bool,
    pub at_rate: Phase,
    pub latency_us: Option<Percentiles>,
    /// Why there is no latency.
    pub refused: Option<String>,
    /// The generator's lateness at the common rate, 99th percentile.
    pub lag_p99_us: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Phase {
    pub us_per_request: f64,
    pub user_us: f64,
    /// Of the proxy, of each of its cores.
    pub core_share: f64,
    pub per_second: f64,
    /// Of the proxy's cores: what others took.
    pub others_share: f64,
    /// Of the proxy's cores: what the host took.
    pub stolen_share: f64,
}

impl Phase {
    pub fn is_disturbed(&self) -> bool {
        self.others_share + self.stolen_share > DISTURBED
    }
}

/// Memory of a peer before and under idle connections, in KiB.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct IdleMemory {
    pub at_start_kib: f64,
    pub connections: usize,
    pub kib_per_connection: f64,
}

impl Bench {
    /// # Errors
    /// The load could not be put on, or requests failed: then the figures would be of something else.
    pub fn trial(&self, workload: &Workload, target: SocketAddr, server: ProcessTree) -> Result<Trial> {
        let (_, at_maximum) = self.phase(workload, target, server, Loop::Closed)?;
        let pace = Loop::Open { per_second: workload.rate, shape: Shape::Constant };
        let (outcome, at_rate) = self.phase(workload, target, server, pace)?;
        let refused = match generator::judge(&outcome, pace, self.limits) {
            Verdict::Valid => None,
            Verdict::Refused(reason) => Some(reason),
        };
        Ok(Trial {
            saturated: at_maximum.core_share > SATURATED,
            at_maximum,
            at_rate,
            latency_us: refused.is_none().then(|| Percentiles::of(&outcome.latency)),
            refused,
            lag_p99_us: outcome.lag.value_at_quantile(0.99) as f64 / 1e3,
        })
    }

    /// # Errors
    /// As [`Bench::trial`].
    pub fn phase(
        &self,
        workload: &Workload,
        target: SocketAddr,
        server: ProcessTree,
        pace: Loop,
    ) -> Result<(Outcome, Phase)> {
        let running = generator::launch(self.plans(workload, target, pace)?)?;
        let cores = || self.proxy_cpus.iter().map(|&cpu| CoreTicks::of(cpu)).collect::<Vec<_>>();
        let mut before = None;
        // Looked at when the measured time begins, as the server is.
        let looks = measure::watch(&running, Some(&server), self.duration, |_| {
            before.get_or_insert_with(cores);
        });
        let after = cores();
        let outcome = running.finish()?;
        if workload.wants_full_handshakes() {
            let resumed = outcome.resumed;
            ensure!(resumed == 0, "{resumed} handshakes were short ones");
        }
        let failures = outcome.failures();
        if failures > 0 {
            let (errors, statuses, unfinished) = (outcome.errors, &outcome.statuses, outcome.unfinished);
            let reason = outcome.first_error.as_ref().map_or(String::new(), |reason| format!("; {reason}"));
            bail!("{failures} requests failed: {errors:?}, {unfinished} unfinished, answers {statuses:?}{reason}");
        }
        let cost = looks.first().zip(looks.last()).and_then(|(first, last)| last.cost_since(first));
        let cost: Cost = cost.context("the server ended, or answered nothing")?;
        let count = self.proxy_cpus.len() as f64;
        let shares = after.iter().zip(before.iter().flatten()).map(|(&after, &before)| after.since(before));
        let (busy, stolen) = shares.fold((0.0, 0.0), |sum, share| (sum.0 + share.0, sum.1 + share.1));
        let core_share = cost.cores / count;
        let phase = Phase {
            us_per_request: cost.us_per_request,
            user_us: cost.user_us,
            core_share,
            per_second: outcome.per_second(),
            others_share: (busy / count - core_share).max(0.0),
            stolen_share: stolen / count,
        };
        Ok((outcome, phase))
    }

    fn plans(&self, workload: &Workload, target: SocketAddr, pace: Loop) -> Result<Vec<Plan>> {
        let threads = self.generator_cpus.len();
        ensure!(threads > 0 && workload.connections >= threads, "fewer connections than generator threads");
        let mix = Arc::new(workload.mix(&target.to_string())?);
        let protocol = workload.protocol()?;
        let share = match pace {
            Loop::Open { per_second, shape } => Loop::Open { per_second: per_second / threads as f64, shape },
            Loop::Closed => Loop::Closed,
        };
        let plan = |(index, &cpu): (usize, &usize)| Plan {
            target,
            mix: mix.clone(),
            pace: share,
            connections: workload.connections / threads + usize::from(index < workload.connections % threads),
            keep_alive: workload.keep_alive,
            tls: protocol.tls.clone(),
            streams: protocol.streams,
            warmup: WARMUP,
            duration: self.duration,
            timeout: TIMEOUT,
            seed: index as u64 + 1,
            driver: self.driver,
            cpu: Some(cpu),
        };
        Ok(self.generator_cpus.iter().enumerate().map(plan).collect())
    }

    /// Memory with nothing, and with `count` connections that did one request each and then nothing.
    ///
    /// # Errors
    /// The connections could not be opened.
    pub fn idle(
        &self,
        workload: &Workload,
        count: usize,
        target: SocketAddr,
        server: ProcessTree,
    ) -> Result<IdleMemory> {
        let mix = Arc::new(workload.mix(&target.to_string())?);
        let (cpu, before) = (self.generator_cpus.first().copied(), server.memory());
        let held = IdleConnections::open(target, workload.protocol()?.tls, &mix, count, self.driver, cpu)?;
        thread::sleep(SETTLE);
        let after = server.memory();
        let grown = after.anonymous.saturating_sub(before.anonymous) as f64;
        Ok(IdleMemory {
            at_start_kib: before.proportional as f64 / 1024.0,
            connections: held.count,
            kib_per_connection: grown / 1024.0 / held.count.max(1) as f64,
        })
    }
}
