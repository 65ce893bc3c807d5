//! `ringway policies [NAME]`: which policies there are, which of them work, and what each may answer.
//!
//! It prints the table that compiles chains, so it cannot promise what a gateway of this version does not do.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    config::node::nearest,
    policies::{Entry, Role, TABLE, lookup},
};

#[derive(Args)]
pub struct PoliciesArgs {
    /// One of them, with or without `-flex`; without it, all
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// For people, or JSON: a list, also of one
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(Serialize)]
struct Shown {
    name: &'static str,
    role: &'static str,
    implemented: bool,
    /// Its page, from the root of the documentation's sources.
    page: Option<String>,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    status: u16,
    reason: &'static str,
    when: &'static str,
}

pub fn run(args: &PoliciesArgs) -> ExitCode {
    let shown: Vec<Shown> = match &args.name {
        None => TABLE.iter().map(Shown::of).collect(),
        Some(name) => match lookup(name) {
            Some(entry) => vec![Shown::of(entry)],
            None => {
                let meant = nearest(name, TABLE.iter().map(|entry| entry.name));
                let meant = meant.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
                eprintln!("error: no policy `{name}`{meant}");
                return ExitCode::FAILURE;
            }
        },
    };
    let text = match (args.format, &shown[..]) {
        (Format::Json, _) => serde_json::to_string_pretty(&shown).expect("names and texts are JSON") + "\n",
        (Format::Human, [one]) => one.page(),
        (Format::Human, all) => all.iter().map(Shown::line).collect(),
    };
    // A reader that has gone has seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

impl Shown {
    fn of(entry: &Entry) -> Self {
        let answers = entry.answers.iter().flat_map(|list| list.iter());
        let answer = |answer: &crate::policies::Answers| Answer {
            status: answer.status,
            reason: answer.reason,
            when: answer.when,
        };
        let stem = entry.name.strip_suffix("-flex").unwrap_or(entry.name);
        // Routes are described where routing is.
        let has_page = entry.implemented && entry.role != Role::Routing;
        Self {
            name: entry.name,
            role: match entry.role {
                Role::Inbound => "inbound",
                Role::Outbound => "outbound",
                Role::Transport => "transport",
                Role::Routing => "routing",
                Role::Setting => "setting",
            },
            implemented: entry.implemented,
            page: has_page.then(|| format!("docs/policies/{stem}.md")),
            answers: answers.map(answer).collect(),
        }
    }

    fn status(&self) -> &'static str {
        if self.implemented { "works" } else { "not implemented yet" }
    }

    fn line(&self) -> String {
        format!("{:<45}{:<11}{}\n", self.name, self.role, self.status())
    }

    fn page(&self) -> String {
        let mut text = self.line();
        for Answer { status, reason, when } in &self.answers {
            text += &format!("  answers {status} {reason} where {when}\n");
        }
        if let Some(page) = &self.page {
            text += &format!("  described in {page}\n");
        }
        text
    }
}
