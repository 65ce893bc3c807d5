//! `spec.forwardProxy`: who carries what goes to upstream services and what policies call, and what goes without it. Shared
//! storage and directories never go through it.
//!
//! A proxy is often the border of a network: where it cannot be used as it is written, and what is sound may serve all the same,
//! what it would carry reaches nobody.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{
    effective::Sections,
    resources::{self, Resources},
    setting::Checked,
    settings::Settings,
    tls::{Outbound, calls},
};
use crate::{
    calls::{ForwardProxy, ProxyServer, Ways, forward_proxy::spelt},
    document::{address::WebAddress, node::Located, problem::Problem},
};

/// Hosts that may be named.
const NO_PROXY_MAX: usize = 256;

/// How what leaves this replica leaves it: through the proxy, and the calls of policies secured by `defaultTLS`.
pub fn ways(
    sections: &Sections,
    settings: &Settings,
    resources: &Resources,
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Arc<Ways> {
    let outbound = calls::read(sections, &resources.secrets, files, problems);
    let mut proxy = proxy(sections, outbound.as_ref(), problems);
    if resources.refused_forward_proxy {
        // Another one, of a sound document, is not who was meant.
        proxy = Some(ForwardProxy { server: None, no_proxy: Vec::new() });
    }
    let secure = outbound.map(|outbound| {
        let secure = move |host: &str| outbound.clone().context(host);
        Box::new(secure) as Box<_>
    });
    Arc::new(Ways { secure, proxy: proxy.map(Arc::new), text_header_values: !settings.raw_header_values })
}

/// `None`: nobody is to carry anything.
fn proxy(sections: &Sections, outbound: Option<&Outbound>, problems: &mut Vec<Problem>) -> Option<ForwardProxy> {
    let (location, is_whole) = sections.written::<resources::ForwardProxy>("forwardProxy")?;
    let (resources::ForwardProxy { https, no_proxy }, path) = sections.section("forwardProxy");
    let mut checked = Checked { path, problems };
    let no_proxy = hosts(&no_proxy, &mut checked);
    if https.is_none() && is_whole {
        checked.error("https", location.clone(), "nobody is named to carry anything".to_owned());
    }
    let server = https.and_then(|https| server(https, outbound, &mut checked)).filter(|_| is_whole);
    Some(ForwardProxy { server, no_proxy })
}

fn server(
    written: resources::HttpsProxy,
    outbound: Option<&Outbound>,
    checked: &mut Checked<'_>,
) -> Option<ProxyServer> {
    let resources::HttpsProxy { address: Located { value: text, location }, basic_auth } = written;
    let mut refuse = |why: String| {
        checked.error("https.address", location.clone(), why);
        None
    };
    let address = match WebAddress::parse(&text) {
        Ok(address) if address.target == "/" => address,
        Ok(_) => return refuse("a proxy has no path and no query".to_owned()),
        Err(why) => return refuse(why),
    };
    let tls = match (address.secure, outbound) {
        (false, _) => None,
        // What is wrong with `defaultTLS` is told there.
        (true, None) => return None,
        (true, Some(outbound)) => match outbound.clone().context(&address.endpoint.host) {
            Ok(context) => Some(Arc::new(context)),
            Err(why) => return refuse(why),
        },
    };
    let authorization = basic_auth.map(|user| {
        let pair = format!("{}:{}", user.username, user.password);
        format!("Basic {}", BASE64.encode(pair))
    });
    Some(ProxyServer { address, tls, authorization })
}

fn hosts(written: &[Located<String>], checked: &mut Checked<'_>) -> Vec<String> {
    if let Some(first) = written.get(NO_PROXY_MAX) {
        let text = format!("more than {NO_PROXY_MAX} hosts: this one and those behind it would be carried");
        checked.error("noProxy", first.location.clone(), text);
    }
    let mut hosts = Vec::new();
    for (at, Located { value, location }) in written.iter().enumerate().take(NO_PROXY_MAX) {
        let host = spelt(value.trim());
        let name = host.strip_prefix('.').unwrap_or(&host);
        let has_port = name.contains(':') && name.parse::<IpAddr>().is_err();
        if name.is_empty() || has_port || name.contains(['/', '*', ' ', '@']) {
            let text = "no effect: expected a host without a port, or a dot and the end of one".to_owned();
            checked.warn(&format!("noProxy[{at}]"), location.clone(), text);
        }
        hosts.push(host);
    }
    hosts
}
