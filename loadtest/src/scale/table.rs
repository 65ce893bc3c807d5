//! The result as a table: median, with least and most of the rounds in brackets; and as a page, with lines over cores.

use std::fmt::Write;

use super::{Point, SATURATED, ScaleReport, costs};
use crate::{
    report::page::{self, Line, Scale, chart, escape},
    statistics::{Spread, median},
};

const HEAD: [&str; 7] =
    ["driver", "cores", "requests/s", "CPU us a request", "to one core", "busiest core to mean", "load on"];

pub fn markdown(report: &ScaleReport) -> String {
    let mut out = String::from("# Scaling over cores\n\n");
    let _ = writeln!(out, "{}; {}.", report.started, report.facts.line());
    let _ = writeln!(out, "{} (configuration {})\n\n    {}\n", report.version, report.config_hash, report.command);
    for line in &report.topology {
        let _ = writeln!(out, "- {line}");
    }
    let _ = writeln!(out, "\n| {} |\n|{}", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for row in rows(report) {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    for line in doubts(report) {
        let _ = write!(out, "\n- {line}");
    }
    out.push('\n');
    out
}

pub fn page(report: &ScaleReport) -> String {
    let mut page = page::open("Scaling over cores");
    let _ = write!(page, "<p>{}; {}.</p>", escape(&report.started), escape(&report.facts.line()));
    let (version, hash) = (escape(&report.version), escape(&report.config_hash));
    let _ = write!(page, "<p>{version} (configuration {hash})</p><p><code>{}</code></p>", escape(&report.command));
    page::table(&mut page, &HEAD.map(str::to_owned), &rows(report));
    page::list(&mut page, doubts(report));
    let line = |value: fn(&Point) -> f64| -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for point in report.points.iter().filter(|point| value(point).is_finite()) {
            let at = (point.cores as f64, value(point));
            match lines.iter_mut().find(|line| line.name == point.driver) {
                Some(line) => line.points.push(at),
                None => lines.push(Line { name: point.driver.clone(), points: vec![at] }),
            }
        }
        lines
    };
    let cpu = line(|point| median(&costs(point)));
    chart(&mut page, "CPU a request", "cores", "us", Scale::Linear, &cpu);
    let rate = line(|point| point.cores as f64 * 1e6 / median(&costs(point)));
    chart(&mut page, "What that allows: cores x 1e6 / CPU", "cores", "requests/s", Scale::Linear, &rate);
    let balance = line(|point| median(&point.rounds.iter().map(|round| round.imbalance).collect::<Vec<_>>()));
    chart(&mut page, "Busiest core over the mean", "cores", "", Scale::Linear, &balance);
    page.push_str("<h2>Topology</h2>");
    page::list(&mut page, report.topology.clone());
    page::close(&mut page);
    page
}

fn rows(report: &ScaleReport) -> Vec<Vec<String>> {
    let row = |point: &Point| {
        let one = report.points.iter().find(|one| one.cores == 1 && one.driver == point.driver);
        let ratio = one.map_or(f64::NAN, |one| median(&costs(point)) / median(&costs(one)));
        let balance: Vec<f64> = point.rounds.iter().map(|round| round.imbalance).collect();
        vec![
            point.driver.clone(),
            point.cores.to_string(),
            rate(point),
            spread(&costs(point), 2),
            if ratio.is_finite() { format!("{ratio:.2}") } else { String::new() },
            spread(&balance, 2),
            format!("generators {:?}, upstreams {:?}", point.generator_cpus, point.upstream_cpus),
        ]
    };
    report.points.iter().map(row).collect()
}

/// Measured where the cores were full in most rounds; otherwise what the cost would allow, marked as such.
fn rate(point: &Point) -> String {
    let full = point.rounds.iter().filter(|round| round.phase.core_share > SATURATED);
    let full: Vec<f64> = full.map(|round| round.phase.per_second).collect();
    if full.len() * 2 > point.rounds.len() {
        return spread(&full, 0);
    }
    let implied: Vec<f64> = costs(point).iter().map(|us| point.cores as f64 * 1e6 / us).collect();
    format!("cores x 1e6/CPU: {}", spread(&implied, 0))
}

fn spread(samples: &[f64], digits: usize) -> String {
    match Spread::of(samples) {
        Some(Spread { median, min, max }) => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
        None => "failed".into(),
    }
}

fn doubts(report: &ScaleReport) -> Vec<String> {
    let cannot = report.not_shown.iter().map(|line| format!("not shown here: {line}"));
    cannot.chain(report.failed.iter().map(|line| format!("failed: {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::Round, *};
    use crate::{driver::Driver, measure::Facts, peers::trial::Phase};

    #[test]
    fn a_page_draws_a_line_for_each_driver_and_asks_for_nothing() {
        let phase = |us_per_request| Phase {
            us_per_request,
            user_us: 1.0,
            core_share: 0.5,
            per_second: 1000.0,
            others_share: 0.0,
            stolen_share: 0.0,
        };
        let point = |driver: &str, cores, us| Point {
            driver: driver.into(),
            cores,
            gateway_cpus: vec![0],
            generator_cpus: vec![1],
            upstream_cpus: vec![1],
            rounds: vec![Round { phase: phase(us), imbalance: 1.0 }],
        };
        let report = ScaleReport {
            format: 1,
            kind: "scale".into(),
            started: "now".into(),
            command: "scale <&>".into(),
            facts: Facts::collect(Driver::Epoll),
            version: "ringway".into(),
            config_hash: "0".into(),
            topology: vec!["CPU 0".into()],
            points: vec![point("io_uring", 1, 10.0), point("io_uring", 2, 11.0), point("epoll", 1, 20.0)],
            not_shown: vec!["8 cores".into()],
            failed: Vec::new(),
            measurements: Vec::new(),
        };
        let page = page(&report);
        assert_eq!(page.matches("<polyline").count(), 3, "a driver with two points in three charts");
        assert!(page.contains("scale &lt;&amp;&gt;") && page.contains("not shown here: 8 cores"));
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
        assert!(markdown(&report).contains("| io_uring | 2 | cores x 1e6/CPU: 181818 "));
    }
}
