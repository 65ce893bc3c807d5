//! What the tests of policies share: heads, exchanges and configurations from a few words.

use std::{net::IpAddr, sync::Arc};

use super::{Authentication, Exchange, Policy};
use crate::{
    config::{node::Node, problem::Problem},
    http::head::{Fields, RequestHead, ResponseHead},
};

pub fn node(text: &str) -> Node {
    let mut problems = Vec::new();
    let nodes = Node::parse(&Arc::new("test.yaml".into()), text, &mut problems);
    assert_eq!(problems, [], "{text}");
    nodes.into_iter().next().expect("one document")
}

/// The policy, or its problems without their place.
pub fn compile<P: Policy>(config: &str) -> Result<P, Vec<String>> {
    let mut problems = Vec::new();
    super::build(&node(config), "config", &mut problems).map_err(|_| texts(&problems))
}

pub fn faults<P: Policy + std::fmt::Debug>(config: &str) -> Vec<String> {
    compile::<P>(config).expect_err("faults")
}

/// What is remarked on a configuration that works.
pub fn remarks<P: Policy>(config: &str) -> Vec<String> {
    let mut problems = Vec::new();
    assert!(super::build::<P>(&node(config), "config", &mut problems).is_ok(), "{config}");
    texts(&problems)
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect()
}

pub fn request(method: &str, path: &str, lines: &[(&str, &str)]) -> RequestHead {
    RequestHead {
        method: method.into(),
        path: path.into(),
        authority: "api.example:8081".into(),
        fields: fields(lines),
        ..RequestHead::default()
    }
}

pub fn response(status: u16, lines: &[(&str, &str)]) -> ResponseHead {
    ResponseHead { status, fields: fields(lines), ..ResponseHead::default() }
}

pub fn exchange<'a>(request: &'a mut RequestHead, authentication: &'a mut Authentication) -> Exchange<'a> {
    Exchange { request, client: IpAddr::from([192, 0, 2, 1]), certificate: None, authentication }
}

pub fn lines(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

pub fn owned(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
    fields
}
