//! The configuration, as the operator writes it.

use std::time::Duration;

use serde::Deserialize;

use super::{ByHttp, ExtAuthz, NAME, Names, Speaks};
use crate::{
    document::address::{self, ServiceAddress},
    http::bytes::is_field_value,
    policies::{ConfigError, Fault, Field, Site, headers::HeaderName},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    uri: String,
    #[serde(default)]
    server_type: ServerType,
    server_version: Option<ServerVersion>,
    server_api_version: Option<ServerVersion>,
    #[serde(default)]
    include_peer_certificate: bool,
    #[serde(default = "default_timeout")]
    request_timeout: u64,
    allowed_headers: Option<Vec<String>>,
    #[serde(default)]
    service_request_headers_to_add: Vec<Header>,
    #[serde(default)]
    service_response_upstream_headers: Vec<String>,
    #[serde(default)]
    service_response_upstream_headers_to_append: Vec<String>,
    #[serde(default)]
    service_response_client_headers: Vec<String>,
    #[serde(default)]
    service_response_client_headers_on_success: Vec<String>,
    path_prefix: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum ServerType {
    #[default]
    Grpc,
    Http,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum ServerVersion {
    V2,
    V3,
}

#[derive(Deserialize)]
struct Header {
    key: String,
    value: String,
}

fn default_timeout() -> u64 {
    5000
}

pub const FIELDS: &[Field] = &[
    Field::new("uri", "Service", "Where the service is: `h2://host:port` for gRPC, `https://` for either over TLS."),
    Field::new("serverType", "Protocol", "How it is asked: `grpc` or `http`.").default("grpc"),
    Field::new("serverVersion", "Version", "Of the protocol by gRPC: `v3`, or `v2`; `v3` where it is not written.")
        .when("serverType", "grpc"),
    Field::new("serverApiVersion", "Version", "Another name of `serverVersion`.").when("serverType", "grpc"),
    Field::new(
        "includePeerCertificate",
        "Certificate",
        "Whether it is shown the client's certificate, URL-encoded PEM.",
    )
    .default("false")
    .when("serverType", "grpc"),
    Field::new("requestTimeout", "Time limit", "Of one question, from its connection to the last byte of the answer.")
        .default("5000")
        .unit("ms")
        .at_least(1),
    Field::new(
        "allowedHeaders",
        "Headers shown",
        "Headers of the request that it is shown, in any case. Where they are not listed: all by gRPC, by HTTP none.",
    ),
    Field::new("serviceRequestHeadersToAdd", "Further headers", "Further headers of the question.")
        .when("serverType", "http"),
    Field::new("serviceRequestHeadersToAdd[].key", "Header name", "Of a header of the question.")
        .when("serverType", "http"),
    Field::new("serviceRequestHeadersToAdd[].value", "Header value", "Its value.").when("serverType", "http"),
    Field::new(
        "serviceResponseUpstreamHeaders",
        "Headers for the upstream",
        "Headers of its answer that an allowed request has, in the place of those of their name.",
    )
    .when("serverType", "http"),
    Field::new(
        "serviceResponseUpstreamHeadersToAppend",
        "Headers added for the upstream",
        "Headers of its answer that an allowed request has behind those of their name.",
    )
    .when("serverType", "http"),
    Field::new(
        "serviceResponseClientHeaders",
        "Headers of refusals",
        "Headers of its answer that the client of a refused request is shown. Where they are not listed: all.",
    )
    .when("serverType", "http"),
    Field::new(
        "serviceResponseClientHeadersOnSuccess",
        "Headers for clients",
        "Headers of its answer that the client of an allowed request is shown, behind those of the response.",
    )
    .when("serverType", "http"),
    Field::new("pathPrefix", "Path prefix", "In front of the request's path.").when("serverType", "http"),
];

impl Config {
    pub fn remarks(&self) -> Vec<Fault> {
        let of_http = [
            ("serviceRequestHeadersToAdd", !self.service_request_headers_to_add.is_empty()),
            ("serviceResponseUpstreamHeaders", !self.service_response_upstream_headers.is_empty()),
            ("serviceResponseUpstreamHeadersToAppend", !self.service_response_upstream_headers_to_append.is_empty()),
            ("serviceResponseClientHeaders", !self.service_response_client_headers.is_empty()),
            ("serviceResponseClientHeadersOnSuccess", !self.service_response_client_headers_on_success.is_empty()),
            ("pathPrefix", self.path_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty())),
        ];
        let of_grpc = [("includePeerCertificate", self.include_peer_certificate)];
        let (fields, named) = match self.server_type {
            ServerType::Grpc => (&of_http[..], "grpc"),
            ServerType::Http => (&of_grpc[..], "http"),
        };
        let written = fields.iter().filter(|(_, is_written)| *is_written);
        written.map(|(field, _)| Fault::at(*field, format!("has no effect with `serverType: {named}`"))).collect()
    }

    pub fn compile(self, site: &mut Site<'_>) -> Result<ExtAuthz, ConfigError> {
        let mut error = ConfigError::default();
        let address = ServiceAddress::parse(&self.uri).map_err(|text| error.add(Fault::at("uri", text))).ok();
        if self.request_timeout == 0 {
            error.add(Fault::at("requestTimeout", "must be at least 1"));
        }
        if self.server_version.zip(self.server_api_version).is_some_and(|(one, other)| one != other) {
            error.add(Fault::at("serverApiVersion", "`serverVersion` says another one"));
        }
        let path = address.as_ref().map(|address| address.path.clone()).unwrap_or_default();
        let speaks = match self.server_type {
            ServerType::Http => Speaks::Http(self.by_http(path, &mut error)),
            ServerType::Grpc => {
                if !path.is_empty() {
                    site.remark(Fault::at("uri", "the path has no effect: a gRPC service is called by its name"));
                }
                let target = match self.server_version.or(self.server_api_version) {
                    Some(ServerVersion::V2) => "/envoy.service.auth.v2.Authorization/Check",
                    Some(ServerVersion::V3) | None => "/envoy.service.auth.v3.Authorization/Check",
                };
                Speaks::Grpc { target, raw_headers: site.raw_header_values() }
            }
        };
        let allowed = self.allowed_headers.as_ref().map(|names| Names::compile("allowedHeaders", names, &mut error));
        let Some(address) = address else { return Err(error) };
        let server = site.server(NAME, address, self.server_type == ServerType::Grpc);
        if let Some(why) = &server.destination.insecure {
            site.remark(Fault::at("uri", format!("it cannot be called: {why}")));
        }
        error.or(ExtAuthz {
            server,
            speaks,
            time_max: Duration::from_millis(self.request_timeout),
            allowed,
            certificate: self.include_peer_certificate,
        })
    }

    fn by_http(&self, path: String, error: &mut ConfigError) -> ByHttp {
        let prefix = address::path_prefix(self.path_prefix.as_deref().unwrap_or_default());
        let prefix = prefix.unwrap_or_else(|text| {
            error.add(Fault::at("pathPrefix", text));
            String::new()
        });
        let mut added = Vec::new();
        for (at, Header { key, value }) in self.service_request_headers_to_add.iter().enumerate() {
            let field = format!("serviceRequestHeadersToAdd[{at}]");
            match HeaderName::new(key.trim()) {
                Ok(name) if is_field_value(value.trim().as_bytes()) => added.push((name, value.trim().into())),
                Ok(_) => error.add(Fault::at(format!("{field}.value"), "not a header value")),
                Err(fault) => error.add(Fault::at(format!("{field}.key"), fault.to_string())),
            }
        }
        let mut names = |field: &str, written: &[String]| Names::compile(field, written, error);
        ByHttp {
            prefix: path + &prefix,
            added,
            upstream: names("serviceResponseUpstreamHeaders", &self.service_response_upstream_headers),
            appended: names(
                "serviceResponseUpstreamHeadersToAppend",
                &self.service_response_upstream_headers_to_append,
            ),
            client: names("serviceResponseClientHeaders", &self.service_response_client_headers),
            on_success: names(
                "serviceResponseClientHeadersOnSuccess",
                &self.service_response_client_headers_on_success,
            ),
        }
    }
}
