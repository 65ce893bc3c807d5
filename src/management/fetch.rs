//! One GET for what a policy wants, by the client of all calls: what it takes is an answer with status 200.

use std::{sync::Arc, time::Duration};

use super::{calls::Client, resolver::Resolve};
use crate::{
    calls::{Call, Destination},
    http::head::Fields,
    telemetry::fault::Fault,
};

const ACCEPT: &[u8] = b"application/jwk-set+json, application/json";

/// What is to be fetched, and what it may cost.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub destination: Arc<Destination>,
    /// Of everything together.
    pub time_max: Duration,
    pub body_bytes_max: usize,
}

impl Fetch {
    /// The body of an answer with status 200.
    pub async fn run(self, client: &Client<impl Resolve>) -> Result<Vec<u8>, Fault> {
        let Self { destination, time_max, body_bytes_max: answer_bytes_max } = self;
        let mut headers = Fields::default();
        headers.append(b"accept", ACCEPT);
        let target = destination.address.target.clone();
        let answer = client.call(Call {
            destination,
            policy: "jwt-validation-flex",
            binding: String::new(),
            method: "GET",
            target,
            headers,
            body: Vec::new(),
            time_max,
            answer_bytes_max,
            idempotent: true,
        });
        let answer = answer.await?;
        match answer.status {
            200 => Ok(answer.body),
            status @ 300..=399 => Err(Fault::new("redirect", format!("status {status}; redirects are not followed"))),
            status => Err(Fault::new("unexpected_status", format!("status {status}"))),
        }
    }
}
