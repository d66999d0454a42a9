//! What is made of the addresses that relays see, and where a node knocks at all.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rap_proto::wire::lane::{MAX_ADDRESSES, Mapping, Seen};

/// An entry's socket has a port of its kernel's choice, and no NAT makes one of those below of it
/// (RFC 4787, section 4.2): whoever names one means somebody else.
pub const LOWEST_PORT: u16 = 1024;

/// What relays that looked at one socket saw together. Where two of them, or two ports of one of them,
/// see different ports, the NAT gives each destination another.
pub fn seen(looks: &[SocketAddr]) -> Seen {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    // Who is seen in public is not reached in a network of its own, and tells nobody of it.
    let is_global = |look: &&SocketAddr| Scope::of(look.ip()) == Some(Scope::Global);
    let in_public = looks.iter().any(|look| is_global(&look));
    for look in looks.iter().filter(|look| !in_public || is_global(look)) {
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

/// Whether a relay that was reached at `relay` can see a node at `at`: nobody is seen from another
/// kind of network than the one that he came through.
pub fn may_be_seen_from(relay: IpAddr, at: SocketAddr) -> bool {
    let scope = Scope::of(at.ip());
    at.port() != 0
        && scope.is_some()
        && relay.is_ipv4() == at.is_ipv4()
        && Scope::of(relay) == scope
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
                if ip.is_multicast()
                    || ip.is_unicast_link_local()
                    || (stands_for_v4(ip) && !ip.is_loopback())
                {
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

/// Mapped and compatible (RFC 4291, section 2.5.5, with the unspecified address), NAT64 (RFC 6052,
/// RFC 8215), 6to4 (RFC 3056) and Teredo (RFC 4380): what it leads to is an IPv4 address.
const fn stands_for_v4(ip: Ipv6Addr) -> bool {
    matches!(
        ip.segments(),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..]
    )
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
        let mixed = seen(&[one, at("10.0.0.1:4000")]);
        assert_eq!(mixed, Seen { addresses: vec![one], mapping: Mapping::Steady });
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
            "[::ffff:10.0.0.1]:4433",
        ] {
            assert!(!may_knock(&global, at(no)), "{no}");
        }
        assert!(!may_knock(&private, at("203.0.113.9:4433")));
        let v6 = seen(&[at("[2001:db8::1]:1")]);
        assert!(may_knock(&v6, at("[2001:db8::2]:4433")) && !may_knock(&v6, at("[fd00::2]:4433")));
        for no in [
            "[::]:4433",
            "[::ffff:127.0.0.1]:4433",
            "[::ffff:203.0.113.9]:4433",
            "[::10.0.0.5]:4433",
            "[64:ff9b::a00:5]:4433",
            "[64:ff9b:1::1]:4433",
            "[2002:a00:5::1]:4433",
            "[2001:0:a00:5::1]:4433",
        ] {
            assert!(!may_knock(&v6, at(no)), "{no}");
        }
        assert!(!may_knock(&Seen::default(), at("203.0.113.9:4433")), "unseen, it knocks nowhere");
    }

    #[test]
    fn a_relay_sees_nobody_in_another_kind_of_network_than_its_own() {
        let [public, private, own] =
            ["198.51.100.7:1", "10.0.0.7:1", "127.0.0.1:1"].map(|text| at(text).ip());
        assert!(may_be_seen_from(public, at("203.0.113.9:4433")));
        assert!(may_be_seen_from(private, at("192.168.1.1:4433")));
        assert!(may_be_seen_from(own, at("127.0.0.1:4433")));
        for (relay, seen) in [
            (public, "10.0.0.5:4433"),
            (public, "127.0.0.1:4433"),
            (private, "127.0.0.1:4433"),
            (private, "203.0.113.9:4433"),
            (public, "203.0.113.9:0"),
            (public, "[2001:db8::1]:4433"),
            (public, "169.254.169.254:80"),
        ] {
            assert!(!may_be_seen_from(relay, at(seen)), "{relay} {seen}");
        }
    }

    #[test]
    fn an_egress_knocks_at_no_port_of_a_service() {
        let own = seen(&[at("198.51.100.1:443")]);
        assert!(may_knock(&own, at("203.0.113.9:443")), "a node may listen there");
        assert!(!may_knock_for(&own, at("203.0.113.9:1023")));
        assert!(may_knock_for(&own, at("203.0.113.9:1024")));
    }
}
