//! `ringway completions SHELL`: for example `ringway completions bash > /etc/bash_completion.d/ringway`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

#[derive(Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> ExitCode {
    // Into memory first: the generator panics where its reader has gone.
    let mut script = Vec::new();
    generate(args.shell, &mut super::Ringway::command(), "ringway", &mut script);
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
