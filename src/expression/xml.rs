//! XML to elements. No document type and so no entities of its own: such a document is malformed to us.

use quick_xml::{
    XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
    reader::Reader,
};

use super::{
    data::Element,
    payload::{DEPTH_MAX, NODES_MAX},
};

/// More on one element are refused: looking for repeated ones costs the square.
const ATTRIBUTES_MAX: usize = 64;

/// The document, whose one child is the root. None where it is malformed, deeper than [`DEPTH_MAX`] or has more than
/// [`NODES_MAX`] elements and attributes.
pub(super) fn parse(text: &str) -> Option<Element> {
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    reader.config_mut().enable_all_checks(true);
    let mut nodes = NODES_MAX;
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().ok()?;
        let inner = open.last_mut()?;
        match event {
            Event::Start(start) => {
                if open.len() > DEPTH_MAX {
                    return None;
                }
                open.push(element(&start, &mut nodes)?);
            }
            Event::Empty(start) => inner.children.push(element(&start, &mut nodes)?),
            Event::End(_) => {
                let mut closed = open.pop()?;
                closed.finish();
                open.last_mut()?.children.push(closed);
            }
            Event::Text(text) => inner.text.push_str(&text.xml10_content()),
            Event::CData(text) => inner.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().ok()? {
                Some(character) => inner.text.push(character),
                None => inner.text.push_str(resolve_predefined_entity(&reference)?),
            },
            Event::DocType(_) => return None,
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose().ok()?;
                // The text has been read as UTF-8 already.
                if encoding.is_some_and(|name| !["utf-8", "us-ascii"].contains(&&*name.to_ascii_lowercase())) {
                    return None;
                }
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let document = open.pop()?;
    let is_whole = open.is_empty() && document.children.len() == 1 && document.text.trim().is_empty();
    is_whole.then_some(document)
}

fn element(start: &BytesStart<'_>, nodes: &mut usize) -> Option<Element> {
    *nodes = nodes.checked_sub(1)?;
    let mut attributes: Vec<(Box<str>, Box<str>)> = Vec::new();
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.ok()?;
        let name = attribute.key.as_ref();
        if attributes.len() == ATTRIBUTES_MAX || attributes.iter().any(|(known, _)| **known == *name) {
            return None;
        }
        *nodes = nodes.checked_sub(1)?;
        attributes.push((name.into(), attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into()));
    }
    Some(Element { name: start.name().as_ref().into(), attributes, ..Element::default() })
}

impl Element {
    /// Between children, space is layout.
    fn finish(&mut self) {
        if !self.children.is_empty() && self.text.trim().is_empty() {
            self.text.clear();
        }
        self.text.shrink_to_fit();
        self.children.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_attributes_and_text() {
        let document = parse(
            "<?xml version='1.0' encoding='UTF-8'?><!-- c --><s:a x='1' y:x=\"a&amp;b\"> <b>t&lt;&#65;<![CDATA[<c>]]></b>\n<b/></s:a>",
        );
        let document = document.expect("well-formed");
        let root = document.children.first().expect("a root");
        assert_eq!(root.attribute("x"), Some("1"));
        assert_eq!(root.attribute("y:x"), Some("a&b"));
        assert_eq!(root.attribute("z"), None);
        assert_eq!(root.text, "");
        let texts: Vec<&str> = root.children.iter().map(|b| b.text.as_str()).collect();
        assert_eq!(texts, ["t<A<c>", ""]);
        assert!(root.is_named("s:a") && root.is_named("a") && !root.is_named("t:a"));
    }

    #[test]
    fn malformed_and_hostile_documents_are_none() {
        for text in [
            "",
            " ",
            "a",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            "<a>&nbsp;</a>",
            "<a>&</a>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
            "<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
            "<a>&#0;</a>",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(&nested(DEPTH_MAX)).is_some());
        assert!(parse(&nested(DEPTH_MAX + 1)).is_none());
        assert!(parse(&"<a>".repeat(100_000)).is_none());
        assert!(parse(&format!("<r>{}</r>", "<a/>".repeat(NODES_MAX))).is_none());
        let attributes = |count: usize| (0..count).map(|n| format!(" a{n}=''")).collect::<String>();
        assert!(parse(&format!("<a{}/>", attributes(ATTRIBUTES_MAX))).is_some());
        assert!(parse(&format!("<a{}/>", attributes(ATTRIBUTES_MAX + 1))).is_none());
    }

    proptest! {
        #[test]
        fn never_panics(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..20), noise in "\\PC*") {
            parse(&pieces.concat());
            parse(&noise);
        }
    }

    const PIECES: &[&str] = &[
        "<a",
        ">",
        "</a>",
        "/>",
        " b='",
        "'",
        "\"",
        "&",
        ";",
        "&#",
        "lt",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        "?>",
        "xml",
        "<!DOCTYPE",
        "ä",
        " ",
        "<",
        "a:b",
        "=",
    ];
}
