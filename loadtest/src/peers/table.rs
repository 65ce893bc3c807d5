//! The result as tables in Markdown: median, with least and most of the rounds in brackets.

use std::fmt::Write;

use super::{PeersReport, Role, WorkloadReport, trial::Trial};
use crate::statistics::{Spread, median};

pub fn render(report: &PeersReport) -> String {
    let mut out = String::from("# Peers\n\n");
    let (duration, rounds) = (report.duration_s, report.rounds);
    let _ = writeln!(out, "{}; {}.", report.started, report.facts.line());
    let _ = writeln!(
        out,
        "Proxy on CPU {}, generator on CPU {} ({}), upstream on CPU {}; {rounds} rounds in turns, {duration} s a load.",
        report.proxy_cpu, report.load_cpu, report.facts.driver, report.upstream_cpu
    );
    let _ = writeln!(out, "\n    {}\n", report.command);
    for peer in &report.peers {
        let _ = writeln!(out, "- {}: {} (configuration {})", peer.name, peer.version, peer.config_hash);
    }
    for (name, cure) in &report.missing {
        let _ = writeln!(out, "- {name}: not installed, skipped ({cure})");
    }
    for workload in &report.workloads {
        describe(&mut out, report, workload);
    }
    describe_idle(&mut out, report);
    describe_trouble(&mut out, report);
    out
}

fn describe(out: &mut String, report: &PeersReport, workload: &WorkloadReport) {
    let _ = writeln!(out, "\n## {}\n", workload.title);
    let _ = writeln!(
        out,
        "| | CPU us a request | user us | to best peer | to floor | requests/s | CPU us at {}/s | p50 us | p99 us | p99.9 us |",
        workload.rate
    );
    out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    let cpu_of = |name: &str| median(&samples(workload, name, |trial| Some(trial.at_maximum.us_per_request)));
    let of_role = |role| report.peers.iter().filter(move |peer| peer.role == role).map(|peer| cpu_of(&peer.name));
    let best = of_role(Role::Peer).filter(|cpu| cpu.is_finite()).min_by(f64::total_cmp);
    let floor = of_role(Role::Floor).find(|cpu| cpu.is_finite()).filter(|_| workload.has_floor);
    for peer in &report.peers {
        let name = &peer.name;
        if !workload.trials.contains_key(name) {
            let _ = writeln!(out, "| {name} | failed | | | | | | | | |");
            continue;
        }
        let column = |take: fn(&Trial) -> Option<f64>, digits| spread(&samples(workload, name, take), digits);
        let ratio = |to: Option<f64>| to.map_or("".into(), |to| format!("{:.2}", cpu_of(name) / to));
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            column(|trial| Some(trial.at_maximum.us_per_request), 2),
            column(|trial| Some(trial.at_maximum.user_us), 2),
            if peer.role == Role::Floor { String::new() } else { ratio(best) },
            ratio(floor),
            rate(workload, name),
            column(|trial| Some(trial.at_rate.us_per_request), 2),
            column(|trial| trial.latency_us.map(|latency| latency.p50), 0),
            column(|trial| trial.latency_us.map(|latency| latency.p99), 0),
            column(|trial| trial.latency_us.map(|latency| latency.p99_9), 0),
        );
    }
    if !workload.has_floor {
        out.push_str(
            "\nThe relay dials its upstream for every request, which a proxy with a pool need not: no floor here.\n",
        );
    }
}

/// Measured where the proxy's core was full in most rounds; otherwise what its cost would allow, marked as such.
fn rate(workload: &WorkloadReport, name: &str) -> String {
    let measured = samples(workload, name, |trial| trial.saturated.then_some(trial.at_maximum.per_second));
    let rounds = workload.trials.get(name).map_or(0, Vec::len);
    if measured.len() * 2 > rounds {
        return spread(&measured, 0);
    }
    let implied = samples(workload, name, |trial| Some(1e6 / trial.at_maximum.us_per_request));
    format!("1e6/CPU: {}", spread(&implied, 0))
}

fn samples(workload: &WorkloadReport, name: &str, take: impl Fn(&Trial) -> Option<f64>) -> Vec<f64> {
    workload.trials.get(name).into_iter().flatten().filter_map(take).collect()
}

fn spread(samples: &[f64], digits: usize) -> String {
    match Spread::of(samples) {
        None => "refused".into(),
        Some(Spread { median, .. }) if samples.len() == 1 => format!("{median:.digits$}"),
        Some(Spread { median, min, max }) => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
    }
}

fn describe_idle(out: &mut String, report: &PeersReport) {
    if report.idle.is_empty() {
        return;
    }
    let count = report.idle.values().flatten().map(|memory| memory.connections).max().unwrap_or(0);
    let _ = writeln!(out, "\n## {count} idle connections\n");
    let _ = writeln!(out, "Memory of user space only: the kernel's sockets cost every proxy the same.\n");
    out.push_str("| | MiB without connections | KiB a connection | MiB for 10,000 |\n|---|---|---|---|\n");
    for (name, seen) in &report.idle {
        let take = |take: fn(&super::IdleMemory) -> f64| seen.iter().map(take).collect::<Vec<f64>>();
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} |",
            spread(&take(|memory| memory.at_start_kib / 1024.0), 1),
            spread(&take(|memory| memory.kib_per_connection), 2),
            spread(&take(|memory| memory.kib_per_connection * 10_000.0 / 1024.0), 1),
        );
    }
}

/// What a reader should know before believing the figures.
fn describe_trouble(out: &mut String, report: &PeersReport) {
    let trials = || report.workloads.iter().flat_map(|workload| workload.trials.values().flatten());
    let disturbed = trials().filter(|t| t.at_maximum.is_disturbed() || t.at_rate.is_disturbed()).count();
    let refused = trials().filter(|trial| trial.refused.is_some()).count();
    if disturbed + refused + report.failed.len() > 0 {
        out.push_str("\n## Doubts\n\n");
    }
    if disturbed > 0 {
        let all = trials().count();
        let _ = writeln!(
            out,
            "- In {disturbed} of {all} measurements others took more than 5 % of the proxy's core. CPU a request suffers \
             little by that (cold caches), latency and requests/s much."
        );
    }
    if refused > 0 {
        let _ = writeln!(out, "- {refused} measurements have no latency, as the generator itself was late.");
    }
    for failure in &report.failed {
        let _ = writeln!(out, "- failed: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_spread() {
        assert_eq!(spread(&[], 2), "refused");
        assert_eq!(spread(&[1.234], 2), "1.23");
        assert_eq!(spread(&[3.0, 1.0, 2.0], 0), "2 (1-3)");
    }
}
