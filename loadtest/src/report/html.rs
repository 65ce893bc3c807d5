//! The page of a run: latency by percentile and over time, throughput, cost, and the facts to judge them by.

use std::fmt::Write;

use super::{
    Percentiles, Report, Round,
    page::{self, Line, Scale, chart, escape},
};

pub fn render(report: &Report) -> String {
    let load = &report.load;
    let mut page = page::open(&format!("Load on {}", load.target));
    let is_open = load.rate.is_some();
    let meaning = if is_open {
        "Requests left on a schedule; latency counts from the intended time of each."
    } else {
        "Closed loop: a request left when the one before it was answered. Its latencies say nothing about a given load."
    };
    let _ = write!(page, "<p>{meaning}</p>");
    for (index, round) in report.rounds.iter().enumerate() {
        if let Some(reason) = &round.refused {
            let _ = write!(page, "<p class=\"refused\">Round {}: no result. {}.</p>", index + 1, escape(reason));
        }
    }
    table(&mut page, report);
    let lines = |points: fn(&Round) -> Vec<(f64, f64)>| -> Vec<Line> {
        let rounds = report.rounds.iter().enumerate();
        rounds.map(|(index, round)| Line { name: format!("round {}", index + 1), points: points(round) }).collect()
    };
    chart(&mut page, "Latency by percentile", "percentile", "us", Scale::Nines, &lines(|round| round.curve.clone()));
    chart(
        &mut page,
        "Latency over time, 99th percentile",
        "s",
        "us",
        Scale::Linear,
        &lines(|round| round.timeline.iter().map(|point| (point.at_s, point.p99_us)).collect()),
    );
    chart(
        &mut page,
        "Latency over time, median",
        "s",
        "us",
        Scale::Linear,
        &lines(|round| round.timeline.iter().map(|point| (point.at_s, point.p50_us)).collect()),
    );
    chart(
        &mut page,
        "Throughput",
        "s",
        "responses/s",
        Scale::Linear,
        &lines(|round| round.timeline.iter().map(|point| (point.at_s, point.rate)).collect()),
    );
    chart(
        &mut page,
        "The server's CPU per request",
        "s",
        "us",
        Scale::Linear,
        &lines(|round| {
            round.timeline.iter().filter_map(|point| Some((point.at_s, point.server_us_per_request?))).collect()
        }),
    );
    facts(&mut page, report);
    page::close(&mut page);
    page
}

fn table(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Rounds</h2><table><tr><th>us</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th>\
         <th>responses/s</th><th>failed</th><th>server us CPU</th></tr>",
    );
    let row = |page: &mut String, name: &str, p: &Percentiles, rest: &str| {
        let _ = write!(
            page,
            "<tr><td>{name}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td>{rest}</tr>",
            p.p50, p.p90, p.p99, p.p99_9, p.max
        );
    };
    for (index, round) in report.rounds.iter().enumerate() {
        if let (Some(latency), Some(service), Some(rate)) = (&round.latency_us, &round.service_us, round.rate) {
            let cpu = round.server.map_or("".to_owned(), |server| format!("{:.2}", server.us_per_request));
            let failed = round.errors.sum() + round.unfinished;
            let rest = format!("<td>{rate:.0}</td><td>{failed}</td><td>{cpu}</td>");
            row(page, &format!("round {}, latency", index + 1), latency, &rest);
            row(page, "from sending only", service, "<td></td><td></td><td></td>");
        }
        row(page, "the generator's lag", &round.generator.lag_us, "<td></td><td></td><td></td>");
    }
    page.push_str("</table>");
}

fn facts(page: &mut String, report: &Report) {
    let (facts, load) = (&report.facts, &report.load);
    let shares: Vec<String> =
        report.rounds.iter().map(|round| format!("{:.0} %", round.generator.cpu_share * 100.0)).collect();
    let rate = load.rate.map_or("as fast as answered".to_owned(), |rate| format!("{rate} requests/s"));
    let rows = [
        ("Started", report.started.clone()),
        ("Command", report.command.clone()),
        ("Loop", format!("{}, {rate}", load.pace)),
        ("Connections", format!("{}, {}", load.connections, if load.keep_alive { "kept" } else { "one a request" })),
        ("Protocol", load.protocol.clone()),
        ("Warm-up and measured", format!("{} s, {} s", load.warmup_s, load.duration_s)),
        ("Scenario", format!("{} requests, hash {}", load.requests, load.scenario_hash)),
        ("Server's configuration", load.server_config_hash.clone().unwrap_or_else(|| "not named".into())),
        ("Generator", format!("{} {}, CPUs {:?}", facts.version, facts.driver, load.generator_cpus)),
        ("Generator's CPU", shares.join(", ")),
        ("Machine", facts.line()),
    ];
    page.push_str("<h2>Facts</h2><table>");
    for (name, value) in rows {
        let _ = write!(page, "<tr><td>{name}</td><td style=\"text-align:left\">{}</td></tr>", escape(&value));
    }
    page.push_str("</table>");
}
