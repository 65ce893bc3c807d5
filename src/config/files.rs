//! Files as they were read, and what of that serves the next reading.
//!
//! A control plane writes the clients of an API in hundreds of files, and changes one of them. So what a file says is kept with a
//! hash of its bytes, and read again where they are others. Neither its time nor its size decides: both can stay as they were.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::resources::{Resources, Written};
use crate::document::{
    node::{BYTES_MAX, documents},
    problem::{Location, Problem, Severity},
};

/// A file that was read, so that a problem can show its line.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: Arc<PathBuf>,
    /// `None`: it is as it was at the last reading, and so is what was said of it.
    pub text: Option<Arc<str>>,
}

/// What a file says, and what is wrong with it by itself.
#[derive(Debug)]
pub struct Contents {
    pub written: Box<[Written]>,
    pub problems: Box<[Problem]>,
}

/// All files of one reading, in their order.
#[derive(Debug, Default)]
pub struct Files {
    pub sources: Vec<SourceFile>,
    pub contents: Vec<Arc<Contents>>,
}

/// What the files of the last reading say, by their paths; never their texts.
#[derive(Debug, Default)]
pub struct KnownFiles(HashMap<Arc<PathBuf>, (Hash, Arc<Contents>)>);

type Hash = [u8; SHA256_OUTPUT_LEN];

impl Contents {
    fn of(path: &Arc<PathBuf>, text: &str) -> Self {
        let mut problems = Vec::new();
        let documents = documents(path, text, &mut problems);
        let written = documents.iter().map(|document| Written::read(document, &mut problems)).collect();
        Self { written, problems: problems.into() }
    }
}

impl Files {
    /// Of texts that are in no file.
    pub fn of(texts: &[(&str, &str)]) -> Self {
        let mut files = Self::default();
        for (path, text) in texts {
            let path = Arc::new(PathBuf::from(path));
            files.contents.push(Arc::new(Contents::of(&path, text)));
            files.sources.push(SourceFile { path, text: Some((*text).into()) });
        }
        files
    }

    /// What they say together.
    pub fn resources(&self, problems: &mut Vec<Problem>) -> Resources {
        let mut resources = Resources::default();
        for contents in &self.contents {
            problems.extend_from_slice(&contents.problems);
            contents.written.iter().for_each(|written| resources.take(written, problems));
        }
        resources.finish();
        resources
    }
}

/// Reads these files, and remembers them in the place of those that were read before.
pub fn read(paths: &[PathBuf], known: &mut KnownFiles, problems: &mut Vec<Problem>) -> Files {
    let (mut files, mut read) = (Files::default(), HashMap::with_capacity(paths.len()));
    for path in paths {
        let bytes = match bytes(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                problems.push(unreadable(path, &error));
                continue;
            }
        };
        let hash = digest(&SHA256, &bytes).as_ref().try_into().expect("SHA-256 has one length");
        let (path, contents, text) = match known.0.remove_entry(path) {
            Some((path, (known, contents))) if known == hash => (path, contents, None),
            _ => match text(bytes) {
                Ok(text) => {
                    let path = Arc::new(path.clone());
                    let contents = Arc::new(Contents::of(&path, &text));
                    (path, contents, Some(Arc::from(text)))
                }
                Err(error) => {
                    problems.push(unreadable(path, &error));
                    continue;
                }
            },
        };
        read.insert(path.clone(), (hash, contents.clone()));
        files.sources.push(SourceFile { path, text });
        files.contents.push(contents);
    }
    known.0 = read;
    files
}

/// Of a file, up to the limit that the parser then reports.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > BYTES_MAX {
        true => Err(io::Error::other(format!("more than {BYTES_MAX} bytes"))),
        false => Ok(bytes),
    }
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        io::Error::other(format!("not UTF-8 on line {line}"))
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let location = Location { file: Arc::new(path.to_owned()), line: 0, column: 0 };
    let text = format!("cannot be read: {error}");
    Problem { severity: Severity::Error, location, path: "file".into(), text }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONTRACT: &str = "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: Contract\nmetadata: {name: NAME}\n\
                            spec: {apiId: a, client: {id: NAME}}\n";

    fn contract(name: &str) -> String {
        CONTRACT.replace("NAME", name)
    }

    #[test]
    fn a_file_is_read_again_where_its_bytes_are_others_whatever_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.yaml", "b.yaml"].map(|name| folder.path().join(name));
        let write = |at: usize, text: &str| fs::write(&paths[at], text).expect("written");
        write(0, &contract("one"));
        write(1, &contract("two"));
        let mut known = KnownFiles::default();
        let mut read = |paths: &[PathBuf]| {
            let mut problems = Vec::new();
            let files = super::read(paths, &mut known, &mut problems);
            let read: Vec<bool> = files.sources.iter().map(|file| file.text.is_some()).collect();
            (files.contents, read, problems.len(), known.0.len())
        };
        let (first, is_read, ..) = read(&paths);
        assert_eq!(is_read, [true, true]);
        let (second, is_read, ..) = read(&paths);
        assert_eq!(is_read, [false, false]);
        assert!(first.iter().zip(&second).all(|(first, second)| Arc::ptr_eq(first, second)));
        // As many bytes, and the same time.
        let time = fs::metadata(&paths[1]).and_then(|metadata| metadata.modified()).expect("a time");
        write(1, &contract("owt"));
        File::options().write(true).open(&paths[1]).and_then(|file| file.set_modified(time)).expect("set");
        let (third, is_read, ..) = read(&paths);
        assert_eq!(is_read, [false, true]);
        assert!(Arc::ptr_eq(&third[0], &first[0]) && !Arc::ptr_eq(&third[1], &first[1]));
        // One that has gone is forgotten, and so is one that cannot be read.
        assert_eq!(read(&paths[1..]).1, [false]);
        fs::write(&paths[1], b"a: \xff").expect("written");
        let (contents, _, problems, known) = read(&paths);
        assert_eq!((contents.len(), problems, known), (1, 1, 1));
        write(1, &contract("owt"));
        let (_, is_read, problems, known) = read(&paths);
        assert_eq!((is_read, problems, known), (vec![false, true], 0, 2));
    }

    #[test]
    fn what_was_wrong_is_told_again_and_the_text_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yaml");
        fs::write(&path, contract("one") + "---\n{").expect("written");
        let mut known = KnownFiles::default();
        let paths = [path];
        let mut read = || super::read(&paths, &mut known, &mut Vec::new()).contents.remove(0);
        let (first, second) = (read(), read());
        assert_eq!((first.written.len(), first.problems.len()), (1, 1));
        assert!(Arc::ptr_eq(&first, &second));
    }
}
