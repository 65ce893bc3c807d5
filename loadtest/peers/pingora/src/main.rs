//! A proxy as small as Pingora allows: one thread, one upstream, connections kept on both sides.
//!
//!     pingora-peer LISTEN UPSTREAM CONFIGURATION CERTIFICATES
//!
//! CERTIFICATES is a folder, with which it serves HTTP/1.1 and HTTP/2 over TLS; when empty, HTTP/1.1 without.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::{
    Result,
    listeners::tls::TlsSettings,
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Proxy {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _context: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream.as_str(), false, String::new())))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, configuration, certificates] = &arguments[..] else {
        eprintln!("usage: pingora-peer LISTEN UPSTREAM CONFIGURATION CERTIFICATES");
        std::process::exit(2);
    };
    let settings = ServerConf::load_from_yaml(configuration).expect("the configuration can be read");
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let mut proxy = http_proxy_service(&Arc::clone(&server.configuration), Proxy { upstream: upstream.clone() });
    if certificates.is_empty() {
        proxy.add_tcp(listen);
    } else {
        let (certificate, key) = (format!("{certificates}/certificate.pem"), format!("{certificates}/key.pem"));
        let mut tls = TlsSettings::intermediate(&certificate, &key).expect("the certificate can be read");
        tls.enable_h2();
        proxy.add_tls_with_settings(listen, None, tls);
    }
    server.add_service(proxy);
    server.run_forever();
}
