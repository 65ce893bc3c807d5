//! Each limit, at what it allows and at one more.

use super::*;

/// What `written` makes of a count passes at the limit and breaks it at one more, whatever stands before it.
fn check(limit: fn(u32) -> Limits, violation: Violation, counts: &[u32], written: impl Fn(u32) -> String) {
    for &count in counts {
        let text = written(count);
        for before in [0, 1, 31, 62, 63] {
            let text = format!("{}{text}", " ".repeat(before));
            let found = |limit| scan_pieces(limit, [text.as_bytes()]);
            assert_eq!(found(limit(count)), Ok(()), "{count}: {text}");
            assert_eq!(found(limit(count - 1)), Err(violation), "{count}: {text}");
        }
        if text.len() < 100 {
            assert_eq!(scan(limit(count), text.as_bytes()), Ok(()), "{text}");
            assert_eq!(scan(limit(count - 1), text.as_bytes()), Err(violation), "{text}");
        }
    }
}

const FEW_AND_MANY: &[u32] = &[1, 2, 3, 31, 62, 63, 64, 65, 66, 128, 300];

#[test]
fn depth() {
    let limit = |depth| Limits { depth, ..Limits::NONE };
    let repeat = |text: &str, depth: u32| text.repeat(depth as usize);
    let check = |written: &dyn Fn(u32) -> String| check(limit, Violation::Depth, FEW_AND_MANY, written);
    check(&|depth| repeat("[", depth) + &repeat("]", depth));
    check(&|depth| repeat("{\"a\":", depth - 1) + "{}" + &repeat("}", depth - 1));
    check(&|depth| repeat("[1,", depth - 1) + "[]" + &repeat("]", depth - 1));
    check(&|depth| repeat("[{}, ", depth - 1) + "[ ]" + &repeat(" ]", depth - 1));
}

#[test]
fn containers_of_one_depth_do_not_add_up() {
    let limits = Limits { depth: 3, ..Limits::NONE };
    // The sample of the reference: an array of objects in an object.
    assert_eq!(scan(limits, b"{\"a\":[{\"b\":1},{\"c\":2}]}"), Ok(()));
    assert_eq!(scan(limits, b"{\"a\":[{\"b\":1},{\"c\":{}}]}"), Err(Violation::Depth));
    let many = format!("[{}[]]", "[[]],".repeat(200));
    assert_eq!(scan_pieces(limits, [many.as_bytes()]), Ok(()));
}

#[test]
fn no_limit_of_the_depth_is_one_all_the_same() {
    let nested = |depth: u32| "[{\"a\":".repeat(depth as usize / 2) + "1" + &"}]".repeat(depth as usize / 2);
    assert_eq!(scan_pieces(Limits::NONE, [nested(DEPTH_MAX).as_bytes()]), Ok(()));
    assert_eq!(scan_pieces(Limits::NONE, [nested(DEPTH_MAX + 2).as_bytes()]), Err(Violation::Depth));
    let open = "[".repeat(1 << 16);
    assert_eq!(scan_pieces(Limits::NONE, [open.as_bytes()]), Err(Violation::Depth));
    let mut scanner = Scanner::new(Limits::NONE);
    assert_eq!(scanner.feed(&open.as_bytes()[..DEPTH_MAX as usize]), Ok(()));
    assert_eq!(scanner.feed(b"["), Err(Violation::Depth));
}

