//! How a port is served: its certificates, what it asks of clients, and the sessions that it takes up again.

use std::sync::Arc;

use rustls::{ServerConfig, SupportedCipherSuite, server::NoServerSessionStorage};

use super::{
    certificate::{Certificate, Table},
    suites::{self, Version},
    tickets::{TicketKeys, Ticketer},
    verify::{Anchors, Verifier},
};

/// What is asked of clients.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    NotAsked,
    /// Whoever shows one must have it from one of these.
    Optional(Arc<Anchors>),
    Required(Arc<Anchors>),
}

/// Checked settings of one port.
#[derive(Debug)]
pub struct ServerSettings {
    pub certificates: Vec<Certificate>,
    pub clients: ClientCertificates,
    pub alpn: Vec<Vec<u8>>,
    pub min: Version,
    pub max: Version,
    /// `None`: the library's.
    pub suites_12: Option<Vec<SupportedCipherSuite>>,
    /// Of the port and what it asks of clients: its tickets are good where this is equal.
    pub identity: u64,
}

/// All cores handshake with it.
#[derive(Debug)]
pub struct ServerContext {
    pub config: Arc<ServerConfig>,
    pub table: Arc<Table>,
    /// A client that says it falls back to TLS 1.2 has been made to.
    pub speaks_13: bool,
    /// Of what it asks of clients: where this changes, connections drain.
    pub identity: u64,
}

impl ServerContext {
    /// Without ticket keys every handshake is a full one.
    ///
    /// # Errors
    /// Nothing could ever be agreed on.
    pub fn new(settings: ServerSettings, tickets: Option<Arc<TicketKeys>>) -> Result<Self, String> {
        let provider = Arc::new(suites::provider(settings.suites_12.as_deref()));
        let versions = suites::versions(settings.min, settings.max);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|_| "no cipher is left for these versions".to_owned())?;
        let verified = |anchors: &Arc<Anchors>, mandatory| {
            Arc::new(Verifier::of_clients(anchors.clone(), mandatory, provider.clone()))
        };
        let builder = match &settings.clients {
            ClientCertificates::NotAsked => builder.with_no_client_auth(),
            ClientCertificates::Optional(anchors) => builder.with_client_cert_verifier(verified(anchors, false)),
            ClientCertificates::Required(anchors) => builder.with_client_cert_verifier(verified(anchors, true)),
        };
        let table = Arc::new(Table::new(settings.certificates));
        let mut config = builder.with_cert_resolver(table.clone());
        config.alpn_protocols = settings.alpn;
        // Who lists ciphers means the order.
        config.ignore_client_order = settings.suites_12.is_some();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match tickets {
            Some(keys) => config.ticketer = Arc::new(Ticketer { keys, context: settings.identity }),
            None => config.send_tls13_tickets = 0,
        }
        // Early data could be sent twice by anybody.
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        Ok(Self {
            config: Arc::new(config),
            table,
            speaks_13: settings.max == Version::Tls13,
            identity: settings.identity,
        })
    }
}
