//! Clients: each has a name, and keeps its connection from one block of the case to the next.

use std::{net::TcpStream, time::Duration};

use super::{
    script::{Action, Command},
    session::{Session, expand_text},
};

/// Plays a block. A client without a connection connects to `{port}` first.
pub fn play(session: &mut Session, script: &[Command]) -> Result<(), String> {
    for command in script {
        step(session, command).map_err(|problem| match problem.starts_with("line ") {
            true => problem,
            false => format!("line {}: {problem}", command.line),
        })?;
    }
    Ok(())
}

fn step(session: &mut Session, command: &Command) -> Result<(), String> {
    match &command.action {
        Action::Connect(port) => connect(session, port.as_deref().unwrap_or("{port}")),
        Action::Tls(options, agreed) => {
            if session.stream.is_none() {
                connect(session, "{port}")?;
            }
            session.secure(options, agreed, true)
        }
        Action::Repeat(times, script) => (0..*times).try_for_each(|_| play(session, script)),
        Action::Mark(_) | Action::Wait(_) | Action::Within(_) | Action::Header(..) => session.play(command),
        _ => {
            let needs_connection = matches!(
                command.action,
                Action::H2(_)
                    | Action::Send(_)
                    | Action::SendPieces(..)
                    | Action::Drip(..)
                    | Action::Fill(_)
                    | Action::Quiet(_)
            );
            if session.stream.is_none() && needs_connection {
                connect(session, "{port}")?;
            }
            session.play(command)
        }
    }
}

fn connect(session: &mut Session, port: &str) -> Result<(), String> {
    let address = format!("127.0.0.1:{}", expand_text(session.names(), port));
    let address = address.parse().map_err(|_| format!("{address} is not an address"))?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .map_err(|error| format!("connecting to {address}: {error}"))?;
    session.note(format!("connected to {address}"));
    session.attach(stream);
    Ok(())
}
