//! `ringway explain METHOD URL`: what would become of a request, step by step, and why.
//!
//! The configuration is read as `run` reads it. Nothing is sent and nothing is bound.

use std::{
    fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

use clap::{Args, ValueEnum};

use super::render;
use crate::{
    config::{Loader, environment::Environment, problem::Severity, snapshot::SeriesId},
    explain::{Question, Secrets, explain, report::Outcome, text, time},
    policies::{jwt::key_set::KeySet, wants::Published},
};

/// Wrong usage, and a configuration that cannot be used.
const USAGE: u8 = 2;
const CONFIG: u8 = 78;

#[derive(Args)]
pub struct ExplainArgs {
    /// The request's method
    #[arg(value_name = "METHOD")]
    method: String,

    /// Where a client would send it: `http://host:port/path?query`
    #[arg(value_name = "URL")]
    url: String,

    /// A header of the request, `name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "LINE")]
    headers: Vec<String>,

    /// The request's body, or the file that it is in
    #[arg(short, long, value_name = "BODY|@FILE")]
    data: Option<String>,

    /// What the request line says in the place of the URL's path and query, such as `*`
    #[arg(long, value_name = "TARGET")]
    request_target: Option<String>,

    /// The client's address
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,

    /// When it would be sent, `2026-11-28T21:30:00Z` or seconds since 1970; without it, now
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<SystemTime>,

    /// What policies would have fetched: `jwks=FILE` is the key set of every `jwksUrl`
    #[arg(long, value_name = "NAME=FILE")]
    answer: Vec<String>,

    /// A file or a directory of the configuration; may be given several times
    #[arg(short, long, value_name = "PATH")]
    config: Vec<PathBuf>,

    /// Explain by the good documents of a configuration that also has bad ones
    #[arg(long)]
    allow_partial: bool,

    /// Show credentials in headers and query as they are
    #[arg(long)]
    show_secrets: bool,

    /// For people, or one JSON object
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

/// 0 where the request reaches an upstream, 1 where it does not.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let question = body_bytes(args.data.as_deref()).and_then(|body| {
        let target = args.request_target.as_deref();
        Question::new(&args.method, &args.url, target, &args.headers, body, args.client)
    });
    let mut question = match question {
        Ok(question) => question,
        Err(text) => return wrong(&text),
    };
    question.at = args.at;
    let key_set = match key_set(&args.answer) {
        Ok(key_set) => key_set,
        Err(text) => return wrong(&text),
    };
    let loaded = Loader::new(args.config.clone(), Environment::of_process()).load();
    let snapshot = match loaded.compile(0, &mut |_| SeriesId::default()).accept(args.allow_partial) {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            let colour = render::colour(&io::stderr());
            for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
                eprint!("{}", render::problem(problem, true, &loaded.files, colour));
            }
            return ExitCode::from(CONFIG);
        }
    };
    if let Some(set) = key_set {
        question.published = Published::everywhere(&snapshot.wants, &set);
    }
    let secrets = if args.show_secrets { Secrets::Shown } else { Secrets::Hidden };
    let told = match explain(Arc::new(snapshot), &question, secrets) {
        Ok(told) => told,
        Err(text) => return wrong(&text),
    };
    let text = match args.format {
        Format::Human => text::write(&told),
        Format::Json => serde_json::to_string_pretty(&told).expect("names and texts are JSON") + "\n",
    };
    // A reader that has gone has seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    if matches!(told.outcome, Outcome::Upstream) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wrong(text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::from(USAGE)
}

/// The one that stands in for those that the gateway would fetch.
fn key_set(answers: &[String]) -> Result<Option<Arc<KeySet>>, String> {
    let Some(answer) = answers.first() else { return Ok(None) };
    let [] = &answers[1..] else { return Err("one `--answer` is enough: it stands for every key set".to_owned()) };
    let Some(file) = answer.strip_prefix("jwks=") else { return Err(format!("`{answer}`: expected `jwks=FILE`")) };
    let body = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let (set, unusable) = KeySet::parse(&body).map_err(|text| format!("{file}: {text}"))?;
    for why in unusable {
        eprintln!("warning: {file}: {why}");
    }
    Ok(Some(Arc::new(set)))
}

/// How long the body is: no decision depends on more of it.
fn body_bytes(data: Option<&str>) -> Result<Option<u64>, String> {
    match data.map(|data| (data, data.strip_prefix('@'))) {
        None => Ok(None),
        Some((_, Some(file))) => {
            fs::metadata(file).map(|found| Some(found.len())).map_err(|error| format!("{file}: {error}"))
        }
        Some((text, None)) => Ok(Some(text.len() as u64)),
    }
}
