//! What a person at a terminal sees at the end of a run.

use std::fmt::Write;

use super::{Percentiles, Report, Round};
use crate::statistics::Spread;

pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let load = &report.load;
    let rate = load.rate.map_or(String::new(), |rate| format!(", {rate} requests/s wanted"));
    let connections = if load.keep_alive { "keep-alive connections" } else { "connections, a new one each request" };
    let _ = writeln!(out, "{} loop{rate}, {} {connections}, {}", load.pace, load.connections, load.protocol);
    let _ =
        writeln!(out, "target {}, {} distinct requests, scenario {}", load.target, load.requests, load.scenario_hash);
    let _ = writeln!(out, "{}; generator on {}", report.facts.line(), report.facts.driver);
    for (index, round) in report.rounds.iter().enumerate() {
        let _ = writeln!(out, "\nround {} of {}, {} s", index + 1, report.rounds.len(), load.duration_s);
        describe(&mut out, round);
    }
    if report.rounds.len() > 1 {
        let _ = writeln!(out, "\n{:<16} {:>12} {:>12} {:>12}  (of rounds)", "", "median", "min", "max");
        for measurement in &report.measurements {
            let Some(Spread { median, min, max }) = Spread::of(&measurement.samples) else { continue };
            let (name, unit) = (&measurement.name, &measurement.unit);
            let _ = writeln!(out, "{name:<16} {median:>12.2} {min:>12.2} {max:>12.2}  {unit}");
        }
    }
    out
}

fn describe(out: &mut String, round: &Round) {
    match (&round.refused, round.rate, &round.latency_us, &round.service_us) {
        (None, Some(rate), Some(latency), Some(service)) => {
            let _ = writeln!(out, "  rate       {rate:.0} responses/s");
            let _ = writeln!(out, "{}", HEADER);
            let _ = writeln!(out, "{}", row("latency", latency));
            let _ = writeln!(out, "{}", row("service", service));
            let _ = writeln!(out, "{}", row("send lag", &round.generator.lag_us));
        }
        (refused, ..) => {
            let _ = writeln!(out, "  no result: {}", refused.as_deref().unwrap_or("nothing was measured"));
        }
    }
    let statuses: Vec<String> = round.statuses.iter().map(|(status, count)| format!("{count} x {status}")).collect();
    let (sent, completed, unfinished) = (round.sent, round.completed, round.unfinished);
    let _ = writeln!(
        out,
        "  requests   {sent} sent, {completed} answered in time, {unfinished} unfinished; {}",
        statuses.join(", ")
    );
    let errors = &round.errors;
    if errors.sum() > 0 {
        let _ = writeln!(
            out,
            "  errors     {} could not connect, {} cut off, {} too slow, {} malformed, {} reset, {} refused",
            errors.connect, errors.closed, errors.timeout, errors.malformed, errors.reset, errors.refused
        );
    }
    if let Some(reason) = &round.first_error {
        let _ = writeln!(out, "             the first that could not connect: {reason}");
    }
    if round.handshakes > 0 {
        let _ = writeln!(out, "  handshakes {} of TLS, {} of them resumed", round.handshakes, round.resumed);
    }
    if round.goaways > 0 {
        let _ = writeln!(out, "  goaway     on {} connections", round.goaways);
    }
    let own = &round.generator;
    let cost =
        own.us_per_request.map_or(String::new(), |us| format!(", {us:.2} us a request: {:.0}/s a core", 1e6 / us));
    let _ = writeln!(out, "  generator  {:.0} % of its CPU{cost}", own.cpu_share * 100.0);
    if let Some(server) = &round.server {
        let (us, user, cores) = (server.us_per_request, server.user_us, server.cores);
        let _ = writeln!(out, "  server     {us:.2} us CPU a request ({user:.2} user), {cores:.2} cores");
    }
}

const HEADER: &str = "  us              min       p50       p90       p99     p99.9    p99.99       max";

fn row(name: &str, p: &Percentiles) -> String {
    format!(
        "  {name:<10} {:>8.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
        p.min, p.p50, p.p90, p.p99, p.p99_9, p.p99_99, p.max
    )
}
