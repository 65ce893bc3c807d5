//! `spec.forwardProxy`: who carries the calls of policies, and which go without it. Shared storage and directories never go
//! through it.

use std::{path::PathBuf, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{
    effective::Sections,
    resources::{self, Secret},
    setting::Checked,
    settings::Settings,
    tls::{Outbound, calls},
};
use crate::{
    calls::{ForwardProxy, Ways},
    document::{Resource, address::WebAddress, node::Located, problem::Problem},
};

/// Hosts that may be named.
const NO_PROXY_MAX: usize = 256;

/// How the calls of policies leave this replica: through the proxy, secured by `defaultTLS`. Where the proxy cannot be used as
/// it is written, that is an error.
pub fn ways(
    sections: &Sections,
    settings: &Settings,
    secrets: &[Resource<Secret>],
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Arc<Ways> {
    let outbound = calls::read(sections, secrets, files, problems);
    let proxy = proxy(sections, outbound.as_ref(), problems).map(Arc::new);
    let secure = outbound.map(|outbound| {
        let secure = move |host: &str| outbound.clone().context(host);
        Box::new(secure) as Box<_>
    });
    Arc::new(Ways { secure, proxy, text_header_values: !settings.raw_header_values })
}

fn proxy(sections: &Sections, outbound: Option<&Outbound>, problems: &mut Vec<Problem>) -> Option<ForwardProxy> {
    let (resources::ForwardProxy { https, no_proxy }, path) = sections.section("forwardProxy");
    let mut checked = Checked { path, problems };
    let no_proxy = hosts(&no_proxy, &mut checked);
    let resources::HttpsProxy { address, basic_auth } = https?;
    let Located { value: text, location } = address;
    let address = match WebAddress::parse(&text) {
        Ok(address) if address.target == "/" => address,
        Ok(_) => {
            checked.error("https.address", location, "a proxy has no path and no query".to_owned());
            return None;
        }
        Err(why) => {
            checked.error("https.address", location, why);
            return None;
        }
    };
    let tls = match (address.secure, outbound) {
        (true, Some(outbound)) => match outbound.clone().context(&address.endpoint.host) {
            Ok(context) => Some(Arc::new(context)),
            Err(why) => {
                checked.error("https.address", location, why);
                return None;
            }
        },
        _ => None,
    };
    let text = "calls of policies go through it; upstream services do not".to_owned();
    checked.warn("https.address", location, text);
    let authorization = basic_auth.map(|user| {
        let pair = format!("{}:{}", user.username, user.password);
        format!("Basic {}", BASE64.encode(pair))
    });
    Some(ForwardProxy { address, tls, authorization, no_proxy })
}

/// In lower case, without a final dot.
fn hosts(written: &[Located<String>], checked: &mut Checked<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for (at, Located { value, location }) in written.iter().enumerate().take(NO_PROXY_MAX) {
        let host = value.trim().trim_end_matches('.').to_ascii_lowercase();
        let name = host.strip_prefix('.').unwrap_or(&host);
        if name.is_empty() || name.contains(['/', '*', ' ', '@']) {
            let text = "expected a host, or a dot and the end of one".to_owned();
            checked.warn(&format!("noProxy[{at}]"), location.clone(), text);
        }
        hosts.push(host.trim_start_matches('[').trim_end_matches(']').to_owned());
    }
    hosts
}
