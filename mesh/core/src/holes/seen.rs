//! What is made of the addresses that relays see, and where a node knocks at all.

use std::net::{IpAddr, SocketAddr};

use rap_proto::wire::lane::{MAX_ADDRESSES, Mapping, Seen};

/// An entry's socket has a port of its kernel's choice, and no NAT makes one of those below of it
/// (RFC 4787, section 4.2): whoever names one means somebody else.
pub const LOWEST_PORT: u16 = 1024;

/// What relays that looked at one socket saw together. Where two of them, or two ports of one of them,
/// see different ports, the NAT gives each destination another.
pub fn seen(looks: &[SocketAddr]) -> Seen {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for look in looks {
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(look) {
            addresses.push(*look);
        }
    }
    let mapping = match looks {
        [] | [_] => Mapping::Unknown,
        [first, others @ ..] if others.iter().all(|one| one.port() == first.port()) => {
            Mapping::Steady
        }
        _ => Mapping::Symmetric,
    };
    Seen { addresses, mapping }
}

/// Whether a node that is seen as `own` knocks at an address that its peer named: at a single host
/// that can be as far away as it itself is, so that nobody makes it knock at its own network or
/// its own programs.
pub fn may_knock(own: &Seen, at: SocketAddr) -> bool {
    let scope = Scope::of(at.ip());
    at.port() != 0
        && scope.is_some()
        && own
            .addresses
            .iter()
            .any(|own| own.is_ipv4() == at.is_ipv4() && Scope::of(own.ip()) == scope)
}

/// The same for an egress, at an address of an entry's lane.
pub fn may_knock_for(own: &Seen, at: SocketAddr) -> bool {
    at.port() >= LOWEST_PORT && may_knock(own, at)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Host,
    Private,
    Global,
}

impl Scope {
    /// `None` is no single host, or one that no relay can see.
    const fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => {
                if ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_broadcast()
                    || ip.is_link_local()
                    || ip.octets()[0] == 0
                {
                    None
                } else if ip.is_loopback() {
                    Some(Self::Host)
                } else if ip.is_private() || is_shared(ip.octets()) {
                    Some(Self::Private)
                } else {
                    Some(Self::Global)
                }
            }
            IpAddr::V6(ip) => {
                if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() {
                    None
                } else if ip.is_loopback() {
                    Some(Self::Host)
                } else if ip.is_unique_local() {
                    Some(Self::Private)
                } else {
                    Some(Self::Global)
                }
            }
        }
    }
}

/// What carriers use behind their NATs (RFC 6598).
const fn is_shared(octets: [u8; 4]) -> bool {
    octets[0] == 100 && octets[1] & 0b1100_0000 == 64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn two_looks_tell_the_kind_and_one_does_not() {
        let (one, other) = (at("198.51.100.1:4000"), at("198.51.100.1:4001"));
        assert_eq!(seen(&[]), Seen::default());
        let once = Seen { addresses: vec![one], mapping: Mapping::Unknown };
        assert_eq!(seen(&[one]), once);
        assert_eq!(seen(&[one, one]), Seen { mapping: Mapping::Steady, ..once });
        let both = Seen { addresses: vec![one, other], mapping: Mapping::Symmetric };
        assert_eq!(seen(&[one, other, one]), both);
        // A relay in between sees the node's own network, and the same port.
        assert_eq!(seen(&[one, at("10.0.0.1:4000")]).mapping, Mapping::Steady);
        let many: Vec<SocketAddr> = (1..20).map(|port| SocketAddr::new(one.ip(), port)).collect();
        assert_eq!(seen(&many).addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn nobody_is_made_to_knock_at_his_own_network_or_at_many() {
        let (global, private) = (seen(&[at("198.51.100.1:1")]), seen(&[at("100.64.0.1:1")]));
        assert!(may_knock(&global, at("203.0.113.9:4433")));
        assert!(may_knock(&private, at("192.168.1.1:4433")));
        for no in [
            "127.0.0.1:4433",
            "10.0.0.1:4433",
            "100.64.0.1:4433",
            "169.254.1.1:4433",
            "224.0.0.1:4433",
            "255.255.255.255:4433",
            "0.0.0.0:4433",
            "0.1.2.3:4433",
            "203.0.113.9:0",
            "[2001:db8::1]:4433",
            "[::1]:4433",
            "[fe80::1]:4433",
            "[ff02::1]:4433",
        ] {
            assert!(!may_knock(&global, at(no)), "{no}");
        }
        assert!(!may_knock(&private, at("203.0.113.9:4433")));
        let v6 = seen(&[at("[2001:db8::1]:1")]);
        assert!(may_knock(&v6, at("[2001:db8::2]:4433")) && !may_knock(&v6, at("[fd00::2]:4433")));
        assert!(!may_knock(&Seen::default(), at("203.0.113.9:4433")), "unseen, it knocks nowhere");
    }

    #[test]
    fn an_egress_knocks_at_no_port_of_a_service() {
        let own = seen(&[at("198.51.100.1:443")]);
        assert!(may_knock(&own, at("203.0.113.9:443")), "a node may listen there");
        assert!(!may_knock_for(&own, at("203.0.113.9:1023")));
        assert!(may_knock_for(&own, at("203.0.113.9:1024")));
    }
}
