//! The binary as a test calls it.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

/// A run that measures everything it sends, with its result.
pub fn run(arguments: &[&str]) -> (Output, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("result.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"))
        .arg("run")
        .args(["--warmup", "0", "--json"])
        .arg(&json)
        .args(if arguments.contains(&"--lag-limit") { &[] as &[&str] } else { &["--lag-limit", "10000000"] })
        .args(arguments)
        .output()
        .expect("the binary runs");
    let result = fs::read_to_string(&json).ok().and_then(|text| serde_json::from_str(&text).ok());
    (output, result.unwrap_or(Value::Null))
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
