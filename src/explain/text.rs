//! An explanation for people: one line a step, what matters first.

use std::fmt::Write;

use super::report::{Change, Explanation, Outcome, PolicyTurn, RouteTurn, Turn};

/// Names of steps end here, so that what is told stands in one column.
const COLUMN: usize = 10;

pub fn write(told: &Explanation) -> String {
    let mut out = String::new();
    let request = &told.request;
    let (authority, path, query) = (&request.authority, &request.path, &request.query);
    step(&mut out, "request", &format!("{} {}://{authority}{path}{query}", request.method, request.scheme));
    below(&mut out, &format!("from {}", request.client));
    if let Some(listener) = &told.listener {
        step(&mut out, "listener", &format!("{}://{}", listener.scheme, listener.address));
    }
    if let Some(api) = &told.api {
        step(&mut out, "API", &format!("{}  {}", api.name, api.at));
        below(&mut out, &format!("base `{}`; rules see `{}`", api.base, api.path));
    }
    told.policies.iter().for_each(|turn| policy(&mut out, turn));
    told.routes.iter().for_each(|turn| route(&mut out, turn));
    if let Some(service) = &told.service {
        step(&mut out, "Service", &format!("{}  {}", service.name, service.at));
        below(&mut out, &format!("at {}", service.endpoints.join(", ")));
    }
    told.outbound_policies.iter().for_each(|turn| policy(&mut out, turn));
    if let Some(sent) = &told.upstream {
        step(&mut out, "upstream", &format!("{} {}{} ({})", sent.method, sent.path, sent.query, sent.protocol));
        below(&mut out, &format!("host {}", sent.host));
        changes(&mut out, &sent.changes);
    }
    match &told.outcome {
        Outcome::Upstream => step(&mut out, "=>", "goes to the upstream"),
        Outcome::Unreachable { why } => step(&mut out, "=>", why),
        Outcome::Answered(answer) => {
            let reason = if answer.reason.is_empty() { String::new() } else { format!(" {}", answer.reason) };
            step(&mut out, "=>", &format!("answered {}{reason} by {}", answer.status, answer.by));
            for line in &answer.headers {
                below(&mut out, &format!("{}: {}", line.name, line.value));
            }
            if !answer.body.is_empty() {
                below(&mut out, &answer.body);
            }
        }
    }
    out
}

fn policy(out: &mut String, turn: &PolicyTurn) {
    let shadow = if turn.shadow { " in shadow" } else { "" };
    step(out, "policy", &format!("{}  {}", turn.name, turn.at));
    let what = match turn.what {
        Turn::NotReached => "not reached",
        Turn::NotApplied => "does not apply",
        Turn::Continued => "lets pass",
        Turn::Answered => "ANSWERS",
        Turn::WouldAnswer => "would answer",
        Turn::Broken => "BROKEN",
        Turn::PatternLimit => "ANSWERS",
    };
    below(out, &format!("{}{shadow}: {what} ({})", turn.policy, turn.why));
    if let Some(client) = &turn.client {
        below(out, &format!("the client is {client}"));
    }
    changes(out, &turn.changes);
    turn.logs.iter().for_each(|line| below(out, &format!("would log: {line}")));
}

fn route(out: &mut String, turn: &RouteTurn) {
    let chosen = if turn.chosen { "CHOSEN" } else { "passed by" };
    step(out, "route", &format!("{}  {}", turn.name, turn.at));
    below(out, &format!("{chosen} ({})", turn.why));
    for goal in turn.to.iter().filter(|_| turn.chosen) {
        let weight = if turn.to.len() > 1 { format!(", weight {}", goal.weight) } else { String::new() };
        let service = goal.service.as_deref().unwrap_or("no such Service");
        let path = if goal.path.is_empty() { String::new() } else { format!(", path behind `{}`", goal.path) };
        below(out, &format!("to {service}{path}{weight}"));
    }
}

fn changes(out: &mut String, changes: &[Change]) {
    for change in changes {
        change.from.iter().for_each(|value| below(out, &format!("- {}: {value}", change.name)));
        change.to.iter().for_each(|value| below(out, &format!("+ {}: {value}", change.name)));
    }
}

fn step(out: &mut String, name: &str, text: &str) {
    writeln!(out, "{name:COLUMN$}{text}").expect("a String takes everything");
}

fn below(out: &mut String, text: &str) {
    step(out, "", text);
}
