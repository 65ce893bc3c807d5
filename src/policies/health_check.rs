//! Health check: whether an upstream answers as it should, asked once a minute, for the log.
//!
//! It sees no request. The management thread asks, and finds what to ask in the chains of the snapshot that runs.

use std::sync::Arc;

use serde::Deserialize;

use super::{Category, ConfigError, Core, Fault, Field, Policy, Site};
use crate::{
    calls::ForwardProxy,
    document::address::{Endpoint, Scheme, ServiceAddress},
    tls::{ClientContext, ClientSettings, Trust, suites::Version},
};

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The upstream's URL.
    endpoint: String,
    path: String,
    status_code: u16,
}

#[derive(Debug)]
pub struct HealthCheck {
    pub monitor: Arc<Monitor>,
}

/// What is asked, and which answer is well.
#[derive(Debug, PartialEq)]
pub struct Monitor {
    /// The ApiInstance, `namespace/name`.
    pub api: String,
    pub endpoint: Endpoint,
    /// For `host`.
    pub authority: String,
    pub path: String,
    pub status: u16,
    pub tls: Option<Arc<ClientContext>>,
    /// HTTP/2 without being asked.
    pub multiplexes: bool,
    /// Who is asked for it.
    pub proxy: Option<Arc<ForwardProxy>>,
}

impl Monitor {
    /// HTTP/1.1, without TLS.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && !self.multiplexes
    }
}

impl Policy for HealthCheck {
    type Config = Config;
    type State = ();
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "endpoint",
            "Upstream URL",
            "`http://`, `https://` or `h2://`, and what stands ahead of every path.",
        ),
        Field::new("path", "Path", "What is asked for, with GET; a query may follow."),
        Field::new("statusCode", "Response code", "The status that is well, and the only one.").range(100, 599),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let is_interim = (100..200).contains(&config.status_code);
        let text = "never well: an answer of this status is not the last one";
        is_interim.then(|| Fault::at("statusCode", text)).into_iter().collect()
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let Config { endpoint, path, status_code } = config;
        if !path.starts_with('/') || !path.bytes().all(|c| c.is_ascii_graphic() && c != b'#') {
            error.add(Fault::at("path", "expected a path that starts with `/`"));
        }
        if !(100..=599).contains(&status_code) {
            error.add(Fault::at("statusCode", "expected a status from 100 to 599"));
        }
        let address = match ServiceAddress::parse(&endpoint) {
            Ok(address) => address,
            Err(text) => {
                error.add(Fault::at("endpoint", text));
                return Err(error);
            }
        };
        let tls = match address.scheme {
            Scheme::Https => tls(&address.endpoint.host).map_err(|text| error.add(Fault::at("endpoint", text))).ok(),
            Scheme::Http | Scheme::H2 => None,
        };
        let monitor = Monitor {
            api: site.owner.to_string(),
            multiplexes: address.scheme == Scheme::H2,
            proxy: site.forward_proxy(&address.endpoint.host),
            endpoint: address.endpoint,
            authority: address.authority,
            path: address.path + &path,
            status: status_code,
            tls,
        };
        error.or(Self { monitor: Arc::new(monitor) })
    }

    fn state(&self, _: &Core) {}
}

/// As a Service without a policy of its own is dialled, but for HTTP/2.
fn tls(host: &str) -> Result<Arc<ClientContext>, String> {
    let (min, max, alpn) = (Version::Tls12, Version::Tls13, vec![b"http/1.1".to_vec()]);
    let settings = ClientSettings { trust: Trust::System, certificate: None, alpn, min, max, suites_12: None };
    ClientContext::new(host, settings, 0).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    fn monitor(config: &str) -> Arc<Monitor> {
        testing::compile::<HealthCheck>(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}")).monitor
    }

    #[test]
    fn the_endpoint_says_where_and_how() {
        let plain = monitor("{endpoint: 'http://a.test:8080/base/', path: '/health?full=1', statusCode: 204}");
        let endpoint = Endpoint { host: "a.test".into(), port: 8080 };
        let expected = Monitor {
            api: "default/api".into(),
            endpoint,
            authority: "a.test:8080".into(),
            path: "/base/health?full=1".into(),
            status: 204,
            tls: None,
            multiplexes: false,
            proxy: None,
        };
        assert_eq!(*plain, expected);
        assert!(monitor("{endpoint: 'h2://a.test:8080', path: /, statusCode: '200'}").multiplexes);
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = |config| testing::faults::<HealthCheck>(config);
        assert_eq!(
            faults("{endpoint: 'http://a.test', path: health, statusCode: 99}"),
            [
                "config.path: expected a path that starts with `/`",
                "config.statusCode: expected a status from 100 to 599"
            ]
        );
        assert_eq!(faults("{endpoint: a.test, path: '/a b', statusCode: 200}").len(), 2);
        assert_eq!(faults("{}").len(), 3);
        assert_eq!(
            testing::remarks::<HealthCheck>("{endpoint: 'http://a.test', path: /, statusCode: 100}"),
            ["config.statusCode: never well: an answer of this status is not the last one"]
        );
    }
}
