//! Which files are read, and in which order.
//!
//! In a directory: `*.yaml` and `*.yml`, with sub-directories, by name. A Kubernetes ConfigMap is a directory of links through
//! `..data` to a hidden directory; the links are read and the hidden names are not, so each file is read once.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::environment::Environment;
use crate::document::problem::{Location, Problem, Severity};

/// Where an operator's package puts its files.
pub const OWN_DIRECTORY: &str = "/etc/ringway/conf.d";
/// Where the product whose files we run has them.
pub const FLEX_DIRECTORIES: [&str; 2] =
    ["/usr/local/share/mulesoft/flex-gateway/conf.d", "/etc/mulesoft/flex-gateway/conf.d"];

/// Sub-directories within one another.
const DEPTH_MAX: usize = 16;
/// Files of one configuration.
const FILES_MAX: usize = 10_000;

/// The files and directories to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    pub paths: Vec<PathBuf>,
    /// Someone named them: one that is absent is an error.
    pub named: bool,
}

impl Roots {
    /// `given` (from the command line) before `RINGWAY_CONFIG`, `FLEX_CONFIG_DIR`, and the directories of packages.
    pub fn choose(given: &[PathBuf], environment: &Environment) -> Self {
        if !given.is_empty() {
            return Self { paths: given.to_vec(), named: true };
        }
        for name in ["RINGWAY_CONFIG", "FLEX_CONFIG_DIR"] {
            if let Some(value) = environment.filled(name) {
                let paths = value.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
                return Self { paths, named: true };
            }
        }
        let own = PathBuf::from(OWN_DIRECTORY);
        let paths = if own.is_dir() { vec![own] } else { FLEX_DIRECTORIES.map(PathBuf::from).to_vec() };
        Self { paths, named: false }
    }

    /// The files below, in the order in which they count.
    pub fn files(&self, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
        let mut walk = Walk { seen: HashSet::new(), files: Vec::new(), problems };
        for root in &self.paths {
            match fs::metadata(root) {
                Ok(metadata) if metadata.is_dir() => walk.directory(root, 0),
                Ok(_) => walk.file(root),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.named => {}
                Err(error) => walk.problem(root, &error),
            }
        }
        walk.files
    }
}

struct Walk<'p> {
    /// Real paths: neither a loop of links nor two names for one file read it twice.
    seen: HashSet<PathBuf>,
    files: Vec<PathBuf>,
    problems: &'p mut Vec<Problem>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &Path, depth: usize) {
        if depth > DEPTH_MAX || !self.fresh(path) {
            return;
        }
        let mut names: Vec<PathBuf> = match fs::read_dir(path) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(error) => return self.problem(path, &error),
        };
        names.retain(|name| !is_hidden(name));
        names.sort();
        for name in names {
            match fs::metadata(&name) {
                Ok(metadata) if metadata.is_dir() => self.directory(&name, depth + 1),
                Ok(metadata) if metadata.is_file() && is_yaml(&name) => self.file(&name),
                Ok(_) => {}
                // A link that points nowhere, or a file gone since: only of interest if it would have been read.
                Err(error) if is_yaml(&name) => self.problem(&name, &error),
                Err(_) => {}
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if self.files.len() >= FILES_MAX {
            return;
        }
        if self.fresh(path) {
            self.files.push(path.to_owned());
            if self.files.len() == FILES_MAX {
                self.problem(path, &io::Error::other(format!("more than {FILES_MAX} files, the rest are not read")));
            }
        }
    }

    fn fresh(&mut self, path: &Path) -> bool {
        self.seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }

    fn problem(&mut self, path: &Path, error: &io::Error) {
        let location = Location { file: Arc::new(path.to_owned()), line: 0, column: 0 };
        let text = format!("cannot be read: {error}");
        self.problems.push(Problem { severity: Severity::Error, location, path: "file".into(), text });
    }
}

/// Dotfiles, what Kubernetes swaps (`..data`), and the copies that editors leave.
pub fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.starts_with('#') || name.ends_with('~')
}

pub fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory of this test alone.
    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ringway-discovery-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        path
    }

    fn names(root: &Path, given: &[PathBuf]) -> (Vec<String>, usize) {
        let mut problems = Vec::new();
        let files = Roots { paths: given.to_vec(), named: true }.files(&mut problems);
        let relative = |path: &PathBuf| path.strip_prefix(root).expect("below the root").display().to_string();
        (files.iter().map(relative).collect(), problems.len())
    }

    #[test]
    fn a_directory_is_read_by_name_without_hidden_files_and_backups() {
        let root = directory("names");
        fs::create_dir_all(root.join("b")).unwrap();
        for name in ["c.yml", "a.yaml", "b/z.YAML", ".hidden.yaml", "a.yaml~", "#a.yaml#", "notes.txt", ".a.yaml.swp"] {
            fs::write(root.join(name), "").unwrap();
        }
        assert_eq!(
            names(&root, std::slice::from_ref(&root)),
            (vec!["a.yaml".into(), "b/z.YAML".into(), "c.yml".into()], 0)
        );
        assert_eq!(names(&root, &[root.join("notes.txt"), root.join(".hidden.yaml")]).0, ["notes.txt", ".hidden.yaml"]);
        assert_eq!(names(&root, &[root.join("absent.yaml")]), (vec![], 1));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_config_map_is_read_once_through_its_links() {
        let root = directory("configmap");
        fs::create_dir_all(root.join("..2024")).unwrap();
        fs::write(root.join("..2024/api.yaml"), "").unwrap();
        symlink("..2024", root.join("..data")).unwrap();
        symlink("..data/api.yaml", root.join("api.yaml")).unwrap();
        symlink(".", root.join("loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        assert_eq!(names(&root, std::slice::from_ref(&root)), (vec!["api.yaml".into()], 0));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_names_the_files_goes_from_the_command_line_to_the_packages() {
        let environment = Environment::from([("RINGWAY_CONFIG", "/r"), ("FLEX_CONFIG_DIR", "/a:/b")]);
        assert_eq!(Roots::choose(&["/g".into()], &environment).paths, [PathBuf::from("/g")]);
        assert_eq!(Roots::choose(&[], &environment).paths, [PathBuf::from("/r")]);
        let flex = Environment::from([("RINGWAY_CONFIG", ""), ("FLEX_CONFIG_DIR", "/a:/b")]);
        assert_eq!(Roots::choose(&[], &flex).paths, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }
}
