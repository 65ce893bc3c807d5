//! What every page is made of: inline SVG, no script, nothing fetched. Its own policy forbids both.

use std::fmt::Write;

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
border-bottom:1px solid #d8dce0}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}td{white-space:nowrap}div.wide{overflow-x:auto}
.refused{background:#fdecea;border-left:4px solid #a12b3c;padding:.6em 1em}text{font:11px system-ui,sans-serif;fill:#41474d}";

/// A line of a chart.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// How values become places.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    Linear,
    /// Equal steps for 0 %, 90 %, 99 %, 99.9 % and so on.
    Nines,
}

/// A part of a bar, all of which begin at zero.
pub struct Bar {
    pub name: String,
    /// Drawn in a fainter colour, up to `value`; the dark part ends here.
    pub part: f64,
    pub value: f64,
    pub least: f64,
    pub most: f64,
}

/// The beginning of a page.
pub fn open(title: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
    )
}

pub fn close(page: &mut String) {
    page.push_str("</body></html>\n");
}

pub fn table(page: &mut String, head: &[String], rows: &[Vec<String>]) {
    page.push_str("<div class=\"wide\"><table><tr>");
    for cell in head {
        let _ = write!(page, "<th>{}</th>", escape(cell));
    }
    page.push_str("</tr>");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escape(cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></div>");
}

pub fn list(page: &mut String, lines: impl IntoIterator<Item = String>) {
    page.push_str("<ul>");
    for line in lines {
        let _ = write!(page, "<li>{}</li>", escape(&line));
    }
    page.push_str("</ul>");
}

/// A bar for each name, with a line from the least to the most.
pub fn bars(page: &mut String, title: &str, unit: &str, bars: &[Bar]) {
    const STEP: f64 = 26.0;
    const NAMES: f64 = 110.0;
    let most = bars.iter().map(|bar| bar.most.max(bar.value)).filter(|most| most.is_finite());
    let most = round_up(most.fold(f64::MIN_POSITIVE, f64::max));
    if bars.is_empty() || most <= f64::MIN_POSITIVE {
        return;
    }
    let (title, height) = (escape(title), STEP * bars.len() as f64 + BOTTOM);
    let at_x = |value: f64| NAMES + value.max(0.0) / most * (WIDTH - NAMES - RIGHT - 60.0);
    let _ = write!(page, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">");
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        let (x, foot) = (at_x(value), height - BOTTOM);
        let _ = write!(
            page,
            "<path d=\"M{x:.1} 0V{foot:.1}\" stroke=\"#d8dce0\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} {unit}</text>",
            foot + 16.0,
            short(value)
        );
    }
    for (index, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.value.is_finite()) {
        let (y, dark, faint) = (STEP * index as f64 + 4.0, at_x(bar.part) - NAMES, at_x(bar.value) - NAMES);
        let _ = write!(
            page,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{NAMES}\" y=\"{y:.1}\" width=\"{faint:.1}\" \
             height=\"16\" fill=\"#a9c1dd\"/><rect x=\"{NAMES}\" y=\"{y:.1}\" width=\"{dark:.1}\" height=\"16\" fill=\"{}\"/>\
             <path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"#1c2024\" stroke-width=\"1.5\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 8.0,
            y + 12.0,
            escape(&bar.name),
            COLOURS[0],
            at_x(bar.least),
            y + 8.0,
            at_x(bar.most),
            at_x(bar.value.max(bar.most)) + 6.0,
            y + 12.0,
            short(bar.value)
        );
    }
    page.push_str("</svg>");
}

/// Nothing is drawn for lines of fewer than two points.
pub fn chart(page: &mut String, title: &str, x_unit: &str, y_unit: &str, scale: Scale, lines: &[Line]) {
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

pub fn escape(text: &str) -> String {
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
    fn bars_are_drawn_for_what_is_a_number() {
        let bar = |name: &str, value| Bar { name: name.into(), part: 1.0, value, least: value, most: value };
        let mut page = String::new();
        bars(&mut page, "t", "us", &[bar("<a>", 3.0), bar("b", f64::NAN)]);
        assert!(page.contains("&lt;a&gt;") && !page.contains(">b<") && !page.contains("NaN"), "{page}");
        let mut empty = String::new();
        bars(&mut empty, "t", "us", &[]);
        assert!(empty.is_empty());
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
