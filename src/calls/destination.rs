//! Where a call goes, and the way there: secured as the replica says, and through its forward proxy where it has one.

use std::{fmt, net::IpAddr, sync::Arc};

use super::ForwardProxy;
use crate::{
    document::{
        address::{Scheme, WebAddress},
        hash::Stable,
    },
    tls::ClientContext,
};

type Secure = dyn Fn(&str) -> Result<ClientContext, String> + Send + Sync;

/// What a configuration says of all calls. The default secures nothing, and so reaches nobody over https.
#[derive(Default)]
pub struct Ways {
    /// How a host is dialled over TLS; `None`: in no way that works.
    pub secure: Option<Box<Secure>>,
    pub proxy: Option<Arc<ForwardProxy>>,
    /// Values of headers are told as text alone.
    pub text_header_values: bool,
}

/// One server, as it is to be reached.
pub struct Destination {
    pub address: WebAddress,
    /// Without it nothing is sent over https.
    pub tls: Option<Arc<ClientContext>>,
    /// Why there is none, where that is this destination's own fault.
    pub insecure: Option<String>,
    pub proxy: Option<Arc<ForwardProxy>>,
    /// The address came from outside: private addresses are not called.
    pub is_foreign: bool,
    ways: Arc<Ways>,
}

impl Destination {
    pub fn new(address: WebAddress, ways: &Arc<Ways>) -> Self {
        let (mut tls, mut insecure) = (None, None);
        if address.secure {
            match ways.secure.as_ref().map(|secure| secure(&address.endpoint.host)) {
                Some(Ok(context)) => tls = Some(Arc::new(context)),
                Some(Err(why)) => insecure = Some(why),
                None => {}
            }
        }
        let proxy = ways.proxy.as_ref().filter(|proxy| proxy.carries(&address.endpoint.host)).cloned();
        Self { address, tls, insecure, proxy, is_foreign: false, ways: ways.clone() }
    }

    /// One that this one has named: a document that was fetched, say. It is no way into the network that we stand in, unless it
    /// is the same server.
    pub fn named_by_it(&self, address: WebAddress) -> Self {
        let is_same = address.secure == self.address.secure && address.endpoint == self.address.endpoint;
        Self { is_foreign: self.is_foreign || !is_same, ..Self::new(address, &self.ways) }
    }

    /// `https://host:port`: no path and no query.
    pub fn origin(&self) -> String {
        let scheme = if self.address.secure { Scheme::Https } else { Scheme::Http };
        format!("{scheme}://{}", self.address.authority)
    }

    /// Of everything that makes connections of one kind another's.
    pub fn identity(&self) -> u64 {
        let proxy = self.proxy.as_ref().map_or(0, |proxy| proxy.identity());
        let tls = self.tls.as_ref().map_or(0, |tls| tls.identity);
        let identity = Stable::new().text(&self.origin()).number(tls).number(u64::from(self.tls.is_some()));
        identity.number(proxy).number(u64::from(self.is_foreign)).finish()
    }
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.identity() == other.identity()
    }
}

/// Whether an address is of this host or of a network that is nobody else's: RFC 6890 for both versions.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_broadcast()
                || address.is_multicast()
                || address.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b))
        }
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                // Site-local (RFC 3879), documentation, and IPv4 inside of IPv6 (RFC 6052, 3056): any network may be behind it.
                || first & 0xffc0 == 0xfec0
                || (first == 0x2001 && second == 0x0db8)
                || (first == 0x0064 && second == 0xff9b)
                || first == 0x2002
                || address.segments()[..6] == [0; 6]
        }
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(text: &str) -> WebAddress {
        WebAddress::parse(text).expect("an address")
    }

    #[test]
    fn addresses_of_no_public_network_are_known() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(is_private(text.parse().expect("an address")), "{text}");
        }
        for text in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(!is_private(text.parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn connections_of_other_ways_are_others() {
        let plain = Destination::new(web("http://a.test/x?k=secret"), &Arc::default());
        assert_eq!(plain.identity(), Destination::new(web("http://a.test/y"), &Arc::default()).identity());
        assert_ne!(plain.identity(), Destination::new(web("http://a.test:81/"), &Arc::default()).identity());
        let named = |url: &str| plain.named_by_it(web(url));
        assert_eq!(plain.identity(), named("http://A.test:80/z").identity());
        for url in ["http://b.test/", "http://a.test:81/", "https://a.test:80/"] {
            assert!(named(url).is_foreign && named(url).named_by_it(web(url)).is_foreign, "{url}");
            assert_ne!(named(url).identity(), Destination::new(web(url), &Arc::default()).identity(), "{url}");
        }
        let shown = format!("{plain:?} {}", plain.origin());
        assert_eq!(shown, "Destination(http://a.test/x?***) http://a.test");
        let refusing = Ways { secure: Some(Box::new(|_| Err("no".to_owned()))), ..Ways::default() };
        let of = |ways: Ways| Destination::new(web("https://a.test/"), &Arc::new(ways));
        assert_eq!((of(refusing).insecure.as_deref(), of(Ways::default()).insecure), (Some("no"), None));
    }
}
