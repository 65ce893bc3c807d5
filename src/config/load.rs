//! Files to resources, and resources to an outcome: the two calls that `run`, a reload, `check` and `dump` share.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    compile::{self, Context, Intern},
    discovery::Roots,
    dump,
    effective::{self, Sections},
    environment::Environment,
    expand::expand,
    forward_proxy, identity_management,
    model::Model,
    resources::{GatewayRingway, Resources},
    settings::Settings,
    shared_storage::{self, SharedStorage},
    snapshot::Snapshot,
    tls::tickets,
};
use crate::{
    calls::Ways,
    document::{
        hash::Stable,
        node::{BYTES_MAX, documents},
        problem::{Location, Problem, Severity},
    },
    policies::{clients::Contracts, introspection::AuthorizationServer},
    telemetry::series::SeriesId,
    tls::TicketKeys,
};

/// Knows where the configuration is, and reads it as often as asked.
#[derive(Clone, Debug)]
pub struct Loader {
    given: Vec<PathBuf>,
    environment: Environment,
    /// Tickets outlive the snapshot under which they were made.
    tickets: Arc<TicketKeys>,
    /// Of the last reading: what has not changed since is not made again.
    contracts: Arc<Mutex<Contracts>>,
}

/// One reading of all files, good and bad.
#[derive(Debug)]
pub struct Loaded {
    pub resources: Resources,
    pub sections: Sections,
    /// The environment included.
    pub settings: Settings,
    pub files: Vec<SourceFile>,
    /// What is wrong with the files one by one.
    pub problems: Vec<Problem>,
    contracts: Contracts,
    environment: Environment,
    tickets: Arc<TicketKeys>,
}

/// A file as it was read, so that a problem can show its line.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: Arc<PathBuf>,
    pub text: Arc<str>,
}

/// What is read of sections beside the settings.
struct Beside {
    tickets: Option<Arc<TicketKeys>>,
    ways: Arc<Ways>,
    authorization_server: Option<AuthorizationServer>,
    storage: SharedStorage,
}

/// What came out of the files: a snapshot of everything good, and everything that is not.
#[derive(Debug)]
pub struct Outcome {
    snapshot: Snapshot,
    problems: Vec<Problem>,
}

impl Loader {
    /// `given`: files and directories from the command line; without any, [`Roots::choose`] says where to look.
    pub fn new(given: Vec<PathBuf>, environment: Environment) -> Self {
        Self { given, environment, tickets: TicketKeys::random(), contracts: Arc::default() }
    }

    /// What to watch. A directory that is made later counts, so it is asked again on each load.
    pub fn roots(&self) -> Roots {
        Roots::choose(&self.given, &self.environment)
    }

    /// How long files must have been left alone before a reload, where the environment says so. What is wrong there is a
    /// problem of each load.
    pub fn debounce(&self) -> Option<Duration> {
        effective::debounce(&self.environment).and_then(Result::ok)
    }

    pub fn load(&self) -> Loaded {
        let mut problems = Vec::new();
        let files = self.roots().files(&mut problems);
        let files = files.iter().filter_map(|path| read(path, &mut problems)).collect();
        let mut known = self.contracts.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = Loaded::from_files(files, self.environment.clone(), self.tickets.clone(), &known, problems);
        known.clone_from(&loaded.contracts);
        loaded
    }
}

impl Loaded {
    fn from_files(
        files: Vec<SourceFile>,
        environment: Environment,
        tickets: Arc<TicketKeys>,
        known: &Contracts,
        mut problems: Vec<Problem>,
    ) -> Self {
        let mut resources = Resources::default();
        for file in &files {
            for document in documents(&file.path, &file.text, &mut problems) {
                resources.add(&document, &mut problems);
            }
        }
        let sections = Sections::merge(&resources.configurations, &mut problems);
        let settings = effective::settings(&sections, &environment, &mut problems);
        let contracts = Contracts::of(&resources.contracts, known);
        Self { resources, sections, settings, files, problems, contracts, environment, tickets }
    }

    /// Texts as if they were files, for tests and tools.
    pub fn from_texts(texts: &[(&str, &str)], environment: Environment) -> Self {
        let file = |(path, text): &(&str, &str)| SourceFile { path: Arc::new(path.into()), text: (*text).into() };
        let (files, known) = (texts.iter().map(file).collect(), Contracts::default());
        Self::from_files(files, environment, TicketKeys::random(), &known, Vec::new())
    }

    /// The expanded form, with the problems of references and targets.
    pub fn expand(&self, problems: &mut Vec<Problem>) -> Model {
        expand(&self.resources, &self.environment, problems)
    }

    /// Builds what can be built. `intern` numbers the metric series.
    pub fn compile(&self, generation: u64, intern: Intern<'_>) -> Outcome {
        let mut problems = self.problems.clone();
        let model = self.expand(&mut problems);
        let hash = self.hash(&model);
        let mut files = Vec::new();
        let beside = self.beside(&mut files, &mut problems);
        let context = self.context(&beside, &files);
        let mut snapshot = compile::compile(&model, &context, generation, hash, intern, &mut problems);
        problems.extend(self.peers_without_a_port(&snapshot));
        if let Some(everything) = self.resources.with_drafts() {
            problems = self.problems_of(&everything);
        }
        sort(&mut problems, &self.files);
        snapshot.problems.clone_from(&problems);
        Outcome { snapshot, problems }
    }

