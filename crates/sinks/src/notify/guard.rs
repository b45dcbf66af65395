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
    /// Loopback, private and carrier-grade addresses. Those where clouds keep their credentials,
    /// link-local ones among them, are refused all the same.
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

/// By IANA's registry of special-purpose addresses.
fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        // Where Alibaba answers with an instance's credentials.
        [100, 100, 100, 200] => Reach::Never("metadata"),
        _ if ip.is_loopback() => Reach::Private("loopback"),
        _ if ip.is_private() => Reach::Private("private"),
        [100, 64..=127, ..] => Reach::Private("carrier-grade"),
        _ if ip.is_link_local() => Reach::Never("link-local"),
        // 192.88.99.0/24 was the anycast of 6to4: it led to whoever answered.
        [0 | 240..=255, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => {
            Reach::Never("reserved")
        }
        _ if ip.is_multicast() => Reach::Never("multicast"),
        _ if ip.is_documentation() => Reach::Never("documentation"),
        _ => Reach::Public,
    }
}

/// Likewise.
fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        // Where AWS and Google answer with an instance's credentials.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..] => Reach::Never("metadata"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private("loopback"),
        [0xfc00..=0xfdff, ..] => Reach::Private("private"),
        // A network's own translation to IPv4, with its prefix length not known here.
        [0x0064, 0xff9b, 1, ..] => Reach::Never("translated"),
        [0xfe80..=0xfebf, ..] => Reach::Never("link-local"),
        [0xff00..=0xffff, ..] => Reach::Never("multicast"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Reach::Never("documentation"),
        // What the internet routes is 2000::/3, but for Teredo and the like at its start.
        [0x2001, 0..=0x01ff, ..] => Reach::Never("reserved"),
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never("reserved"),
    }
}

/// The IPv4 address inside: mapped, translated, compatible, NAT64 or 6to4.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let two = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(two(high, low)),
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

    /// First and last address of a network, whom it reaches, and what it is called where it is refused.
    const NETWORKS: [(&str, &str, &str); 58] = [
        ("0.0.0.0", "0.255.255.255", "never reserved"),
        ("10.0.0.0", "10.255.255.255", "private private"),
        ("100.64.0.0", "100.100.100.199", "private carrier-grade"),
        ("100.100.100.200", "100.100.100.200", "never metadata"),
        ("100.100.100.201", "100.127.255.255", "private carrier-grade"),
        ("127.0.0.0", "127.255.255.255", "private loopback"),
        ("169.254.0.0", "169.254.255.255", "never link-local"),
        ("172.16.0.0", "172.31.255.255", "private private"),
        ("192.0.0.0", "192.0.0.255", "never reserved"),
        ("192.0.2.0", "192.0.2.255", "never documentation"),
        ("192.88.99.0", "192.88.99.255", "never reserved"),
        ("192.168.0.0", "192.168.255.255", "private private"),
        ("198.18.0.0", "198.19.255.255", "never reserved"),
        ("198.51.100.0", "198.51.100.255", "never documentation"),
        ("203.0.113.0", "203.0.113.255", "never documentation"),
        ("224.0.0.0", "239.255.255.255", "never multicast"),
        ("240.0.0.0", "255.255.255.255", "never reserved"),
        // Just outside of the above.
        ("1.0.0.0", "9.255.255.255", "public"),
        ("11.0.0.0", "100.63.255.255", "public"),
        ("100.128.0.0", "126.255.255.255", "public"),
        ("128.0.0.0", "169.253.255.255", "public"),
        ("169.255.0.0", "172.15.255.255", "public"),
        ("172.32.0.0", "191.255.255.255", "public"),
        ("192.0.1.0", "192.0.1.255", "public"),
        ("192.88.98.255", "192.88.100.0", "public"),
        ("192.167.255.255", "192.169.0.0", "public"),
        ("198.17.255.255", "198.20.0.0", "public"),
        ("203.0.112.255", "203.0.114.0", "public"),
        ("223.255.255.255", "223.255.255.255", "public"),
        ("::", "::", "never reserved"),
        ("::1", "::1", "private loopback"),
        // An IPv4 address inside: compatible, mapped, translated, NAT64, 6to4.
        ("::10.0.0.0", "::10.255.255.255", "private private"),
        ("::ffff:10.0.0.0", "::ffff:10.255.255.255", "private private"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "private loopback"),
        ("::ffff:169.254.0.0", "::ffff:169.254.255.255", "never link-local"),
        ("::ffff:100.100.100.200", "::ffff:100.100.100.200", "never metadata"),
        ("::ffff:0:169.254.169.254", "::ffff:0:169.254.169.254", "never link-local"),
        ("64:ff9b::10.0.0.0", "64:ff9b::10.255.255.255", "private private"),
        ("64:ff9b::169.254.169.254", "64:ff9b::169.254.169.254", "never link-local"),
        ("64:ff9b::1.1.1.1", "64:ff9b::1.1.1.1", "public"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "never translated"),
        ("2002:a00::", "2002:aff:ffff:ffff:ffff:ffff:ffff:ffff", "private private"),
        ("2002:a9fe:a9fe::", "2002:a9fe:a9fe:ffff:ffff:ffff:ffff:ffff", "never link-local"),
        ("2002:101:101::", "2002:101:101::", "public"),
        ("100::", "100::ffff:ffff:ffff:ffff", "never reserved"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "never reserved"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "never documentation"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "never documentation"),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "never reserved"),
        ("fc00::", "fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private private"),
        ("fd00:ec2::", "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff", "never metadata"),
        ("fd20:ce::", "fd20:ce:ffff:ffff:ffff:ffff:ffff:ffff", "never metadata"),
        ("fd00:ec1:ffff::", "fd00:ec3::", "private private"),
        ("fdff::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private private"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "never link-local"),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "never reserved"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "never multicast"),
        ("2606:4700::1111", "2a00:1450:4001::200e", "public"),
    ];

    #[test]
    fn only_public_addresses_are_called_at_both_ends_of_every_special_network() {
        let (closed, open) = (Guard::default(), Guard { allow_private: true, allow_http: true });
        for (first, last, reaches) in NETWORKS {
            let (who, what) = reaches.split_once(' ').unwrap_or((reaches, ""));
            for ip in [first, last] {
                assert_eq!(allowed(closed, ip), who == "public", "{ip}");
                assert_eq!(allowed(open, ip), who != "never", "{ip}");
                let told = closed.check_ip(ip.parse().unwrap()).err();
                let told = told.map_or_else(String::new, |forbidden| forbidden.to_string());
                assert!(told.contains(what), "{ip}: {told} lacks {what}");
            }
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
