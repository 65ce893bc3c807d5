//! What a section looks like to its reader, and what a broken file is told.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Section {
    name: String,
    port: u16,
    #[serde(default)]
    is_on: bool,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    items: Vec<Item>,
    level: Option<Level>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Item {
    key: String,
    value: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    Info,
}

fn parse(text: &str) -> (Vec<Node>, Vec<Problem>) {
    let mut problems = Vec::new();
    let nodes = Node::parse(&Arc::new(PathBuf::from("f.yaml")), text, &mut problems);
    (nodes, problems)
}

fn read<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<String>) {
    let (nodes, mut problems) = parse(text);
    let value = nodes.first().and_then(|node| node.deserialize("s", &mut problems));
    (value, problems.iter().map(Problem::to_string).collect())
}

fn section(text: &str) -> Section {
    let (value, problems) = read(text);
    assert_eq!(problems, Vec::<String>::new());
    value.expect("no problem was reported")
}

#[test]
fn keys_match_in_any_case_and_scalars_convert() {
    let read = section("NAME: 8088\nPort: \"443\"\nison: yes\nData: {X-Key: true, n: 1.10}\nlevel: INFO\nitems:\n");
    assert_eq!(read.name, "8088");
    assert_eq!(read.port, 443);
    assert!(read.is_on);
    assert_eq!(read.data, BTreeMap::from([("X-Key".into(), "true".into()), ("n".into(), "1.10".into())]));
    assert_eq!(read.level, Some(Level::Info));
    assert!(read.items.is_empty());
}

#[test]
fn a_text_that_is_not_what_one_sees_is_warned_of_once() {
    let (value, problems) =
        read::<Section>("name: yes\nport: 1\nisOn: on\ndata: {a: off, b: 'off', yes: x}\nextra: 1\n");
    assert_eq!(value.expect("only warnings").name, "true");
    assert_eq!(
        problems,
        [
            "f.yaml:5:1: s.extra: unknown key, ignored",
            "f.yaml:1:7: s.name: `yes` without quotes is a boolean in YAML, and reads as `true`",
            "f.yaml:4:11: s.data.a: `off` without quotes is a boolean in YAML, and reads as `false`",
        ]
    );
}

