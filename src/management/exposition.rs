//! Prometheus' text format (version 0.0.4): families with their help, samples with escaped labels.

use std::fmt::{Display, Write};

use crate::telemetry::{counts::Kind, histogram::Distribution};

/// What `Content-Type` says.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label names and values.
pub type LabelPairs<'a> = &'a [(&'a str, &'a str)];

/// A page being written, family by family.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// One family of a page; its samples stand together, as the format asks.
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.print(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, kind: Kind, name: &'static str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&[], value);
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn print(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("writing to memory does not fail");
    }
}

impl Family<'_> {
    pub fn sample(&mut self, labels: LabelPairs<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value)
    }

    /// Buckets, sum and count of one histogram, in seconds.
    pub fn histogram(&mut self, labels: LabelPairs<'_>, histogram: &impl Distribution) -> &mut Self {
        for (bound, count) in histogram.cumulative() {
            let bound = (bound as f64 / 1e9).to_string();
            self.line("_bucket", labels, Some(&bound), count);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count());
        self.line("_sum", labels, None, histogram.sum_seconds());
        self.line("_count", labels, None, histogram.count())
    }

    fn line(&mut self, suffix: &str, labels: LabelPairs<'_>, bound: Option<&str>, value: impl Display) -> &mut Self {
        self.page.print(format_args!("{}{suffix}", self.name));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.page.print(format_args!("{separator}{name}=\"{}\"", Escaped(value)));
            separator = ',';
        }
        let close = if separator == ',' { "}" } else { "" };
        self.page.print(format_args!("{close} {value}\n"));
        self
    }
}

/// A label value: backslash, quote and newline are escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use super::*;
    use crate::telemetry::histogram::Histogram;

    /// One sample: name, labels sorted by name, value.
    pub type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

    /// Reads a page back and checks what every page must keep.
    pub fn parse(page: &str) -> Samples {
        let mut samples = Samples::new();
        let mut types: HashMap<String, String> = HashMap::new();
        let mut closed = HashSet::new();
        let mut current = String::new();
        assert!(page.ends_with('\n'));
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
                assert!(closed.insert(std::mem::replace(&mut current, name.to_owned())));
            } else if !line.starts_with("# HELP ") {
                let (name, labels, value) = sample(line);
                let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{name} outside its family"));
                match types[&current].as_str() {
                    "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{name}"),
                    _ => assert_eq!(suffix, "", "{name}"),
                }
                assert!(samples.insert((name, labels), value).is_none(), "twice: {line}");
            }
        }
        check_histograms(&samples);
        samples
    }

    fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
        let mut labels = BTreeMap::new();
        let (name, mut rest) = line.split_at(line.find(['{', ' ']).expect("a name"));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        while let Some(pair) = rest.strip_prefix(['{', ',']) {
            let (label, value) = pair.split_once("=\"").expect("a label");
            let mut text = String::new();
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next().expect("a closing quote") {
                    (at, '"') => break at,
                    (_, '\\') => match characters.next().expect("an escaped character").1 {
                        'n' => text.push('\n'),
                        character @ ('\\' | '"') => text.push(character),
                        other => panic!("\\{other} is no escape"),
                    },
                    (_, character) => text.push(character),
                }
            };
            assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
            rest = &value[end + 1..];
            rest = rest.strip_prefix('}').unwrap_or(rest);
        }
        (name.to_owned(), labels, rest.trim_start().parse().expect("a number"))
    }

    fn check_histograms(samples: &Samples) {
        let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in samples {
            if let Some(family) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bound").parse().expect("a number, or +Inf");
                buckets.entry((family, labels)).or_default().push((bound, *value));
            }
        }
        for ((family, labels), mut buckets) in buckets {
            buckets.sort_by(|one, two| one.0.total_cmp(&two.0));
            assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{family} is cumulative");
            let (bound, last) = *buckets.last().expect("a bucket");
            assert_eq!(bound, f64::INFINITY);
            assert_eq!(last, samples[&(format!("{family}_count"), labels)]);
        }
    }

    #[test]
    fn a_page_reads_back() {
        let mut page = Page::default();
        let hostile = "a\"b\\c\nd} 1\n";
        page.family(Kind::Counter, "a_total", "Counts.").sample(&[("x", hostile), ("y", "")], 3).sample(&[], 1);
        page.single(Kind::Gauge, "b", "A number.", 0.25);
        let mut histogram = Histogram::new();
        [60_000, 700_000_000, 20_000_000_000].iter().for_each(|duration| histogram.record(*duration));
        page.family(Kind::Histogram, "c_seconds", "Times.").histogram(&[("x", "1")], &histogram);
        let samples = parse(&page.finish());
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let value = |name: &str, pairs: &[(&str, &str)]| samples[&(name.to_owned(), labels(pairs))];
        assert_eq!(value("a_total", &[("x", hostile), ("y", "")]), 3.0);
        assert_eq!(value("b", &[]), 0.25);
        assert_eq!(value("c_seconds_bucket", &[("x", "1"), ("le", "0.00005")]), 0.0);
        assert_eq!(value("c_seconds_bucket", &[("x", "1"), ("le", "0.0001")]), 1.0);
        assert_eq!(value("c_seconds_bucket", &[("x", "1"), ("le", "10")]), 2.0);
        assert_eq!(value("c_seconds_sum", &[("x", "1")]), 20.70006);
    }
}
