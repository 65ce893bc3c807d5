//! `policies.yaml` in a peer's folder: what each workload adds to its configuration, or why it is left out.
//!
//! Texts stand for places of the template, as those of `peer.yaml` do, and for files beside the configuration. Other
//! places in them are filled in as anywhere, and those of [`Material`] too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::material::Material;
use crate::hash::Hash;

const FILE: &str = "policies.yaml";

/// Of a folder without the file: nothing is on, and every workload is left out.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sheet {
    /// The places' texts where no policy is on.
    #[serde(default)]
    without: BTreeMap<String, String>,
    /// Prints, as JSON, which policies the program has; `needs` are looked for in it.
    #[serde(default)]
    known: Vec<String>,
    /// Why none of them is measured with this peer.
    left_out: Option<String>,
    #[serde(default)]
    workloads: BTreeMap<String, Entry>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Entry {
    /// A sentence, in place of all others.
    left_out: Option<String>,
    /// A policy that the program must have.
    needs: Option<String>,
    places: BTreeMap<String, String>,
    /// By name, in the peer's folder for this run.
    files: BTreeMap<String, String>,
}

/// A policy that is to be on.
#[derive(Clone, Copy)]
pub struct Policed<'a> {
    pub name: &'a str,
    pub material: &'a Material,
}

/// What a configuration gets.
#[derive(Default)]
pub struct Texts {
    pub places: BTreeMap<String, String>,
    pub files: BTreeMap<String, String>,
}

impl Sheet {
    /// # Errors
    /// The folder's file cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_saphyr::from_str(&text).with_context(|| format!("{} cannot be read", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// With every text that may come into a configuration.
    pub fn hashed(&self, hash: Hash) -> Hash {
        let entries = self.workloads.values().flat_map(|entry| entry.places.iter().chain(&entry.files));
        let texts = self.without.iter().chain(entries);
        texts.fold(hash, |hash, (name, text)| hash.part(name.as_bytes()).part(text.as_bytes()))
    }

    /// For a start with this policy, or with none.
    ///
    /// # Errors
    /// The workload is not on the sheet.
    pub fn texts(&self, policed: Option<Policed<'_>>) -> Result<Texts> {
        let mut texts = Texts { places: self.without.clone(), files: BTreeMap::new() };
        if let Some(Policed { name, material }) = policed {
            let entry = self.workloads.get(name).with_context(|| format!("{FILE} says nothing of {name}"))?;
            let fill = |(name, text): (&String, &String)| (name.clone(), material.fill(text));
            texts.places.extend(entry.places.iter().map(fill));
            texts.files.extend(entry.files.iter().map(fill));
        }
        Ok(texts)
    }

    /// Why workloads are not measured with this peer, by their names. `complete` fills a command's places in, the program's
    /// own among them.
    pub fn left_out(&self, names: &[&str], complete: impl Fn(&[String]) -> Vec<String>) -> BTreeMap<String, String> {
        let has = if self.known.is_empty() { Ok(BTreeSet::new()) } else { ask(&complete(&self.known)) };
        let reason = |name: &&str| Some(((*name).to_owned(), self.reason(name, &has)?));
        names.iter().filter_map(reason).collect()
    }

    fn reason(&self, name: &str, has: &Result<BTreeSet<String>>) -> Option<String> {
        let Some(entry) = self.workloads.get(name) else {
            let usual = || "its folder does not say how".to_owned();
            return Some(self.left_out.clone().unwrap_or_else(usual));
        };
        if entry.left_out.is_some() {
            return entry.left_out.clone();
        }
        let needed = entry.needs.as_ref()?;
        match has {
            Ok(has) if has.contains(needed) => None,
            Ok(_) => Some(format!("this version does not implement {needed}")),
            Err(error) => Some(format!("it does not say which policies it has: {error:#}")),
        }
    }

    #[cfg(test)]
    pub fn names(&self) -> Vec<&str> {
        self.workloads.keys().map(String::as_str).collect()
    }

    /// With a text for no policy, and with texts for some.
    #[cfg(test)]
    pub fn places(&self) -> impl Iterator<Item = &str> {
        let of_policies = self.workloads.values().flat_map(|entry| entry.places.keys());
        self.without.keys().chain(of_policies).map(String::as_str)
    }

    /// A peer that does none of it, and says so.
    #[cfg(test)]
    pub fn is_left_out(&self) -> bool {
        self.left_out.is_some()
    }
}

/// Which policies a program says it has.
fn ask(command: &[String]) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Policy {
        name: String,
        implemented: bool,
    }
    let (program, arguments) = command.split_first().context("no command")?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    let all: Vec<Policy> = serde_json::from_slice(&output.stdout).context("no list of policies")?;
    Ok(all.into_iter().filter(|policy| policy.implemented).map(|policy| policy.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHEET: &str = r#"
without: {"@POLICIES@": "", "@FIRST@": "none"}
known: [printf, '[{"name": "a", "implemented": true}, {"name": "b", "implemented": false, "more": 1}]']
leftOut: nobody asked
workloads:
  on: {needs: a, places: {"@POLICIES@": "x-@NUMBER@ @PORT@\n"}, files: {list: "@ADDRESS@\n"}}
  coming: {needs: b}
  unsound: {leftOut: it would be other work}
"#;

    #[test]
    fn a_policys_texts_replace_those_without() {
        let sheet: Sheet = serde_saphyr::from_str(SHEET).expect("a sheet");
        let without = sheet.texts(None).expect("no workload is needed");
        assert!(without.files.is_empty() && without.places["@POLICIES@"].is_empty());
        let material = Material::make(0).expect("keys");
        let with = sheet.texts(Some(Policed { name: "on", material: &material })).expect("on the sheet");
        assert!(with.places["@POLICIES@"].starts_with("x-1 @PORT@\nx-2 @PORT@\n"));
        assert_eq!(with.places["@FIRST@"], "none");
        assert!(with.files["list"].ends_with("\n127.0.0.1\n"));
        assert!(sheet.texts(Some(Policed { name: "off", material: &material })).is_err());
    }

    #[test]
    fn what_is_not_measured_has_a_reason() {
        let sheet: Sheet = serde_saphyr::from_str(SHEET).expect("a sheet");
        let left_out = sheet.left_out(&["on", "coming", "unsound", "other"], <[String]>::to_vec);
        let reason = |name: &str| left_out.get(name).map(String::as_str);
        assert_eq!(reason("on"), None);
        assert_eq!(reason("coming"), Some("this version does not implement b"));
        assert_eq!(reason("unsound"), Some("it would be other work"));
        assert_eq!(reason("other"), Some("nobody asked"));
        let silent = sheet.left_out(&["on"], |_| vec!["/bin/true".to_owned()]);
        assert_eq!(
            silent["on"],
            "it does not say which policies it has: no list of policies: EOF while parsing a value at line 1 column 0"
        );
        assert_eq!(Sheet::default().left_out(&["on"], <[String]>::to_vec)["on"], "its folder does not say how");
    }
}
