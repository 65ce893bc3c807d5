//! `ringway policies [NAME]`: which policies there are, which of them work, their fields, and what each may answer.
//!
//! It prints the table that compiles chains and the types that read files, so it cannot promise what a gateway of this version
//! does not do.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    config::{described::described, resources::PolicyRingway},
    document::node::{Shape, shape_of},
    policies::{
        self, Described, Entry, Role, TABLE,
        fields::{leaves, words},
        lookup,
    },
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
    /// `inbound` where it is bound to an ApiInstance, `outbound` where to a Service.
    direction: &'static str,
    category: Option<&'static str>,
    /// Its page, from the root of the documentation's sources.
    page: Option<String>,
    fields: Vec<Field>,
    /// Of `ringway`, beside `config`; what all policies have there is not listed.
    options: Vec<Field>,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    path: String,
    title: &'static str,
    help: &'static str,
    r#type: String,
    /// Where only some will do.
    values: Option<&'static [&'static str]>,
    required: bool,
    default: Option<serde_json::Value>,
    unit: Option<&'static str>,
    sensitive: bool,
    expression: bool,
    visible_when: Option<Condition>,
}

/// Another field has this value.
#[derive(Serialize)]
struct Condition {
    field: &'static str,
    is: &'static str,
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
                let meant = policies::meant(name);
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
        let answer =
            |answer: &policies::Answers| Answer { status: answer.status, reason: answer.reason, when: answer.when };
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
            direction: if entry.is_of_service() { "outbound" } else { "inbound" },
            category: described(entry).and_then(|described| described.category).map(|category| category.name()),
            page: has_page.then(|| format!("docs/policies/{stem}.md")),
            fields: described(entry).map(|Described { fields, shape, .. }| told(fields, &shape())).unwrap_or_default(),
            options: told(entry.options, &shape_of::<PolicyRingway>()),
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
        for field in &self.fields {
            text += &field.lines("");
        }
        for option in &self.options {
            text += &option.lines("ringway.");
        }
        for Answer { status, reason, when } in &self.answers {
            text += &format!("  answers {status} {reason} where {when}\n");
        }
        if let Some(page) = &self.page {
            text += &format!("  described in {page}\n");
        }
        text
    }
}

impl Field {
    fn lines(&self, below: &str) -> String {
        format!("  {below}{} ({}{})\n      {}\n", self.path, self.r#type, self.remarks(), self.help)
    }

    /// What stands behind its type.
    fn remarks(&self) -> String {
        let mut text = String::new();
        if let Some(unit) = self.unit {
            text += &format!(", {unit}");
        }
        if self.required {
            text += ", required";
        }
        if let Some(default) = &self.default {
            text += &format!(", default {default}");
        }
        if self.expression {
            text += ", may be an expression";
        }
        if self.sensitive {
            text += ", secret";
        }
        if let Some(Condition { field, is }) = &self.visible_when {
            text += &format!(", where {field} is {is}");
        }
        text
    }
}

/// In the order of the list beside the type.
fn told(fields: &[policies::Field], shape: &Shape) -> Vec<Field> {
    let shapes = leaves(shape);
    let field = |field: &policies::Field| {
        let (path, shape, required) = shapes.iter().find(|(path, ..)| path == field.path)?;
        Some(Field {
            path: path.clone(),
            title: field.title,
            help: field.help,
            r#type: words(shape).replace('`', ""),
            values: match shape {
                Shape::OneOf(names) => Some(names),
                _ => None,
            },
            required: *required,
            default: field.default_value(shape),
            unit: field.unit,
            sensitive: field.sensitive,
            expression: field.expression,
            visible_when: field.visible_when.map(|(field, is)| Condition { field, is }),
        })
    };
    fields.iter().filter_map(field).collect()
}