#[test]
fn a_tab_behind_a_colon_is_a_space_and_no_indentation() {
    for (text, sound) in [
        ("name:\tx\nport:\t\t7 # c\nextra:\t{a:\tb}\n", true),
        ("a: |\n  b:\tc\n", true),
        ("a: 'b:\tc'\n", true),
        ("a:\tb: c\n", false),
        ("a:\t- b\n", false),
        ("a:\n\tb: c\n", false),
    ] {
        let (nodes, problems) = parse(text);
        assert_eq!(problems.is_empty(), sound, "{text:?}: {problems:?}");
        assert_eq!(nodes.len(), usize::from(sound), "{text:?}");
    }
    let (nodes, _) = parse("a: |\n  b:\tc\nd:\te\n---\nf:\tg\n");
    let texts: Vec<_> = nodes.iter().map(|node| node.to_json().to_string()).collect();
    assert_eq!(texts, [r#"{"a":"b:\tc\n","d":"e"}"#, r#"{"f":"g"}"#]);
}

#[test]
fn every_problem_of_a_section_is_reported_with_its_place() {
    let (value, problems) = read::<Section>(
        "port: many\nitmes: []\nisOn: perhaps\nitems:\n  - key: a\n  - {key: [1], value: b, valeu: c}\nlevel: loud\n",
    );
    assert_eq!(value, None);
    assert_eq!(
        problems,
        [
            "f.yaml:2:1: s.itmes: unknown key, did you mean `items`?",
            "f.yaml:1:7: s.port: expected a whole number",
            "f.yaml:3:7: s.isOn: expected `true` or `false`",
            "f.yaml:5:5: s.items[0].value: required, but missing",
            "f.yaml:6:26: s.items[1].valeu: unknown key, did you mean `value`?",
            "f.yaml:6:11: s.items[1].key: expected a string, found a list",
            "f.yaml:7:8: s.level: expected `debug` or `info`",
            "f.yaml:1:1: s.name: required, but missing",
        ]
    );
}

#[test]
fn a_key_of_the_section_around_is_told_from_one_of_none() {
    let (value, problems) = read::<Section>("name: x\nport: 1\nitems:\n  - {key: a, value: b, ison: true, other: 1}\n");
    assert!(!value.expect("only warnings").is_on);
    assert_eq!(
        problems,
        [
            "f.yaml:4:24: s.items[0].ison: ignored: belongs one level up",
            "f.yaml:4:36: s.items[0].other: unknown key, ignored"
        ]
    );
}

#[test]
fn a_value_is_never_repeated_in_a_problem() {
    let (_, problems) = read::<Section>("name: [hunter2]\nport: hunter2\nlevel: hunter2\nisOn: {a: hunter2}\n");
    assert_eq!(problems.len(), 4);
    assert!(problems.iter().all(|problem| !problem.contains("hunter2")), "{problems:?}");
}

#[test]
fn one_field_under_two_spellings_is_an_error() {
    let (value, problems) = read::<Item>("key: a\nKEY: b\nvalue: c\n");
    assert_eq!(value, None);
    assert_eq!(problems, ["f.yaml:2:1: s.KEY: the same key as `key`, written twice"]);
}

#[test]
fn anchors_merges_and_places_survive() {
    let (nodes, problems) = parse("base: &b {key: one, value: v}\nitem:\n  <<: *b\n  key: two\n");
    assert_eq!(problems, []);
    let mut problems = Vec::new();
    let item: Item = nodes[0].get("ITEM").unwrap().deserialize("", &mut problems).unwrap();
    assert_eq!(item, Item { key: "two".into(), value: "v".into() });
    let located: BTreeMap<String, Located<Node>> = nodes[0].deserialize("", &mut problems).unwrap();
    assert_eq!((located["item"].location.line, located["item"].location.column), (3, 3));
    assert_eq!(located["item"].value.get("key").and_then(Node::as_str), Some("two"));
}

#[test]
fn a_syntax_error_costs_its_own_document() {
    let (nodes, problems) = parse("a: 1\n---\nb: [1\n---\nc: 3\n--- # last\nd: {e: ]\n");
    let keys: Vec<_> = nodes.iter().flat_map(Node::entries).map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["a", "c"]);
    let lines: Vec<_> = problems.iter().map(|problem| problem.location.line).collect();
    assert_eq!(lines, [4, 7], "{problems:?}");
    assert_eq!(nodes[1].get("c").unwrap().location().line, 5);
}

#[test]
fn duplicate_keys_are_reported_and_the_first_is_kept() {
    let (nodes, problems) = parse("a: 1\nb: 2\na: 3\n");
    assert_eq!(problems[0].to_string(), "f.yaml:3:1: document: duplicate key `a`, first on line 1");
    assert_eq!(nodes[0].get("a").and_then(Node::as_str), Some("1"));
}

#[test]
fn lines_of_zero_width_spaces_are_blank() {
    let (nodes, problems) = parse("a: 1\n\u{200b}\n  \u{200b}\r\nb: 2\n");
    assert_eq!(problems, []);
    assert_eq!(nodes[0].get("b").unwrap().location().line, 4);
}

#[test]
fn a_byte_order_mark_may_stand_ahead_of_any_document() {
    let (nodes, problems) = parse("\u{feff}a: 1\r\n---\r\n\u{feff}a: 2\r\n\u{feff}---\r\na: 3\r\n");
    assert_eq!(problems, []);
    let values: Vec<_> = nodes.iter().map(|node| node.get("a").and_then(Node::as_str)).collect();
    assert_eq!(values, [Some("1"), Some("2"), Some("3")]);
}

#[test]
fn a_document_of_nothing_is_none() {
    for text in ["", "# only a remark\n", "---\n---\n", "\u{feff}---\n# x\n"] {
        let (nodes, problems) = parse(text);
        assert!(nodes.is_empty() && problems.is_empty(), "{text:?}: {problems:?}");
    }
}

#[test]
fn a_bomb_of_aliases_and_deep_nesting_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{items}]\n");
    }
    let (nodes, problems) = parse(&bomb);
    assert!(nodes.is_empty());
    assert!(problems[0].text.starts_with("more than 1000000 values"), "{problems:?}");
    for (open, close) in [("[", "]"), ("- ", "")] {
        let (_, problems) = parse(&(open.repeat(100) + "x" + &close.repeat(100)));
        assert_eq!(problems[0].text, "nested more than 64 levels deep");
    }
    assert_eq!(parse("a: &a [*a]").1[0].text, "an alias inside the value it stands for");
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let (nodes, problems) = parse(&"#".repeat(BYTES_MAX + 1));
    assert!(nodes.is_empty());
    assert_eq!(problems.len(), 1);
}

#[test]
fn suggestions_are_close_or_absent() {
    let names = || ["username", "password", "db"].into_iter();
    for (written, meant) in [
        ("usrename", Some("username")),
        ("passwd", Some("password")),
        ("dbb", Some("db")),
        ("zebra", None),
        ("Passwort", Some("password")),
    ] {
        assert_eq!(nearest(written, names()), meant, "{written}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = read::<Section>(&text);
    }

    #[test]
    fn yaml_like_text_never_panics(text in "([a-z:&*<\\[\\]{}|>'\"#,!%?-]|  |\n|---\n|\t|: |- |<<: ){0,80}") {
        let (nodes, mut problems) = parse(&text);
        for node in &nodes {
            let _ = node.deserialize::<Section>("s", &mut problems);
            let _ = node.deserialize::<serde_json::Value>("s", &mut problems);
            let _ = node.to_json();
        }
    }
}
