//! Runs every case under `tests/cases/`, each against a gateway process of its own, under both I/O drivers.
//!
//! `cargo test --test cases -- FILTER...` runs the cases whose `area/name` contains one of the filters.
//! `RINGWAY_TEST_JOBS` says how many run at a time, `RINGWAY_TEST_DRIVER` limits the drivers to one.

mod support;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use support::{case::Case, gateway::drivers, play::play};

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (cases, mut failures) = read_all(&filters);
    let drivers = drivers();
    let jobs: Vec<(&Case, &str)> = cases.iter().flat_map(|case| jobs(case, &drivers)).collect();
    let workers = std::env::var("RINGWAY_TEST_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(4);

    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((case, driver)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(report) = play(case, driver) {
                        println!("{report}");
                        reports.lock().expect("no holder panics").push(format!("{} ({driver})", case.name));
                    }
                }
            });
        }
    });
    let failed = reports.into_inner().expect("no holder panicked");
    let passed = jobs.len() - failed.len();
    failures.extend(failed);
    failures.sort();
    for name in &failures {
        println!("FAILED {name}");
    }
    println!("{} cases, drivers: {}", cases.len(), drivers.join(", "));
    println!("{passed} passed, {} failed", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The cases that the filters choose, and the names of files that are no cases.
fn read_all(filters: &[String]) -> (Vec<Case>, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let (mut cases, mut failures) = (Vec::new(), Vec::new());
    for path in paths {
        match Case::read(&path, &root) {
            Ok(read) => cases.extend(
                read.into_iter()
                    .filter(|case| filters.is_empty() || filters.iter().any(|filter| case.name.contains(filter))),
            ),
            Err(problem) => {
                println!("{}: {problem}", path.display());
                failures.push(path.display().to_string());
            }
        }
    }
    (cases, failures)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "case") {
            paths.push(path);
        }
    }
}

/// A case without a gateway has no driver to vary.
fn jobs<'a>(case: &'a Case, drivers: &'a [String]) -> Vec<(&'a Case, &'a str)> {
    let wanted = drivers.iter().filter(|driver| case.driver.as_ref().is_none_or(|only| only == *driver));
    let jobs = wanted.map(|driver| (case, driver.as_str()));
    if case.needs_gateway() { jobs.collect() } else { jobs.take(1).collect() }
}
