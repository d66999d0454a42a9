//! Which hosts and addresses a worker may dial.
//!
//! A target is a name that somebody configured; what it resolves to is decided by whoever
//! answers the DNS question at that moment. So the rule is applied to the address, after
//! resolution, and the address that was checked is the one that is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rap_proto::RefusalCode;

use crate::limit::MAX_HOST_BYTES;

/// Where cloud providers answer with a machine's credentials or configuration. Never dialled.
const METADATA_V4: [Ipv4Addr; 7] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether `address` may be dialled for a target that allows local addresses or not.
///
/// Refused for every target: unspecified, multicast, broadcast and reserved addresses and
/// metadata services. Refused unless `allow_local`: loopback and link-local addresses. An IPv6
/// address that stands for an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo) is judged
/// as that address too.
pub fn check_address(address: IpAddr, allow_local: bool) -> Result<(), RefusalCode> {
    let allowed = match address {
        IpAddr::V4(address) => allows_v4(address, allow_local),
        IpAddr::V6(address) => allows_v6(address, allow_local),
    };
    if allowed { Ok(()) } else { Err(RefusalCode::AddressNotAllowed) }
}

/// Whether `host` is in the form of a DNS name or an IP address: letters, digits, hyphens,
/// underscores, dots and colons, at most [`MAX_HOST_BYTES`]. Colons stand in IPv6 addresses only.
pub fn check_host(host: &str) -> Result<(), RefusalCode> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':');
    let well_formed = !host.is_empty()
        && host.len() <= MAX_HOST_BYTES
        && host.bytes().all(allowed)
        && !host.starts_with(['-', '.'])
        && (!host.contains(':') || host.parse::<Ipv6Addr>().is_ok());
    if well_formed { Ok(()) } else { Err(RefusalCode::Malformed) }
}

fn allows_v4(address: Ipv4Addr, allow_local: bool) -> bool {
    let never =
        address.octets()[0] == 0 || address.octets()[0] >= 224 || METADATA_V4.contains(&address);
    let local = address.is_loopback() || address.is_link_local();
    !never && (allow_local || !local)
}

fn allows_v6(address: Ipv6Addr, allow_local: bool) -> bool {
    let never = address.is_unspecified()
        || address.is_multicast()
        || METADATA_V6.contains(&address)
        || is_local_nat64(address);
    let local = address.is_loopback() || address.is_unicast_link_local();
    if address.is_loopback() {
        // Its last four bytes would otherwise read as the unspecified IPv4 network.
        return allow_local;
    }
    !never
        && (allow_local || !local)
        && embedded_v4(address).is_none_or(|inner| allows_v4(inner, allow_local))
}

/// The prefix that RFC 8215 leaves to each network: where in it an IPv4 address stands is known
/// to that network alone, so none of it is dialled.
fn is_local_nat64(address: Ipv6Addr) -> bool {
    address.segments()[..3] == [0x64, 0xff9b, 1]
}

/// The IPv4 address that packets to `address` may end up at.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // Mapped (RFC 4291, 2.5.5.2), compatible (2.5.5.1), translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(from(high, low)),
        // Teredo (RFC 4380): the client's address, all bits inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(from(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
