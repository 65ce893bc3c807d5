//! What of an exchange the processor is sent, and how.

use serde::Deserialize;

use super::messages::{self, ProcessingMode, ProtocolConfiguration};
use crate::policies::Side;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    pub request: Of,
    pub response: Of,
}

/// Of one message of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of {
    pub headers: bool,
    pub body: BodyMode,
    pub trailers: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum BodyMode {
    #[default]
    None,
    Streamed,
    Buffered,
    BufferedPartial,
}

impl Modes {
    pub fn of(&self, side: Side) -> &Of {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    /// Those of the configuration, as a reply says otherwise: what it does not say of headers and trailers stays, and a body
    /// that it says nothing of is not sent. A mode that is none of these is not.
    pub fn overridden(&self, by: &ProcessingMode) -> Self {
        let sends = |said: i32, configured: bool| match said {
            messages::SEND => true,
            messages::SKIP => false,
            _ => configured,
        };
        let of = |configured: &Of, headers, body, trailers| Of {
            headers: sends(headers, configured.headers),
            body: BodyMode::of_number(body),
            trailers: sends(trailers, configured.trailers),
        };
        Self {
            request: of(&self.request, by.request_header_mode, by.request_body_mode, by.request_trailer_mode),
            response: of(&self.response, by.response_header_mode, by.response_body_mode, by.response_trailer_mode),
        }
    }

    /// As the processor is told them.
    pub fn told(&self) -> ProtocolConfiguration {
        ProtocolConfiguration {
            request_body_mode: self.request.body.number(),
            response_body_mode: self.response.body.number(),
        }
    }
}

impl Of {
    /// There is nothing to ask about such a message.
    pub fn is_silent(&self) -> bool {
        !self.headers && self.body == BodyMode::None && !self.trailers
    }
}

impl BodyMode {
    fn of_number(number: i32) -> Self {
        match number {
            messages::STREAMED => Self::Streamed,
            messages::BUFFERED => Self::Buffered,
            messages::BUFFERED_PARTIAL => Self::BufferedPartial,
            _ => Self::None,
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::None => messages::NONE,
            Self::Streamed => messages::STREAMED,
            Self::Buffered => messages::BUFFERED,
            Self::BufferedPartial => messages::BUFFERED_PARTIAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: Modes = Modes {
        request: Of { headers: true, body: BodyMode::Buffered, trailers: true },
        response: Of { headers: false, body: BodyMode::Streamed, trailers: false },
    };

    #[test]
    fn what_an_override_does_not_say_stays_but_bodies() {
        let check = |by: ProcessingMode, request: Of, response: Of| {
            assert_eq!(CONFIGURED.overridden(&by), Modes { request, response }, "{by:?}");
        };
        let none = |of: Of| Of { body: BodyMode::None, ..of };
        check(ProcessingMode::default(), none(CONFIGURED.request), none(CONFIGURED.response));
        let by = ProcessingMode {
            request_header_mode: messages::SKIP,
            response_header_mode: messages::SEND,
            request_body_mode: messages::STREAMED,
            response_body_mode: messages::BUFFERED_PARTIAL,
            request_trailer_mode: messages::SKIP,
            response_trailer_mode: messages::SEND,
        };
        let request = Of { headers: false, body: BodyMode::Streamed, trailers: false };
        check(by, request, Of { headers: true, body: BodyMode::BufferedPartial, trailers: true });
        // Full duplex, and one that nobody knows.
        let by = ProcessingMode { request_body_mode: 4, response_body_mode: 99, ..ProcessingMode::default() };
        check(by, none(CONFIGURED.request), none(CONFIGURED.response));
    }
}
