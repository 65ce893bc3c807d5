//! Header injection: adds headers to the request on its way in and to the response on its way out.
//!
//! Names and values are checked when the configuration loads, so nothing here can split a message. Framing headers stay the
//! gateway's: a configuration that lists one works, without that line.

use serde::Deserialize;

use super::{
    ConfigError, Core, Exchange, Fault, Flow, Headers, LocalResponse, Policy, Site, Turn,
    headers::{BadName, HeaderName},
};
use crate::http::bytes::is_field_value;

/// As the operator writes it; inbound is the request, outbound the response.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct Config {
    inbound_headers: Vec<Header>,
    outbound_headers: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    key: String,
    value: String,
}

#[derive(Debug)]
pub struct HeaderInjection {
    inbound: Box<[Injection]>,
    outbound: Box<[Injection]>,
}

#[derive(Debug)]
struct Injection {
    name: HeaderName,
    value: Box<[u8]>,
    /// Takes the place of what is there; most names get a further value instead.
    overwrites: bool,
}

/// The published list is these and two that frame the message, `content-length` and `transfer-encoding`.
const OVERWRITTEN: [&str; 2] = ["access-control-allow-origin", "content-type"];

impl Policy for HeaderInjection {
    type Config = Config;
    type State = ();
    type PerExchange = ();

    fn remarks(config: &Config) -> Vec<Fault> {
        let framing = |(field, header): (String, &Header)| {
            (HeaderName::new(header.key.trim()) == Err(BadName::Gateways)).then(|| {
                let text = format!("`{}` is the gateway's own; this line is ignored", header.key);
                Fault::at(format!("{field}.key"), text)
            })
        };
        named("inboundHeaders", &config.inbound_headers)
            .chain(named("outboundHeaders", &config.outbound_headers))
            .filter_map(framing)
            .collect()
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        if config.inbound_headers.is_empty() && config.outbound_headers.is_empty() {
            error.add(Fault::at("", "`inboundHeaders` and `outboundHeaders` are both empty"));
        }
        let inbound = injections("inboundHeaders", &config.inbound_headers, &mut error);
        let outbound = injections("outboundHeaders", &config.outbound_headers, &mut error);
        error.or(Self { inbound, outbound })
    }

    fn state(&self, _: &Core) {}

    fn on_request(&self, _: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        inject(&self.inbound, exchange.request_headers())
    }

    fn on_response(&self, _: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        inject(&self.outbound, exchange.response_headers())
    }
}

fn inject(injections: &[Injection], mut headers: Headers<'_>) -> Flow {
    for Injection { name, value, overwrites } in injections {
        let written = if *overwrites { headers.set(name, value) } else { headers.append(name, value) };
        if written.is_err() {
            return Flow::respond(LocalResponse::failed_policy());
        }
    }
    Flow::Continue
}

/// Each header with its path below `config`.
fn named<'a>(list: &'a str, headers: &'a [Header]) -> impl Iterator<Item = (String, &'a Header)> {
    headers.iter().enumerate().map(move |(index, header)| (format!("{list}[{index}]"), header))
}

fn injections(list: &str, headers: &[Header], error: &mut ConfigError) -> Box<[Injection]> {
    let mut injections = Vec::with_capacity(headers.len());
    for (field, header) in named(list, headers) {
        let (name, value) = (header.key.trim(), header.value.trim());
        let name = match HeaderName::new(name) {
            _ if is_expression(name) => None,
            Ok(name) => Some(name),
            Err(BadName::Gateways) => None,
            Err(fault) => {
                error.add(Fault::at(format!("{field}.key"), fault.to_string()));
                None
            }
        };
        for (field, text) in [(format!("{field}.key"), header.key.trim()), (format!("{field}.value"), value)] {
            if is_expression(text) {
                error.add(Fault::not_implemented(field, "expressions in `#[...]`"));
            } else if !is_field_value(text.as_bytes()) {
                error.add(Fault::at(field, "not a header value"));
            }
        }
        if let Some(name) = name {
            let text = header.key.trim();
            let overwrites = OVERWRITTEN.iter().any(|overwritten| text.eq_ignore_ascii_case(overwritten));
            injections.push(Injection { name, value: value.as_bytes().into(), overwrites });
        }
    }
    injections.into()
}

