//! `ringway schema`: JSON Schema of configuration files, for editors.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use crate::config::schema::schema;

#[derive(Args)]
pub struct SchemaArgs {}

pub fn run(_: &SchemaArgs) -> ExitCode {
    let text = serde_json::to_string_pretty(&schema()).expect("names and texts are JSON") + "\n";
    // A reader that has gone has seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
