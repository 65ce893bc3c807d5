//! `ringway explain METHOD URL`: what would become of a request, step by step, and why.
//!
//! The configuration is read as `run` reads it. Nothing is sent and nothing is bound.

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

use clap::{Args, ValueEnum};

use super::render;
use crate::{
    config::{Loader, environment::Environment},
    document::problem::Severity,
    explain::{Question, Secrets, explain, report::Outcome, text, time},
    policies::jwt::key_set::{KEY_SET_BYTES_MAX, KeySet},
    telemetry::series::SeriesId,
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

    /// What the gateway would have fetched: `jwks=FILE`, the keys of every key set; or the body of what the calls of a policy
    /// bring, by its name or its binding's; may be given several times
    #[arg(long, value_name = "NAME=FILE")]
    answer: Vec<String>,

    /// The client's address
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,

    /// When it would be sent, `2026-11-28T21:30:00Z` or seconds since 1970; without it, now
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<SystemTime>,

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
    let question = body(args.data.as_deref()).and_then(|body| {
        let target = args.request_target.as_deref();
        Question::new(&args.method, &args.url, target, &args.headers, body, args.client)
    });
    let question = question.and_then(|question| {
        let (key_set, answers) = answers(&args.answer)?;
        Ok(Question { at: args.at, key_set, answers: Arc::new(answers), ..question })
    });
    let question = match question {
        Ok(question) => question,
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

type Answers = (Option<Arc<KeySet>>, Vec<(String, Vec<u8>)>);

/// The set of keys among them, and what calls would bring.
fn answers(given: &[String]) -> Result<Answers, String> {
    let (mut key_set, mut others) = (None, Vec::new());
    for answer in given {
        let (name, file) = answer
            .split_once('=')
            .ok_or_else(|| format!("`{answer}` is no answer: expected `jwks=FILE` or `POLICY=FILE`"))?;
        let body = read(file)?;
        if name == "jwks" {
            let (set, unusable) = KeySet::parse(&body).map_err(|why| format!("{file} is no set of keys: {why}"))?;
            unusable.iter().for_each(|why| eprintln!("{file}: {why}"));
            key_set = Some(Arc::new(set));
        } else {
            others.push((name.to_owned(), body));
        }
    }
    Ok((key_set, others))
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    // One byte more than may be there, so that it is missed.
    let most = KEY_SET_BYTES_MAX as u64 + 1;
    let mut body = Vec::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(most).read_to_end(&mut body));
    read.map_err(|error| format!("{file}: {error}"))?;
    Ok(body)
}

fn body(data: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    match data.map(|data| (data, data.strip_prefix('@'))) {
        None => Ok(None),
        Some((_, Some(file))) => fs::read(file).map(Some).map_err(|error| format!("{file}: {error}")),
        Some((text, None)) => Ok(Some(text.as_bytes().to_vec())),
    }
}
