//! Files to resources, and resources to an outcome: the two calls that `run`, a reload, `check` and `dump` share.

use std::{
    path::PathBuf,
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
    files::{self, Files, KnownFiles, SourceFile},
    forward_proxy, identity_management,
    model::Model,
    resources::{GatewayRingway, Resources},
    settings::Settings,
    shared_storage::{self, SharedStorage},
    snapshot::Snapshot,
    tls::tickets,
    told::{self, Told},
};
use crate::{
    calls::Ways,
    document::{
        hash::Stable,
        problem::{Problem, Severity},
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
    /// Of the last reading: what has not changed since is neither read nor made again.
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    files: KnownFiles,
    contracts: Contracts,
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
        Self { given, environment, tickets: TicketKeys::random(), known: Arc::default() }
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
        let paths = self.roots().files(&mut problems);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let files = files::read(&paths, &mut known.files, &mut problems);
        let loaded = Loaded::of(files, self.environment.clone(), self.tickets.clone(), &known.contracts, problems);
        known.contracts.clone_from(&loaded.contracts);
        loaded
    }
}

impl Loaded {
    fn of(
        files: Files,
        environment: Environment,
        tickets: Arc<TicketKeys>,
        known: &Contracts,
        mut problems: Vec<Problem>,
    ) -> Self {
        let resources = files.resources(&mut problems);
        let sections = Sections::merge(&resources.configurations, &mut problems);
        let settings = effective::settings(&sections, &environment, &mut problems);
        let contracts = Contracts::of(&resources.contracts, known);
        Self { resources, sections, settings, files: files.sources, problems, contracts, environment, tickets }
    }

    /// Texts as if they were files, for tests and tools.
    pub fn from_texts(texts: &[(&str, &str)], environment: Environment) -> Self {
        Self::of(Files::of(texts), environment, TicketKeys::random(), &Contracts::default(), Vec::new())
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
        told::sort(&mut problems, &self.files);
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
        let told = Told::of(&self.problems);
        found.retain(|problem| !problem.location.is_nowhere() && !told.covers(problem));
        found.extend(self.problems.iter().cloned());
        found
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
        let hash = Stable::new().text(&resources).text(&format!("{:?}", self.settings));
        let contracts = self.contracts.identities();
        let hash = contracts.iter().fold(hash, |hash, (api, set)| hash.text(&api.to_string()).number(*set)).finish();
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
