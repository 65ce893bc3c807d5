//! What a connection speaks: TLS or not, HTTP/1.1 or HTTP/2. The flags for it, and what follows from them.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{
    http2,
    scenario::{Form, Target},
    tls,
};

#[derive(Args, Default)]
pub struct ProtocolArgs {
    /// HTTP/2: by ALPN for https, at once for http (prior knowledge)
    #[arg(long)]
    http2: bool,

    /// Requests that a connection of HTTP/2 carries at a time [default: 8]
    #[arg(long, value_name = "N", requires = "http2")]
    streams: Option<usize>,

    /// Check the server's certificate against these; without it, nothing is checked
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Only this version of TLS [default: 1.3, or 1.2 where the server has no other]
    #[arg(long, value_name = "VERSION")]
    tls_version: Option<tls::Version>,

    /// What is offered by ALPN, instead of h2 or http/1.1
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    alpn: Vec<String>,

    /// Resume TLS sessions; otherwise every handshake is a full one
    #[arg(long)]
    tls_resume: bool,

    /// Name that TLS asks for and checks, instead of the URL's host
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
}

/// What the flags and a target come to.
#[derive(Clone, Debug, Default)]
pub struct Protocol {
    pub tls: Option<tls::Client>,
    /// Of each connection, with HTTP/2.
    pub streams: Option<usize>,
}

const STREAMS: usize = 8;

impl ProtocolArgs {
    /// # Errors
    /// Flags that do not go together, or roots that cannot be read.
    pub fn settle(&self, target: &Target, keep_alive: bool) -> Result<Protocol> {
        let asks_for_tls = self.cacert.is_some() || self.tls_version.is_some() || !self.alpn.is_empty();
        let asks_for_tls = asks_for_tls || self.tls_resume || self.tls_name.is_some();
        ensure!(target.is_https || !asks_for_tls, "{target}: flags of TLS are for https");
        let streams = self.http2.then_some(self.streams.unwrap_or(STREAMS));
        ensure!(streams.is_none() || keep_alive, "--http2 keeps its connections");
        let range = 1..=http2::STREAMS_MAX;
        ensure!(streams.is_none_or(|streams| range.contains(&streams)), "--streams: 1 to {}", http2::STREAMS_MAX);
        let settings = tls::Settings {
            roots: self.cacert.clone(),
            version: self.tls_version,
            alpn: self.alpn.clone(),
            resume: self.tls_resume,
        };
        let name = self.tls_name.as_deref().unwrap_or_else(|| target.host());
        Protocol::new(target.is_https.then_some(name), streams, settings)
    }
}

impl Protocol {
    /// With TLS where there is a name to ask for.
    ///
    /// # Errors
    /// The name is none, or the roots cannot be read.
    pub fn new(tls_name: Option<&str>, streams: Option<usize>, mut settings: tls::Settings) -> Result<Self> {
        let Some(name) = tls_name else { return Ok(Self { tls: None, streams }) };
        if settings.alpn.is_empty() {
            settings.alpn = vec![if streams.is_some() { "h2" } else { "http/1.1" }.to_owned()];
        }
        let must_speak = streams.is_some().then_some("h2");
        Ok(Self { tls: Some(tls::Client::new(name, &settings, must_speak)?), streams })
    }

    pub fn form(&self, keep_alive: bool) -> Form {
        if self.streams.is_some() { Form::Http2 } else { Form::Http1 { keep_alive } }
    }

    /// For a reader, such as `HTTP/2 over TLS, 8 streams a connection`.
    pub fn name(&self) -> String {
        let tls = if self.tls.is_some() { " over TLS" } else { "" };
        match self.streams {
            Some(streams) => format!("HTTP/2{tls}, {streams} streams a connection"),
            None => format!("HTTP/1.1{tls}"),
        }
    }
}
