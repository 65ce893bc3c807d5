//! The result as tables: median, with least and most of the rounds in brackets. Here as Markdown; a page uses them too.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    Role, policies,
    results::{PeersReport, WorkloadReport},
    trial::{IdleMemory, Phase, Trial},
};
use crate::statistics::{Spread, median};

pub struct Table {
    pub title: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub note: Option<String>,
}

pub fn render(report: &PeersReport) -> String {
    let mut out = String::from("# Peers\n\n");
    for line in about(report) {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "\n    {}\n", report.command);
    for line in who(report) {
        let _ = writeln!(out, "- {line}");
    }
    let loads = report.workloads.iter().map(|workload| load(report, workload));
    let policies = report.policies.iter().map(|policy| policies::table(report, policy));
    for table in policies::summary(report).into_iter().chain(policies).chain(loads).chain(idle(report)) {
        table.write(&mut out);
    }
    let doubts = doubts(report);
    if !doubts.is_empty() {
        out.push_str("\n## Doubts\n\n");
    }
    for line in doubts {
        let _ = writeln!(out, "- {line}");
    }
    out
}

impl Table {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "\n## {}", self.title);
        if !self.rows.is_empty() {
            let _ = writeln!(out, "\n| {} |\n|{}", self.head.join(" | "), "---|".repeat(self.head.len()));
        }
        for row in &self.rows {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        if let Some(note) = &self.note {
            let _ = writeln!(out, "\n{note}");
        }
    }
}

/// When, where and how long.
pub fn about(report: &PeersReport) -> Vec<String> {
    let (duration, rounds) = (report.duration_s, report.rounds);
    vec![
        format!("{}; {}.", report.started, report.facts.line()),
        format!(
            "Proxy on CPU {}, generator on CPU {} ({}), upstream on CPU {}; {rounds} rounds in turns, {duration} s a load.",
            report.proxy_cpu, report.load_cpu, report.facts.driver, report.upstream_cpu
        ),
    ]
}

pub fn who(report: &PeersReport) -> Vec<String> {
    let here = report.peers.iter();
    let here = here.map(|peer| format!("{}: {} (configuration {})", peer.name, peer.version, peer.config_hash));
    let missing = report.missing.iter().map(|(name, cure)| format!("{name}: not installed, skipped ({cure})"));
    here.chain(missing).collect()
}