/// Down and up again, past the 64 levels that are looked at together.
#[test]
fn containers_are_remembered_at_any_depth() {
    for depth in [63, 64, 65, 129, 900] {
        let open = |at: u32| if at.is_multiple_of(3) { "{\"a\":" } else { "[" };
        let close = |at: u32| if at.is_multiple_of(3) { "}" } else { "]" };
        let down: String = (0..depth).map(open).collect();
        let up: String = (0..depth).rev().map(close).collect();
        let text = format!("{down}0{up}");
        assert_eq!(scan_pieces(Limits::NONE, [text.as_bytes()]), Ok(()), "{depth}");
        // The same ten levels again and again, between others.
        let again: String = (0..20).flat_map(|_| ["[", "[[[[[[[[[", "0", "]]]]]]]]]", "]", ","]).collect();
        let text = format!("{down}[{again}1]{up}");
        assert_eq!(scan_pieces(Limits::NONE, [text.as_bytes()]), Ok(()), "{depth}");
        for at in (0..depth).step_by(17) {
            let wrong: String = (0..depth).rev().map(|level| close(level + u32::from(level == at))).collect();
            let text = format!("{down}0{wrong}");
            let expected = if close(at) == close(at + 1) { Ok(()) } else { Err(Violation::Syntax) };
            assert_eq!(scan_pieces(Limits::NONE, [text.as_bytes()]), expected, "{depth}, {at}");
        }
    }
}

#[test]
fn elements() {
    let limit = |elements| Limits { elements, ..Limits::NONE };
    let check = |written: &dyn Fn(u32) -> String| check(limit, Violation::ElementCount, FEW_AND_MANY, written);
    let list = |item: &str, count: u32| vec![item; count as usize].join(",");
    check(&|count| format!("[{}]", list("1", count)));
    check(&|count| format!("[ {} ]", list("\"a\" ", count)));
    check(&|count| format!("[{}]", list("{\"a\":0,\"b\":1,\"c\":2}", count)));
    check(&|count| format!("{{\"a\":[],\"b\":[{}],\"c\":[]}}", list("{}", count)));
    check(&|count| format!("[[{}]]", list("[]", count)));
}

#[test]
fn entries() {
    let limit = |entries| Limits { entries, ..Limits::NONE };
    let check = |written: &dyn Fn(u32) -> String| check(limit, Violation::EntryCount, FEW_AND_MANY, written);
    let list = |item: &str, count: u32| vec![item; count as usize].join(",");
    check(&|count| format!("{{{}}}", list("\"a\":1", count)));
    check(&|count| format!("{{ {} }}", list("\"\" : [1,2,3] ", count)));
    check(&|count| format!("[{{{}}},1,2,3]", list("\"a\":{}", count)));
}

/// A container in another takes nothing from its count.
#[test]
fn members_are_counted_for_each_container() {
    let limits = Limits { entries: 2, elements: 3, ..Limits::NONE };
    assert_eq!(scan(limits, b"[[1,2,3],{\"a\":1,\"b\":[1,2,3]},[[],{},[]]]"), Ok(()));
    assert_eq!(scan(limits, b"[[1,2,3],{\"a\":1,\"b\":[1,2,3]},3,4]"), Err(Violation::ElementCount));
    assert_eq!(scan(limits, b"[{\"a\":[1,2,3],\"b\":[1,2,3],\"c\":1}]"), Err(Violation::EntryCount));
    let deep = "[1,[2,".repeat(200) + "[1,2,3]" + &"],3]".repeat(200);
    assert_eq!(scan_pieces(limits, [deep.as_bytes()]), Ok(()));
    let deeper = "[1,[2,".repeat(200) + "[1,2,3]" + &"],3]".repeat(100) + "],3,4]" + &"],3]".repeat(99);
    assert_eq!(scan_pieces(limits, [deeper.as_bytes()]), Err(Violation::ElementCount));
}

#[test]
fn nought_allows_only_what_is_empty() {
    let none = Limits { entries: 0, elements: 0, name: 0, string: 0, ..Limits::NONE };
    for text in ["[]", "{}", " [ ] ", "{ }", "1", "\"\"", "null"] {
        assert_eq!(scan(none, text.as_bytes()), Ok(()), "{text}");
    }
    assert_eq!(scan(none, b"[1]"), Err(Violation::ElementCount));
    assert_eq!(scan(none, b"[ []]"), Err(Violation::ElementCount));
    assert_eq!(scan(none, b"{\"\":1}"), Err(Violation::EntryCount));
    assert_eq!(scan(none, b"\"a\""), Err(Violation::StringLength));
    assert_eq!(scan(Limits { entries: 1, ..none }, b"{\"a\":1}"), Err(Violation::NameLength));
    assert_eq!(scan(Limits { entries: 1, ..none }, b"{\"\":\"\"}"), Ok(()));
    for text in ["[]", "{}"] {
        assert_eq!(scan(Limits { depth: 0, ..Limits::NONE }, text.as_bytes()), Err(Violation::Depth));
    }
    assert_eq!(scan(Limits { depth: 0, ..Limits::NONE }, b"17"), Ok(()));
}

