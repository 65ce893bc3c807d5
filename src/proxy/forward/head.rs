//! The upstream's head, and the interim ones before it.

use super::{Failure, response::Download};
use crate::{
    http::{
        h1::{
            hop::strip_response,
            parse::{HeadLimits, ResponseError, ResponseTo, parse_response},
        },
        h2::Code,
        head::Version,
        websocket,
    },
    net::{Receiver, buffer::SMALL_ROOM, tls::HandshakeError},
    proxy::{
        h2::{self, Cut},
        pool::Unavailable,
        respond,
        watch::Waiting,
        wire::Outgoing,
        workspace::Workspace,
    },
};

/// Interim responses of one exchange; a server that sends more is not making progress.
const INTERIM_MAX: u32 = 16;

impl Download<'_> {
    /// Waits for the final head of a stream; passes interim ones on.
    pub(super) async fn await_head(&self, from: &h2::Stream, workspace: &mut Workspace) -> Result<(), Failure> {
        for interim in 0..=INTERIM_MAX {
            // An upstream that has said something has begun, whatever it says later.
            let silent = interim == 0;
            from.response(&mut workspace.response).await.map_err(|cut| match cut {
                Cut::Reset(Code::REFUSED_STREAM) if silent => Failure::Unprocessed,
                Cut::Reset(_) => Failure::Reset { silent: false },
                Cut::Lost => match from.refusal() {
                    Some(refusal) => Failure::Unavailable(Unavailable::Tls(refusal)),
                    None if from.speaks_otherwise() => Failure::BadResponseBody { reason: "upstream_speaks_no_http2" },
                    None => Failure::Reset { silent },
                },
                Cut::Malformed => Failure::BadResponseBody { reason: "bad_upstream_http2" },
            })?;
            match workspace.response.status {
                // RFC 9113 section 8.6: there is no switch of protocols in HTTP/2.
                101 => return Err(Failure::BadResponseBody { reason: "bad_upstream_http2" }),
                100..=199 => self.pass_interim(workspace).await?,
                200..=299 if workspace.request.websocket => {
                    // What HTTP/2 says of a tunnel, in the words of HTTP/1.1 (RFC 8441 section 5).
                    workspace.response.status = 101;
                    websocket::append_accept(&workspace.request.fields, &mut workspace.response.fields);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        Err(Failure::BadResponse(ResponseError::HeadTooLarge))
    }

    /// Reads up to the final head; passes interim ones on (RFC 9110 section 15.2).
    pub(super) async fn read_head(&self, from: &mut Receiver, workspace: &mut Workspace) -> Result<(), Failure> {
        let limits = &self.attempt.serving.snapshot.settings.limits;
        let head_limits = HeadLimits { head_bytes: limits.head_bytes, header_count: limits.header_count };
        let to = match &workspace.request {
            request if request.websocket => ResponseTo::Upgrade,
            _ if workspace.line().method == b"HEAD" => ResponseTo::Head,
            _ => ResponseTo::Other,
        };
        let (mut scanned, mut interim, mut silent) = (0, 0, true);
        loop {
            let input = from.buffered();
            if !input.is_empty() {
                silent = false;
                let parsed = parse_response(input, &mut scanned, &head_limits, to, &mut workspace.response);
                if let Some(taken) = parsed.map_err(Failure::BadResponse)? {
                    from.consume(taken);
                    if !matches!(workspace.response.status, 100 | 102..=199) {
                        return Ok(());
                    }
                    interim += 1;
                    if interim > INTERIM_MAX {
                        return Err(Failure::BadResponse(ResponseError::HeadTooLarge));
                    }
                    scanned = 0;
                    self.pass_interim(workspace).await?;
                    continue;
                }
            }
            if let Outgoing::Http2(client) = self.to_client
                && from.wanted() > SMALL_ROOM
            {
                // What comes behind the head is held until the client's windows let it go.
                from.readable().await;
                from.want(from.wanted().min(client.room_now()).max(SMALL_ROOM));
            }
            match from.fill().await {
                Err(error) if silent && !self.attempt.tries.reused.get() => {
                    return Err(match HandshakeError::late(&error) {
                        Some(refusal) => Failure::Unavailable(Unavailable::Tls(refusal.failure())),
                        None => Failure::Reset { silent },
                    });
                }
                Ok(0) | Err(_) => return Err(Failure::Reset { silent }),
                // The time for the answer is a total: a head that drips in is not in time because some of it is.
                Ok(_) if self.watch.waits_for(Waiting::Response) => {}
                Ok(_) => self.watch.progress(),
            }
        }
    }

    async fn pass_interim(&self, workspace: &mut Workspace) -> Result<(), Failure> {
        self.attempt.client.core.telemetry.upstream_strayed(workspace.response.quirks);
        // HTTP/1.0 has none (RFC 9110 section 15.2).
        if workspace.request.version == Version::Http10 {
            return Ok(());
        }
        strip_response(&mut workspace.response.fields, workspace.response.status);
        let out = respond::interim(self.to_client, workspace);
        // While part of it may be out, nothing else can be said.
        let answering = &self.attempt.progress.answering;
        answering.set(true);
        let sent = self.to_client.send(out).await;
        answering.set(false);
        self.watch.progress();
        sent.map_err(|_| Failure::ClientGone)
    }
}
