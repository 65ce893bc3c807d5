//! One connection to a directory: one question at a time, and what is answered within its bounds.
//!
//! An answer to another question than the last is a fault, and whoever sees a fault drops the connection: nobody is told what was
//! meant for somebody else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    calls::LogIn,
    ldap::{Frame, Malformed, Request, Response, ResultCode, decode, frame},
    management::{calls::dial::Stream, health::lost, within::within},
    telemetry::fault::Fault,
};

/// Of one message: there is nothing in it but the name of an entry.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Of one answer. All but a few are references to others, or notices.
const MESSAGES_MAX: usize = 1000;
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// A farewell is no more than polite.
const UNBIND_MAX: Duration = Duration::from_secs(1);

pub struct Connection<S> {
    stream: S,
    /// What has come and was not looked at.
    input: Vec<u8>,
    last_id: u32,
}

/// What a search has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Nobody,
    /// By its name, which is not empty.
    One(Vec<u8>),
    Several,
}

impl<S: Stream> Connection<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, input: Vec::new(), last_id: 0 }
    }

    /// How the directory has taken it.
    pub async fn bind(&mut self, name: &[u8], password: &[u8]) -> Result<ResultCode, Fault> {
        let id = self.send(&Request::Bind { name, password }).await?;
        let mut answer = Answer::default();
        loop {
            if let Some(code) = self
                .receive(id, &mut answer, |response| match response {
                    Response::Bind(code) => Ok(Some(code)),
                    _ => Err(Malformed),
                })
                .await?
            {
                return Ok(code);
            }
        }
    }

    /// The entry of the user, as far as this directory knows itself, and how the search ended.
    pub async fn search(&mut self, log_in: &LogIn) -> Result<(Found, ResultCode), Fault> {
        let directory = &log_in.directory;
        let request = Request::Search {
            base: &directory.base,
            in_subtree: directory.in_subtree,
            filter: &directory.filter,
            user: log_in.user.as_bytes(),
            seconds_max: u32::try_from(log_in.time_max.as_secs()).unwrap_or(u32::MAX >> 1).max(1),
        };
        let id = self.send(&request).await?;
        let (mut found, mut answer) = (Found::Nobody, Answer::default());
        loop {
            let done = self.receive(id, &mut answer, |response| match response {
                Response::Entry(name) => {
                    found = match found {
                        Found::Nobody => Found::One(name.to_vec()),
                        _ => Found::Several,
                    };
                    Ok(None)
                }
                // Others are not asked.
                Response::Reference => Ok(None),
                Response::SearchDone(code) => Ok(Some(code)),
                _ => Err(Malformed),
            });
            if let Some(code) = done.await? {
                // To bind with a password and no name is nobody's proof of anything (RFC 4513, section 5.1).
                if matches!(&found, Found::One(name) if name.is_empty()) {
                    found = Found::Nobody;
                }
                return Ok((found, code));
            }
        }
    }

    /// The stream that TLS may begin on now. Nothing but the question was sent on it.
    pub async fn start_tls(mut self) -> Result<S, Fault> {
        let id = self.send(&Request::StartTls).await?;
        let mut answer = Answer::default();
        let code = loop {
            if let Some(code) = self
                .receive(id, &mut answer, |response| match response {
                    Response::Extended(code) => Ok(Some(code)),
                    _ => Err(Malformed),
                })
                .await?
            {
                break code;
            }
        };
        match (code, self.has_more()) {
            (ResultCode::SUCCESS, false) => Ok(self.stream),
            // Whoever stands between might have written it, for us to take it as secured.
            (ResultCode::SUCCESS, true) => {
                Err(Fault::new("tls", "it speaks in the clear behind its answer to StartTLS"))
            }
            (code, _) => Err(Fault::new("tls", format!("StartTLS is refused: {code}"))),
        }
    }

    /// Something has come that nobody asked for.
    pub fn has_more(&self) -> bool {
        !self.input.is_empty()
    }

    pub async fn unbind(mut self) {
        let _: Option<Result<_, Fault>> = within(UNBIND_MAX, self.send(&Request::Unbind)).await;
    }

    async fn send(&mut self, request: &Request<'_>) -> Result<u32, Fault> {
        self.last_id += 1;
        self.stream.write_all(&request.encode(self.last_id)).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)?;
        Ok(self.last_id)
    }

    /// Takes the next message of an answer; `None` from `take`: there is more to come.
    async fn receive<T>(
        &mut self,
        id: u32,
        answer: &mut Answer,
        take: impl FnOnce(Response<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Option<T>, Fault> {
        let length = self.whole().await?;
        answer.count(length)?;
        let taken = match decode(&self.input[..length]).map_err(malformed)? {
            (0, Response::Disconnection(code)) => {
                return Err(Fault::new("closed", format!("the directory ends the connection: {code}")));
            }
            // A notice that means nothing to us is to be let be (RFC 4511, section 4.4).
            (0, Response::Extended(_)) => None,
            (found, response) if found == id => take(response).map_err(malformed)?,
            _ => return Err(Fault::new("malformed_answer", "the answer to another question")),
        };
        self.input.drain(..length);
        Ok(taken)
    }

    /// The length of the message that stands whole at the beginning of the input.
    async fn whole(&mut self) -> Result<usize, Fault> {
        loop {
            match frame(&self.input, MESSAGE_BYTES_MAX).map_err(malformed)? {
                Frame::Whole(length) => return Ok(length),
                Frame::TooLarge => return Err(too_large()),
                Frame::Part => {}
            }
            if self.stream.read_buf(&mut self.input).await.map_err(lost)? == 0 {
                return Err(match self.input.is_empty() {
                    true => Fault::new("closed", "closed before its answer"),
                    false => Fault::new("truncated", "closed within its answer"),
                });
            }
        }
    }
}

/// How much of it there has been.
#[derive(Default)]
struct Answer {
    messages: usize,
    bytes: usize,
}

impl Answer {
    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.messages += 1;
        self.bytes += bytes;
        match self.messages > MESSAGES_MAX || self.bytes > ANSWER_BYTES_MAX {
            true => Err(too_large()),
            false => Ok(()),
        }
    }
}

fn too_large() -> Fault {
    Fault::new("too_large", "more than any answer needs")
}

fn malformed(malformed: Malformed) -> Fault {
    Fault::new("malformed_answer", malformed.to_string())
}