pub fn load(report: &PeersReport, workload: &WorkloadReport) -> Table {
    let rate_name = format!("CPU us at {}/s", workload.rate);
    let head = [
        "",
        "CPU us a request",
        "user us",
        "to best peer",
        "to floor",
        "requests/s",
        &rate_name,
        "p50 us",
        "p99 us",
        "p99.9 us",
    ];
    let cpu_of = |name: &str| median(&samples(workload, name, |trial| Some(trial.at_maximum.us_per_request)));
    let of_role = |role| report.peers.iter().filter(move |peer| peer.role == role).map(|peer| cpu_of(&peer.name));
    let best = of_role(Role::Peer).filter(|cpu| cpu.is_finite()).min_by(f64::total_cmp);
    let floor = of_role(Role::Floor).find(|cpu| cpu.is_finite()).filter(|_| workload.no_floor.is_none());
    let mut rows = Vec::new();
    for peer in &report.peers {
        let name = &peer.name;
        if !workload.trials.contains_key(name) {
            let is_skipped = workload.tls && report.without_tls.contains_key(name);
            if !is_skipped || peer.role != Role::Floor {
                let mut row = vec![name.clone(), if is_skipped { "no TLS" } else { "failed" }.to_owned()];
                row.resize(head.len(), String::new());
                rows.push(row);
            }
            continue;
        }
        let column = |take: fn(&Trial) -> Option<f64>, digits| spread(&samples(workload, name, take), digits);
        let ratio = |to: Option<f64>| to.map_or("".into(), |to| format!("{:.2}", cpu_of(name) / to));
        rows.push(vec![
            name.clone(),
            column(|trial| Some(trial.at_maximum.us_per_request), 2),
            column(|trial| Some(trial.at_maximum.user_us), 2),
            if peer.role == Role::Floor { String::new() } else { ratio(best) },
            ratio(floor),
            rate(workload, name),
            column(|trial| Some(trial.at_rate.us_per_request), 2),
            column(|trial| trial.latency_us.map(|latency| latency.p50), 0),
            column(|trial| trial.latency_us.map(|latency| latency.p99), 0),
            column(|trial| trial.latency_us.map(|latency| latency.p99_9), 0),
        ]);
    }
    let (title, note) = (workload.title.clone(), workload.no_floor.clone());
    Table { title, head: head.map(str::to_owned).into(), rows, note }
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

pub fn samples(workload: &WorkloadReport, name: &str, take: impl Fn(&Trial) -> Option<f64>) -> Vec<f64> {
    workload.trials.get(name).into_iter().flatten().filter_map(take).collect()
}

pub fn spread(samples: &[f64], digits: usize) -> String {
    match Spread::of(samples) {
        None => "refused".into(),
        Some(Spread { median, .. }) if samples.len() == 1 => format!("{median:.digits$}"),
        Some(Spread { median, min, max }) => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
    }
}

/// Idle connections, without and with TLS.
pub fn idle(report: &PeersReport) -> impl Iterator<Item = Table> {
    let kinds = [("idle connections", &report.idle), ("idle connections with TLS 1.3", &report.idle_tls)];
    kinds.into_iter().filter(|(_, seen)| !seen.is_empty()).map(|(kind, seen)| idle_table(kind, seen))
}

fn idle_table(kind: &str, seen: &BTreeMap<String, Vec<IdleMemory>>) -> Table {
    let count = seen.values().flatten().map(|memory| memory.connections).max().unwrap_or(0);
    let row = |(name, seen): (&String, &Vec<IdleMemory>)| {
        let take = |take: fn(&IdleMemory) -> f64| seen.iter().map(take).collect::<Vec<f64>>();
        vec![
            name.clone(),
            spread(&take(|memory| memory.at_start_kib / 1024.0), 1),
            spread(&take(|memory| memory.kib_per_connection), 2),
            spread(&take(|memory| memory.kib_per_connection * 10_000.0 / 1024.0), 1),
        ]
    };
    Table {
        title: format!("{count} {kind}"),
        head: ["", "MiB without connections", "KiB a connection", "MiB for 10,000"].map(str::to_owned).into(),
        rows: seen.iter().map(row).collect(),
        note: Some("Memory of user space only: the kernel's sockets cost every proxy the same.".into()),
    }
}

/// What a reader should know before believing the figures.
pub fn doubts(report: &PeersReport) -> Vec<String> {
    let trials = || report.workloads.iter().flat_map(|workload| workload.trials.values().flatten());
    let pairs = || report.policies.iter().flat_map(|policy| policy.trials.values().flatten());
    let disturbed = trials().filter(|t| t.at_maximum.is_disturbed() || t.at_rate.is_disturbed()).count()
        + pairs().filter(|pair| pair.phases().any(Phase::is_disturbed)).count();
    let refused = trials().filter(|trial| trial.refused.is_some()).count();
    let mut doubts = Vec::new();
    if disturbed > 0 {
        let all = trials().count() + pairs().count();
        doubts.push(format!(
            "In {disturbed} of {all} measurements others took more than 5 % of the proxy's core. CPU a request suffers \
             little by that (cold caches), latency and requests/s much."
        ));
    }
    if refused > 0 {
        doubts.push(format!("{refused} measurements have no latency, as the generator itself was late."));
    }
    let floors = || report.peers.iter().filter(|peer| peer.role == Role::Floor);
    let without = report.without_tls.iter().filter(|(name, _)| !floors().any(|floor| floor.name == **name));
    doubts.extend(without.map(|(name, reason)| format!("{name} was not measured with TLS: {reason}")));
    doubts.extend(report.failed.iter().map(|failure| format!("failed: {failure}")));
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{policies::PolicyTrial, results::tests::empty_report};

    #[test]
    fn loads_of_policies_are_doubted_as_others_are() {
        let phase = |others_share| Phase {
            us_per_request: 20.0,
            user_us: 4.0,
            core_share: 1.0,
            per_second: 50_000.0,
            others_share,
            stolen_share: 0.0,
        };
        let trial =
            |others_share| PolicyTrial { plain: phase(0.0), asked: Some(phase(others_share)), with: phase(0.0) };
        let policy = policies::PolicyReport {
            name: "policy-basic".into(),
            title: String::new(),
            target_us: None,
            left_out: BTreeMap::new(),
            trials: BTreeMap::from([("gate".to_owned(), vec![trial(0.0), trial(0.1)])]),
            added: BTreeMap::new(),
        };
        let doubts = doubts(&PeersReport { policies: vec![policy], ..empty_report() });
        assert!(doubts[0].starts_with("In 1 of 2 measurements others took"), "{doubts:?}");
    }

    #[test]
    fn figures_have_their_spread() {
        assert_eq!(spread(&[], 2), "refused");
        assert_eq!(spread(&[1.234], 2), "1.23");
        assert_eq!(spread(&[3.0, 1.0, 2.0], 0), "2 (1-3)");
    }
}
