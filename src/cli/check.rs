//! `ringway check [PATH]...`: what `run` would say about a configuration, all of it at once.
//!
//! The loader and the compiler are those of `run`; only the snapshot is thrown away.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::render;
use crate::{
    config::{Loaded, Loader, environment::Environment},
    document::problem::{Problem, Severity},
    telemetry::series::SeriesId,
};

#[derive(Args)]
pub struct CheckArgs {
    /// Files and directories; without any, those that `run` would read
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Count warnings as errors, unknown keys among them; not those that say `not implemented yet`
    #[arg(long)]
    strict: bool,

    /// For people, or one JSON object
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = Loader::new(args.paths.clone(), Environment::of_process()).load();
    let report = Report::of(&loaded, args.strict);
    let text = match args.format {
        Format::Human => report.human(&loaded, render::colour(&io::stdout())),
        Format::Json => report.json(&loaded),
    };
    // A reader that has gone has seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Report {
    /// With whether it counts as an error.
    problems: Vec<(Problem, bool)>,
    errors: usize,
}

impl Report {
    fn of(loaded: &Loaded, strict: bool) -> Self {
        let outcome = loaded.compile(0, &mut |_| SeriesId::default());
        let fatal = |problem: &Problem| match problem.severity {
            Severity::Error | Severity::Policy => true,
            Severity::Warning => strict && !problem.text.contains("not implemented yet"),
        };
        let problems: Vec<_> = outcome.problems().iter().map(|problem| (problem.clone(), fatal(problem))).collect();
        let errors = problems.iter().filter(|(_, fatal)| *fatal).count();
        Self { problems, errors }
    }

    fn human(&self, loaded: &Loaded, colour: bool) -> String {
        let mut text: String = self
            .problems
            .iter()
            .map(|(problem, fatal)| render::problem(problem, *fatal, &loaded.files, colour))
            .collect();
        let warnings = self.problems.len() - self.errors;
        let counted = |count, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        text += &format!(
            "{} in {}: {}, {}\n",
            if self.errors == 0 { "ok" } else { "failed" },
            counted(loaded.files.len(), "file"),
            counted(self.errors, "error"),
            counted(warnings, "warning")
        );
        text
    }

    fn json(&self, loaded: &Loaded) -> String {
        let problem = |(problem, fatal): &(Problem, bool)| {
            json!({
                "severity": if *fatal { "error" } else { "warning" },
                "file": problem.location.file.display().to_string(),
                "line": problem.location.line,
                "column": problem.location.column,
                "path": problem.path,
                "message": problem.text,
            })
        };
        let report = json!({
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
            "errors": self.errors,
            "warnings": self.problems.len() - self.errors,
            "files": loaded.files.len(),
        });
        format!("{report:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: &str = "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata:\n  name: a\nspec:\n";

    fn report(spec: &str, strict: bool) -> (String, usize) {
        let loaded = Loaded::from_texts(&[("a.yaml", &format!("{API}{spec}"))], Environment::default());
        let report = Report::of(&loaded, strict);
        (report.human(&loaded, false), report.errors)
    }

    #[test]
    fn a_problem_shows_its_place_and_its_line() {
        let (text, errors) = report("  address: http://0.0.0.0:9998\n  rinwgay: {}\n", false);
        assert_eq!(errors, 1);
        assert_eq!(
            text,
            "error: a.yaml:6:12: a.spec.address: port 9998 is reserved
  |
6 |   address: http://0.0.0.0:9998
  |            ^
warning: a.yaml:7:3: a.spec.rinwgay: unknown key, did you mean `ringway`?
  |
7 |   rinwgay: {}
  |   ^
failed in 1 file: 1 error, 1 warning
"
        );
    }

    #[test]
    fn strict_counts_warnings_but_not_what_is_to_come() {
        let spec = "  address: http://0.0.0.0:8443\n  policies:\n    - policyRef: {name: cors-flex}\n";
        assert_eq!(report(spec, false).1, 0);
        let (text, errors) = report(spec, true);
        assert_eq!(errors, 0, "{text}");
        assert_eq!(report("  address: http://0.0.0.0:8081\n  extra: 1\n", true).1, 1);
    }

    #[test]
    fn json_counts_and_places() {
        let text = format!("{API}  address: ftp://0.0.0.0:1\n");
        let loaded = Loaded::from_texts(&[("a.yaml", &text)], Environment::default());
        let json: serde_json::Value = serde_json::from_str(&Report::of(&loaded, false).json(&loaded)).unwrap();
        assert_eq!((&json["errors"], &json["warnings"], &json["files"]), (&json!(1), &json!(0), &json!(1)));
        let problem = &json["problems"][0];
        assert_eq!(
            (&problem["line"], &problem["column"], &problem["path"]),
            (&json!(6), &json!(12), &json!("a.spec.address"))
        );
    }
}