/// Characters, not bytes: an escape is one, and so is a pair.
#[test]
fn strings_are_measured_in_characters() {
    let string = |string: u32| Limits { string: string.into(), ..Limits::NONE };
    let name = |name: u32| Limits { name: name.into(), ..Limits::NONE };
    let counts = &[1, 2, 30, 60, 61, 62, 63, 64, 65, 126, 128, 300];
    for character in ["a", "é", "€", "😀", "\\n", "\\\\", "\\\"", "\\u00e9", "\\ud83d\\ude00"] {
        let text = |count: u32| character.repeat(count as usize);
        check(string, Violation::StringLength, counts, |count| format!("\"{}\"", text(count)));
        check(string, Violation::StringLength, counts, |count| format!("[\"a\",\"{}\",1]", text(count)));
        check(string, Violation::StringLength, counts, |count| format!("{{\"long name\":\"{}\"}}", text(count)));
        check(name, Violation::NameLength, counts, |count| format!("{{\"{}\":\"a value\"}}", text(count)));
        check(name, Violation::NameLength, counts, |count| format!("{{\"a\":[\"a value\"],\"{}\":1}}", text(count)));
    }
}

#[test]
fn names_and_values_have_limits_of_their_own() {
    let limits = Limits { name: 3, string: 5, ..Limits::NONE };
    assert_eq!(scan(limits, br#"{"abc":"12345","def":["12345"]}"#), Ok(()));
    assert_eq!(scan(limits, br#"{"abcd":"12345"}"#), Err(Violation::NameLength));
    assert_eq!(scan(limits, br#"{"abc":"123456"}"#), Err(Violation::StringLength));
    assert_eq!(scan(limits, br#"{"abc":["12345","abcd","123456"]}"#), Err(Violation::StringLength));
    let limits = Limits { name: 100, string: 5000, ..Limits::NONE };
    let text = format!("{{\"{}\":\"{}\"}}", "n".repeat(100), "v".repeat(5000));
    assert_eq!(scan_pieces(limits, [text.as_bytes()]), Ok(()));
    let text = format!("{{\"{}\":\"{}\"}}", "n".repeat(101), "v".repeat(5000));
    assert_eq!(scan_pieces(limits, [text.as_bytes()]), Err(Violation::NameLength));
    let text = format!("{{\"{}\":\"{}\"}}", "n".repeat(100), "v".repeat(5001));
    assert_eq!(scan_pieces(limits, [text.as_bytes()]), Err(Violation::StringLength));
}

/// A string without end is refused when it is too long, not when it ends.
#[test]
fn a_string_is_measured_as_it_comes() {
    let limits = Limits { string: 1000, ..Limits::NONE };
    let text = "\"".to_owned() + &"a".repeat(1001);
    assert_eq!(passes(limits, text.as_bytes()), 1001);
}

#[test]
fn numbers_have_a_length_too() {
    let max = NUMBER_BYTES_MAX as usize;
    for before in [0, 1, 31, 62, 63] {
        let text = |bytes: usize| " ".repeat(before) + "-1." + &"2".repeat(bytes - 3);
        assert_eq!(scan_pieces(Limits::NONE, [text(max).as_bytes()]), Ok(()));
        assert_eq!(scan_pieces(Limits::NONE, [text(max + 1).as_bytes()]), Err(Violation::NumberLength));
    }
    let many = format!("[{}1]", "12345678901234567890123456789,".repeat(100));
    assert_eq!(scan_pieces(Limits::NONE, [many.as_bytes()]), Ok(()));
    let text = "7".repeat(max + 1);
    assert_eq!(passes(Limits::NONE, text.as_bytes()), max);
}