    /// Those that may send a PROXY header are named, and no port expects one.
    fn peers_without_a_port(&self, snapshot: &Snapshot) -> Option<Problem> {
        let (GatewayRingway { proxy_protocol, .. }, path) = self.sections.section("ringway");
        let first = proxy_protocol.from?.into_iter().next()?;
        let expected = snapshot.listeners.iter().any(|listener| listener.proxy_protocol);
        (!expected && !snapshot.listeners.is_empty()).then(|| Problem {
            severity: Severity::Warning,
            location: first.location,
            path: format!("{path}.proxyProtocol.from"),
            text: "no effect: no port expects the PROXY protocol".into(),
        })
    }

    /// What a resource with an error has wrong besides, as if the error were not there.
    fn problems_of(&self, everything: &Resources) -> Vec<Problem> {
        let mut found = Vec::new();
        let model = expand(everything, &self.environment, &mut found);
        let mut files = Vec::new();
        let beside = self.beside(&mut files, &mut found);
        let context = self.context(&beside, &files);
        compile::compile(&model, &context, 0, String::new(), &mut |_| SeriesId::default(), &mut found);
        found.retain(|problem| !problem.location.is_nowhere() && !self.is_told(problem));
        found.extend(self.problems.iter().cloned());
        found
    }

    /// Whether it is about something, or a part of something, that is known to be wrong.
    fn is_told(&self, problem: &Problem) -> bool {
        self.problems.iter().any(|told| {
            let below = problem.path.strip_prefix(&told.path);
            told.severity == Severity::Error
                && told.location.file == problem.location.file
                && below.is_some_and(|below| below.is_empty() || below.starts_with(['.', '[']))
        })
    }

    /// Sections that are read with their files and Secrets.
    fn beside(&self, files: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) -> Beside {
        let (sections, secrets) = (&self.sections, &self.resources.secrets);
        let ways = forward_proxy::ways(sections, &self.settings, &self.resources, files, problems);
        Beside {
            tickets: tickets::keys(sections, &self.tickets, files, problems),
            authorization_server: identity_management::read(sections, &ways, problems),
            ways,
            storage: shared_storage::read(sections, self.settings.name.is_given, secrets, files, problems),
        }
    }

    fn context<'c>(&'c self, beside: &'c Beside, files: &'c [PathBuf]) -> Context<'c> {
        Context {
            environment: &self.environment,
            settings: &self.settings,
            extensions: &self.resources.extensions,
            secrets: &self.resources.secrets,
            contracts: &self.contracts,
            tickets: beside.tickets.as_ref(),
            ways: &beside.ways,
            authorization_server: beside.authorization_server.as_ref(),
            storage: &beside.storage,
            files,
        }
    }

    /// Of everything that is configured and nothing of where it was written.
    fn hash(&self, model: &Model) -> String {
        let resources = dump::unredacted(self, model).to_string();
        let hash = Stable::new().text(&resources).text(&format!("{:?}", self.settings)).finish();
        format!("{hash:016x}")
    }
}

impl Outcome {
    /// By file, line and column.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The rule of start and reload alike: an error refuses the whole set, unless the good documents may serve alone. A policy
    /// that cannot be built is no error here: it refuses its requests.
    pub fn accept(self, allow_partial: bool) -> Result<Snapshot, Vec<Problem>> {
        let refused = self.problems.iter().any(|problem| problem.severity == Severity::Error);
        if refused && !allow_partial { Err(self.problems) } else { Ok(self.snapshot) }
    }
}

/// A Selector's policy has the same problem at each target: it is told once.
fn sort(problems: &mut Vec<Problem>, files: &[SourceFile]) {
    let places: HashMap<_, _> = files.iter().enumerate().rev().map(|(at, file)| (&file.path, at)).collect();
    let place = |path: &Arc<PathBuf>| places.get(path).copied().unwrap_or(usize::MAX);
    problems.sort_by_cached_key(|problem| {
        let Location { file, line, column } = &problem.location;
        (place(file), file.clone(), *line, *column, problem.path.clone(), problem.text.clone())
    });
    problems.dedup();
}

/// The text of a file, up to the limit that the parser then reports.
fn read(path: &Path, problems: &mut Vec<Problem>) -> Option<SourceFile> {
    let file = Arc::new(path.to_owned());
    let text = File::open(path).and_then(|opened| {
        let mut bytes = Vec::new();
        opened.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > BYTES_MAX {
            return Err(io::Error::other(format!("more than {BYTES_MAX} bytes")));
        }
        String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
            io::Error::other(format!("not UTF-8 on line {line}"))
        })
    });
    match text {
        Ok(text) => Some(SourceFile { path: file, text: text.into() }),
        Err(error) => {
            let location = Location { file, line: 0, column: 0 };
            let text = format!("cannot be read: {error}");
            problems.push(Problem { severity: Severity::Error, location, path: "file".into(), text });
            None
        }
    }
}
