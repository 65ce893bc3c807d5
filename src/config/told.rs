//! Which problems are told, and in which order: none that another has said already, and of a flood the beginning.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use super::files::SourceFile;
use crate::document::problem::{Location, Problem, Severity};

/// Problems that say the same of different things; the last of them says how many more there are.
const ALIKE_MAX: usize = 100;

/// What is known to be wrong: places in files, by the paths in their resources.
pub struct Told<'p>(HashMap<&'p Arc<PathBuf>, HashSet<&'p str>>);

impl<'p> Told<'p> {
    pub fn of(problems: &'p [Problem]) -> Self {
        let mut told = HashMap::<_, HashSet<_>>::new();
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            told.entry(&problem.location.file).or_default().insert(&*problem.path);
        }
        Self(told)
    }

    /// Whether it is about something, or a part of something, that is known to be wrong.
    pub fn covers(&self, problem: &Problem) -> bool {
        let Some(told) = self.0.get(&problem.location.file) else { return false };
        let path = &*problem.path;
        let wholes = path.match_indices(['.', '[']).map(|(at, _)| &path[..at]);
        wholes.chain([path]).any(|whole| told.contains(whole))
    }
}

/// By file, line and column. A Selector's policy has the same problem at each target: it is told once.
pub fn sort(problems: &mut Vec<Problem>, files: &[SourceFile]) {
    let places: HashMap<_, _> = files.iter().enumerate().rev().map(|(at, file)| (&file.path, at)).collect();
    let place = |path: &Arc<PathBuf>| places.get(path).copied().unwrap_or(usize::MAX);
    problems.sort_by_cached_key(|problem| {
        let Location { file, line, column } = &problem.location;
        (place(file), file.clone(), *line, *column, problem.path.clone(), problem.text.clone())
    });
    problems.dedup();
    cut(problems);
}

/// Leaves so many of those that are alike.
fn cut(problems: &mut Vec<Problem>) {
    let mut alike = HashMap::<_, (usize, usize)>::new();
    let mut kept = 0;
    problems.retain(|problem| {
        let (count, last) = alike.entry((problem.severity, gist(&problem.text))).or_default();
        *count += 1;
        let stays = *count <= ALIKE_MAX;
        if stays {
            *last = kept;
            kept += 1;
        }
        stays
    });
    for (count, last) in alike.into_values().filter(|(count, _)| *count > ALIKE_MAX) {
        problems[last].text += &format!("; the same goes for {} more", count - ALIKE_MAX);
    }
}

/// A text without what it names, and without what follows on that.
fn gist(text: &str) -> String {
    let named = text.split(';').next().unwrap_or_default();
    named.split('`').step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(severity: Severity, line: u32, path: &str, text: &str) -> Problem {
        let location = Location { file: Arc::new("a.yaml".into()), line, column: 1 };
        Problem { severity, location, path: path.into(), text: text.into() }
    }

    #[test]
    fn what_is_within_something_wrong_is_told() {
        let errors = ["a.spec", "b.spec.rules[1]", "c"].map(|path| problem(Severity::Error, 1, path, "x"));
        let warning = problem(Severity::Warning, 1, "d.spec", "x");
        let problems = [&errors[..], &[warning]].concat();
        let told = Told::of(&problems);
        for (path, expected) in [
            ("a.spec", true),
            ("a.spec.address", true),
            ("a.spec[0]", true),
            ("a.specs", false),
            ("a", false),
            ("b.spec.rules[1].path", true),
            ("b.spec.rules[10]", false),
            ("b.spec.rules", false),
            ("c.metadata.name", true),
            ("d.spec.x", false),
        ] {
            assert_eq!(told.covers(&problem(Severity::Error, 9, path, "y")), expected, "{path}");
        }
        let mut elsewhere = problem(Severity::Error, 9, "a.spec", "y");
        elsewhere.location.file = Arc::new("b.yaml".into());
        assert!(!told.covers(&elsewhere));
    }

    #[test]
    fn of_those_that_are_alike_a_hundred_are_told_and_how_many_more_there_are() {
        let second = |line| {
            let text = format!("a second Contract `default/c{line}`; the first is at a.yaml:{line}:1");
            problem(Severity::Error, line, "c", &text)
        };
        let mut problems: Vec<_> = (1..=1000).map(second).collect();
        problems.push(problem(Severity::Warning, 5, "c", "a second Contract `x`"));
        problems.extend((1..=ALIKE_MAX as u32).map(|line| problem(Severity::Error, line, "d", "wrong")));
        problems.push(problem(Severity::Policy, 2000, "e", "else"));
        sort(&mut problems, &[]);
        assert_eq!(problems.len(), ALIKE_MAX + 1 + ALIKE_MAX + 1);
        let said: Vec<_> = problems.iter().filter(|problem| problem.text.contains("the same goes for")).collect();
        let [last] = said[..] else { panic!("{said:?}") };
        assert_eq!(
            (last.location.line, &*last.text),
            (100, "a second Contract `default/c100`; the first is at a.yaml:100:1; the same goes for 900 more")
        );
    }
}
