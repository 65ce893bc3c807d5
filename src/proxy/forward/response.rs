//! The response direction of a try: the head, the policies, and the body as it comes.

use std::cell::Cell;

use super::{Failure, attempt::Attempt};
use crate::{
    http::{
        h1::{body::BodyReader, hop::strip_response},
        head::BodyLength,
    },
    policies::{Question, chain::Next},
    proxy::{
        account::Account,
        pump::{Direction, Framing, PumpError, pump},
        respond::{self, ClientFraming},
        wait,
        watch::{Waiting, Watch},
        wire::{Outgoing, Wire},
        workspace::Workspace,
    },
};

/// What a finished exchange leaves.
pub(super) struct Delivered {
    /// The upstream connection may carry another request.
    pub(super) reusable: bool,
    /// The client's connection may.
    pub(super) keep_alive: bool,
    /// The upstream switched protocols.
    pub(super) upgraded: bool,
}

/// The response direction of an attempt.
pub(super) struct Download<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) to_client: &'a Outgoing,
    pub(super) watch: &'a Watch<'a>,
    pub(super) upload: &'a Direction<'a>,
}

impl Download<'_> {
    pub(super) async fn run(
        &self,
        mut from: Wire<'_>,
        workspace: &mut Workspace,
        account: &mut Account,
    ) -> Result<Delivered, Failure> {
        let Attempt { client, serving, tries, held, progress, .. } = self.attempt;
        let settings = &serving.snapshot.settings;
        let stream_idle = workspace.timeouts.stream_idle;
        match &mut from {
            Wire::Http1(stream) => self.read_head(&mut stream.receiver, workspace).await?,
            Wire::Http2(stream) => self.await_head(stream, workspace).await?,
        }
        account.upstream_answered();
        client.core.telemetry.upstream_strayed(workspace.response.quirks);
        let status = workspace.response.status;
        if matches!(status, 502..=504) && tries.gateway_error_allowed(&workspace.request.method, held) {
            return Err(Failure::GatewayError);
        }

        held.release();
        self.upload.reading.set((Waiting::Upstream, stream_idle));
        let upgraded = status == 101;
        let upstream_keeps = workspace.response.keep_alive;
        let framing = respond::client_framing(&workspace.response, &workspace.request);
        progress.unframed.set(framing == ClientFraming::UntilClose);
        // One that answers before it has the whole request may take the rest of it for the next.
        let asked_whole = progress.asked_whole.get();
        let keep_alive =
            workspace.request.keep_alive && client.may_stay() && asked_whole && framing != ClientFraming::UntilClose;
        strip_response(&mut workspace.response.fields, status);
        respond::complete(client, &mut workspace.response, settings);
        let seen = match respond::run_response_chains(client, workspace, serving, account, None) {
            // Boxed: few wait, and the others are not to keep room for it.
            Next::Wait(question) => Box::pin(self.wait(workspace, account, question)).await,
            seen => seen,
        };
        if let Next::Respond(answer) = seen {
            return Err(Failure::Refused(answer));
        }
        account.status = status;
        let out = match upgraded {
            true => respond::switch(self.to_client, workspace),
            false => respond::begin(self.to_client, workspace, framing, keep_alive, &settings.server_header),
        };

        let mut body = BodyReader::of_response(workspace.response.body, &respond::body_limits(serving));
        let direction = Direction {
            watch: self.watch,
            reading: Cell::new((Waiting::Upstream, stream_idle)),
            writing: (Waiting::ClientWindow, stream_idle),
            begun: &progress.answering,
            held: None,
            ends: !keep_alive,
        };
        let pump_framing = if framing == ClientFraming::Chunked { Framing::Chunked } else { Framing::Plain };
        if let Outgoing::Http2(_) = self.to_client {
            // The stream has taken its head, and takes no other.
            progress.answering.set(true);
        }
        account.client_answered();
        // A tunnel's bytes are no body, and what comes behind a 205 is not wanted.
        let unread = status == 205 && workspace.response.body != BodyLength::None;
        let pumped = match upgraded || unread {
            true => {
                progress.answering.set(true);
                self.to_client.send(out).await.map(|()| 0).map_err(PumpError::Write)
            }
            false => pump(&mut from.incoming(&mut body), self.to_client, pump_framing, out, &direction).await,
        };
        client.core.telemetry.upstream_strayed(body.quirks());
        match pumped {
            Ok(bytes) => account.bytes_out += bytes,
            Err(error) => {
                let reason = response_body_reason(&error);
                return Err(match progress.answering.get() {
                    true => Failure::Midway { reason },
                    false => Failure::BadResponseBody { reason },
                });
            }
        }
        Ok(Delivered {
            // Bytes that nobody asked for make the connection's next answer doubtful.
            reusable: upstream_keeps && asked_whole && from.is_quiet() && !upgraded && !unread,
            keep_alive,
            upgraded,
        })
    }

    /// What the policies of the response wait for, one after the other, until all have seen it; under the watch of the try.
    async fn wait(&self, workspace: &mut Workspace, account: &mut Account, mut question: Box<Question>) -> Next {
        let Attempt { client, serving, .. } = self.attempt;
        loop {
            self.watch.wait_for(Waiting::Policy, None);
            let reply = wait::reply(account, *question).await;
            question = match respond::run_response_chains(client, workspace, serving, account, Some(reply)) {
                Next::Wait(next) => next,
                seen => return seen,
            };
        }
    }
}

fn response_body_reason(error: &PumpError) -> &'static str {
    match error {
        PumpError::Malformed(error) => error.reason(),
        PumpError::Read(_) | PumpError::Truncated => "upstream_truncated",
        PumpError::Write(_) => "client_gone",
    }
}
