//! `ringway dump`: the configuration in its expanded form, secrets redacted.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;

use super::render;
use crate::{
    config::{Loader, dump::dump_json, environment::Environment},
    document::problem::Severity,
    telemetry::series::SeriesId,
};

#[derive(Args)]
pub struct DumpArgs {
    /// A file or a directory of the configuration; may be given several times
    #[arg(short, long, value_name = "PATH")]
    config: Vec<PathBuf>,

    /// Write api-instances.json, services.json, configuration.json and extensions.json there, not one object to stdout
    #[arg(long, value_name = "DIR")]
    output_directory: Option<PathBuf>,

    /// 1: errors, 2: warnings too, on stderr
    #[arg(short, value_name = "N", default_value_t = 1)]
    verbosity: u8,
}

/// The keys of a dump, and the files that Flex gives them.
const PARTS: [(&str, &str); 4] = [
    ("apiInstances", "api-instances.json"),
    ("services", "services.json"),
    ("configuration", "configuration.json"),
    ("extensions", "extensions.json"),
];

/// What cannot be used is left out and makes the exit code 1.
pub fn run(args: &DumpArgs) -> ExitCode {
    let loaded = Loader::new(args.config.clone(), Environment::of_process()).load();
    let outcome = loaded.compile(0, &mut |_| SeriesId::default());
    let colour = render::colour(&io::stderr());
    let mut failed = false;
    for problem in outcome.problems() {
        let fatal = problem.severity != Severity::Warning;
        failed |= problem.severity == Severity::Error;
        if args.verbosity >= if fatal { 1 } else { 2 } {
            eprint!("{}", render::problem(problem, fatal, &loaded.files, colour));
        }
    }
    let dump = dump_json(&loaded);
    let written = match &args.output_directory {
        Some(directory) => write_parts(&dump, directory),
        None => write_line(&dump),
    };
    if let Err(error) = written {
        eprintln!("error: {error}");
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn write_line(dump: &Value) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{dump:#}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn write_parts(dump: &Value, directory: &Path) -> io::Result<()> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::create_dir_all(directory).map_err(|error| named(directory, error))?;
    for (key, file) in PARTS {
        let path = directory.join(file);
        fs::write(&path, format!("{:#}\n", dump[key])).map_err(|error| named(&path, error))?;
    }
    Ok(())
}