fn is_expression(text: &str) -> bool {
    text.starts_with("#[") && text.ends_with(']')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    /// What a message that has `a: 1` and `content-type: text/plain` becomes, in the request and in the response direction.
    fn check(config: &str, request: &[(&str, &str)], response: &[(&str, &str)]) {
        let policy = testing::compile::<HeaderInjection>(config).expect("valid");
        let sent = [("a", "1"), ("Content-Type", "text/plain"), ("Content-Length", "5")];
        let mut trial = testing::Trial::new("GET", "/", &sent).answered(200, &sent);
        assert!(matches!(trial.ask(&policy), Flow::Continue));
        assert!(matches!(trial.answer(&policy), Flow::Continue));
        assert_eq!(testing::lines(&trial.request.fields), testing::owned(request));
        assert_eq!(testing::lines(&trial.response.fields), testing::owned(response));
    }

    const SENT: [(&str, &str); 3] = [("a", "1"), ("Content-Type", "text/plain"), ("Content-Length", "5")];

    #[test]
    fn a_header_that_exists_gets_a_further_value() {
        let [a, content_type, length] = SENT;
        check("{inboundHeaders: [{key: A, value: '2'}]}", &[a, content_type, length, ("A", "2")], &SENT);
        check("{outboundHeaders: [{key: b, value: ''}]}", &SENT, &[a, content_type, length, ("b", "")]);
    }

    #[test]
    fn published_names_are_overwritten() {
        let [a, _, length] = SENT;
        let config =
            "{inboundHeaders: [{key: content-type, value: a/b}], outboundHeaders: [{key: CONTENT-TYPE, value: c/d}]}";
        check(config, &[a, ("Content-Type", "a/b"), length], &[a, ("Content-Type", "c/d"), length]);
        let config = "{outboundHeaders: [{key: Access-Control-Allow-Origin, value: '*'}]}";
        check(config, &SENT, &[SENT[0], SENT[1], SENT[2], ("Access-Control-Allow-Origin", "*")]);
    }

    #[test]
    fn framing_headers_stay_the_gateways() {
        for name in ["Content-Length", "transfer-encoding", "Connection", "host", "TE", "upgrade"] {
            let config = format!("{{inboundHeaders: [{{key: {name}, value: '7'}}]}}");
            check(&config, &SENT, &SENT);
            let remarks = testing::remarks::<HeaderInjection>(&config);
            assert_eq!(
                remarks,
                [format!("config.inboundHeaders[0].key: `{name}` is the gateway's own; this line is ignored")]
            );
        }
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = |text| testing::faults::<HeaderInjection>(text);
        assert_eq!(faults("{}"), ["config: `inboundHeaders` and `outboundHeaders` are both empty"]);
        assert_eq!(
            faults(
                r#"{"inboundHeaders": [{"key": "a b", "value": "x\r\ny: z"}], "outboundHeaders": [{"key": "", "value": "v"}]}"#
            ),
            [
                "config.inboundHeaders[0].key: not a header name",
                "config.inboundHeaders[0].value: not a header value",
                "config.outboundHeaders[0].key: not a header name",
            ]
        );
        assert_eq!(
            faults(r##"{"inboundHeaders": [{"key": "a", "value": "#[attributes.method]"}]}"##),
            ["config.inboundHeaders[0].value: expressions in `#[...]`: not implemented yet"]
        );
        let long = format!(r#"{{"inboundHeaders": [{{"key": "{}", "value": ""}}]}}"#, "n".repeat(257));
        assert_eq!(faults(&long), ["config.inboundHeaders[0].key: longer than 256 bytes"]);
    }
}
