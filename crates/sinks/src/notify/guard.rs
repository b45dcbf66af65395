//! Which addresses a notification may be posted to. A tenant chooses the URL, and our network is not
//! the tenant's: private, loopback and link-local addresses are refused, by the address that is
//! connected to and not by the name, so that a name that changes its answer gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Url, dns};

/// Addresses that a name may have; more is nobody's web server.
const ADDRESSES_MAX: usize = 64;

/// What is allowed beyond public addresses by `https`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Loopback, private and carrier-grade addresses. Link-local ones, where clouds keep their
    /// credentials, are refused all the same.
    pub allow_private: bool,
    /// `http` without TLS.
    pub allow_http: bool,
}

/// An address or a scheme that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Forbidden(String);

impl Guard {
    /// Judges what the URL itself says; a name is judged when it is resolved.
    pub(super) fn check_url(self, url: &Url) -> Result<(), Forbidden> {
        if url.scheme() != "https" && !self.allow_http {
            return Err(Forbidden(
                "only https is called; WEBHOOK_ALLOW_HTTP=true allows http, for private networks"
                    .to_owned(),
            ));
        }
        // The parser has turned every spelling of an address (decimal, octal, short) into one.
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        literal.map_or(Ok(()), |ip| self.check_ip(ip))
    }

    /// Judges an address that would be connected to.
    pub(super) fn check_ip(self, ip: IpAddr) -> Result<(), Forbidden> {
        let (what, always) = match reach(ip) {
            Reach::Public => return Ok(()),
            Reach::Private(_) if self.allow_private => return Ok(()),
            Reach::Private(what) => (what, false),
            Reach::Never(what) => (what, true),
        };
        let hint = if always { "" } else { "; WEBHOOK_ALLOW_PRIVATE=true allows it" };
        Err(Forbidden(format!("{ip} is a {what} address, which no notification is sent to{hint}")))
    }
}

/// Who can be reached by an address.
enum Reach {
    Public,
    Private(&'static str),
    Never(&'static str),
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => reach_v4(inner),
            None => reach_v6(ip),
        },
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        _ if ip.is_loopback() => Reach::Private("loopback"),
        _ if ip.is_private() => Reach::Private("private"),
        [100, 64..=127, ..] => Reach::Private("carrier-grade"),
        _ if ip.is_link_local() => Reach::Never("link-local"),
        [0 | 240..=255, ..] | [192, 0, 0, _] | [198, 18..=19, ..] => Reach::Never("reserved"),
        _ if ip.is_multicast() => Reach::Never("multicast"),
        _ if ip.is_documentation() => Reach::Never("documentation"),
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        // Where AWS answers with an instance's credentials.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Reach::Never("metadata"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private("loopback"),
        [0xfc00..=0xfdff, ..] => Reach::Private("private"),
        [0xfe80..=0xfebf, ..] => Reach::Never("link-local"),
        [0xff00..=0xffff, ..] => Reach::Never("multicast"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Reach::Never("documentation"),
        // What the internet routes is 2000::/3, but for Teredo and the like at its start.
        [0x2001, 0..=0x01ff, ..] => Reach::Never("reserved"),
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never("reserved"),
    }
}

/// The IPv4 address inside: mapped, compatible, NAT64 or 6to4.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let two = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(two(high, low))
        }
        [0x2002, high, low, ..] => Some(two(high, low)),
        _ => None,
    }
}

/// Looks a name up.
#[async_trait::async_trait]
pub(super) trait Lookup: Send + Sync + 'static {
    /// Its addresses.
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// By the system's resolver.
pub(super) struct System;

#[async_trait::async_trait]
impl Lookup for System {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).take(ADDRESSES_MAX).collect())
    }
}

/// A resolver whose answers are judged before they are connected to: each connection looks its name up
/// once, and what was judged is what is connected to.
pub(super) struct Guarded {
    guard: Guard,
    lookup: Arc<dyn Lookup>,
}

impl Guarded {
    pub(super) fn new(guard: Guard, lookup: Arc<dyn Lookup>) -> Self {
        Self { guard, lookup }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, lookup) = (self.guard, self.lookup.clone());
        Box::pin(async move {
            let found = lookup.addresses(name.as_str()).await?;
            // One forbidden address among good ones is an attack, not a choice.
            for ip in &found {
                guard.check_ip(*ip)?;
            }
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as dns::Addrs as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(guard: Guard, ip: &str) -> bool {
        guard.check_ip(ip.parse().unwrap()).is_ok()
    }

    #[test]
    fn only_public_addresses_are_called() {
        let guard = Guard::default();
        for public in ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(allowed(guard, public), "{public}");
        }
        let inside = [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fc00::1",
            "fd12::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "::10.0.0.1",
        ];
        let never = [
            "169.254.169.254",
            "169.254.170.2",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "240.0.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
            "192.0.2.1",
        ];
        let open = Guard { allow_private: true, allow_http: true };
        for ip in inside {
            assert!(!allowed(guard, ip) && allowed(open, ip), "{ip}");
        }
        for ip in never {
            assert!(!allowed(guard, ip) && !allowed(open, ip), "{ip}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://127.0.0.1./",
        ] {
            let url = Url::parse(url).unwrap();
            assert!(Guard::default().check_url(&url).is_err(), "{url}");
        }
        let plain = Url::parse("http://example.com/").unwrap();
        assert!(Guard::default().check_url(&plain).is_err());
        assert!(Guard { allow_http: true, ..Guard::default() }.check_url(&plain).is_ok());
    }

    /// Answers by turns.
    struct Turning(std::sync::Mutex<Vec<Vec<IpAddr>>>);

    #[async_trait::async_trait]
    impl Lookup for Turning {
        async fn addresses(&self, _host: &str) -> std::io::Result<Vec<IpAddr>> {
            Ok(self.0.lock().unwrap().remove(0))
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_the_very_addresses_that_are_connected_to() {
        let public: IpAddr = "93.184.215.14".parse().unwrap();
        let inside: IpAddr = "10.0.0.1".parse().unwrap();
        let answers = vec![vec![public], vec![inside], vec![public, inside]];
        let lookup = Arc::new(Turning(std::sync::Mutex::new(answers)));
        let guarded = Guarded::new(Guard::default(), lookup);
        let ask = || guarded.resolve("rebinding.example".parse().unwrap());
        let found: Vec<_> = ask().await.ok().unwrap().collect();
        assert_eq!(found, [SocketAddr::new(public, 0)]);
        for _ in 0..2 {
            let refused = ask().await.err().expect("refused");
            assert!(refused.downcast_ref::<Forbidden>().is_some(), "{refused}");
        }
    }
}
