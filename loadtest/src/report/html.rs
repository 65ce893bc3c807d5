//! One page that needs nothing else: inline SVG, no script, nothing fetched. Its own policy forbids both.

use std::fmt::Write;

use super::{Percentiles, Report, Round};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
/// Room for the numbers at the axes.
const LEFT: f64 = 74.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 14.0;

const COLOURS: [&str; 6] = ["#1f5fa8", "#c2571a", "#2e7d4f", "#7a3f9a", "#a12b3c", "#5b6470"];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#1c2024}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;
border-bottom:1px solid #d8dce0}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}
.refused{background:#fdecea;border-left:4px solid #a12b3c;padding:.6em 1em}text{font:11px system-ui,sans-serif;fill:#41474d}";

/// A line of a chart.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// How values become places.
#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    /// Equal steps for 0 %, 90 %, 99 %, 99.9 % and so on.
    Nines,
}

pub fn render(report: &Report) -> String {
    let mut page = String::new();
    let load = &report.load;
    let title = format!("Load on {}", escape(&load.target));
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
    );
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
    page.push_str("</body></html>\n");
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

/// Nothing is drawn for lines of fewer than two points.
fn chart(page: &mut String, title: &str, x_unit: &str, y_unit: &str, scale: Scale, lines: &[Line]) {
    let lines: Vec<&Line> = lines.iter().filter(|line| line.points.len() > 1).collect();
    if lines.is_empty() {
        return;
    }
    let place = |x: f64| match scale {
        Scale::Linear => x,
        Scale::Nines => -(1.0 - x.min(99.9999) / 100.0).log10(),
    };
    let all = || lines.iter().flat_map(|line| &line.points);
    let x_max = all().map(|point| place(point.0)).fold(f64::MIN_POSITIVE, f64::max);
    let y_max = round_up(all().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max));
    let at_x = |x: f64| LEFT + place(x) / x_max * (WIDTH - LEFT - RIGHT);
    let at_y = |y: f64| HEIGHT - BOTTOM - y / y_max * (HEIGHT - BOTTOM - TOP);

    let _ = write!(page, "<h2>{title}</h2><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">");
    for step in 0..=4 {
        let value = y_max * f64::from(step) / 4.0;
        let y = at_y(value);
        let unit = if step == 4 { format!(" {y_unit}") } else { String::new() };
        let _ = write!(
            page,
            "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#d8dce0\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}{unit}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            short(value)
        );
    }
    let ticks: Vec<f64> = match scale {
        Scale::Linear => (0..=8).map(|step| x_max * f64::from(step) / 8.0).collect(),
        Scale::Nines => vec![0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999],
    };
    for tick in ticks.into_iter().filter(|&tick| place(tick) <= x_max) {
        let (x, y) = (at_x(tick), HEIGHT - BOTTOM + 16.0);
        let label = if scale == Scale::Nines { format!("{tick} %") } else { format!("{} {x_unit}", short(tick)) };
        let _ = write!(page, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{label}</text>");
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<String> = line.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", at_x(x), at_y(y))).collect();
        let _ = write!(
            page,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"/>",
            points.join(" ")
        );
        if lines.len() > 1 && index < 8 {
            let (x, y) = (LEFT + 10.0 + 80.0 * index as f64, TOP);
            let name = escape(&line.name);
            let _ = write!(page, "<text x=\"{x:.1}\" y=\"{y:.1}\" style=\"fill:{colour}\">{name}</text>");
        }
    }
    page.push_str("</svg>");
}

/// To one, two or five times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|&step| step >= value).unwrap_or(value)
}

fn short(value: f64) -> String {
    match value {
        large if large >= 1e6 => format!("{:.1}M", large / 1e6),
        large if large >= 1e4 => format!("{:.0}k", large / 1e3),
        small if small < 10.0 && small.fract() > 0.001 => format!("{small:.2}"),
        value => format!("{value:.0}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(round_up(1.0), 1.0);
        assert_eq!(round_up(3.0), 5.0);
        assert_eq!(round_up(730.0), 1000.0);
        assert_eq!(short(12_000.0), "12k");
        assert_eq!(short(2.5), "2.50");
    }

    #[test]
    fn what_others_wrote_is_text() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }

    #[test]
    fn a_chart_stays_inside_its_frame() {
        let mut page = String::new();
        let points = vec![(0.0, 10.0), (50.0, 20.0), (99.0, 70.0), (100.0, 90.0)];
        chart(&mut page, "t", "percentile", "us", Scale::Nines, &[Line { name: "x".into(), points }]);
        let drawn = page.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        for pair in drawn.split(' ') {
            let (x, y) = pair.split_once(',').expect("two numbers");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!((LEFT..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{pair}");
        }
    }
}
