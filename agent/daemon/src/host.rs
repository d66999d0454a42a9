//! What the host is and can do, looked up and never configured.

use std::{
    fs::{self, OpenOptions},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use rap_agent_core::capability::HostFacts;
use rap_mesh_core::busy::MachineTimes;

/// CAP_NET_ADMIN's bit in the effective set (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;
/// Addresses that stand for "the internet" when asking for a route. Nothing is sent to them.
const INTERNET_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const INTERNET_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);
const MAX_ROUTES: usize = 4_096;

/// Looks at the host. `worker` is the stream worker's program; other adapters' programs are
/// looked for beside it.
pub(crate) fn facts(
    state_dir: &Path,
    worker: Option<&Path>,
    listens: bool,
    addresses: &[SocketAddr],
) -> HostFacts {
    let beside = |name: &str| {
        worker.and_then(Path::parent).is_some_and(|directory| directory.join(name).is_file())
    };
    let routes = Routes::read();
    HostFacts {
        listens,
        reachable: !addresses.is_empty(),
        default_route: routes.default,
        private_route: routes.private,
        tun_device: OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok(),
        net_admin: effective_capability(CAP_NET_ADMIN),
        forwarding: forwards(),
        rdp_worker: beside("rap-rdp-worker"),
        vnc_worker: beside("rap-vnc-worker"),
        free_bytes: free_bytes(state_dir),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Where other nodes reach this host: what was configured, or the addresses from which the host
/// would speak to the internet, or the listening address itself.
pub(crate) fn advertised(listen: SocketAddr, configured: &[SocketAddr]) -> Vec<SocketAddr> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    if !listen.ip().is_unspecified() {
        return vec![listen];
    }
    let sources = [INTERNET_V4, INTERNET_V6].into_iter().filter_map(source_towards);
    let sources = sources.filter(|ip| listen.is_ipv6() || ip.is_ipv4());
    sources.map(|ip| SocketAddr::new(ip, listen.port())).collect()
}

pub(crate) fn can_bind(listen: SocketAddr) -> bool {
    UdpSocket::bind(listen).is_ok()
}

fn source_towards(destination: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Connecting a UDP socket only looks the route up.
    socket.connect(destination).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Routes {
    default: bool,
    private: bool,
}

impl Routes {
    fn read() -> Self {
        let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
        let mut routes = Self::parse_v4(&v4);
        let of_v6 = Self::parse_v6(&v6);
        routes.default |= of_v6.default;
        routes.private |= of_v6.private;
        routes
    }

    /// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, addresses in hexadecimal and
    /// host byte order.
    fn parse_v4(text: &str) -> Self {
        let mut routes = Self::default();
        for line in text.lines().skip(1).take(MAX_ROUTES) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(destination), Some(flags), Some(mask)) =
                (hex(fields.get(1)), hex(fields.get(3)), hex(fields.get(7)))
            else {
                continue;
            };
            if flags & 1 == 0 {
                continue;
            }
            let destination = Ipv4Addr::from(destination.to_ne_bytes());
            routes.default |= mask == 0;
            routes.private |= mask != 0 && is_private_v4(destination);
        }
        routes
    }

    /// `destination prefix_length … flags interface`, everything in hexadecimal.
    fn parse_v6(text: &str) -> Self {
        const REJECT: u32 = 0x0200;
        let mut routes = Self::default();
        for line in text.lines().take(MAX_ROUTES) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(destination), Some(length), Some(flags), Some(interface)) = (
                fields.first().and_then(|text| u128::from_str_radix(text, 16).ok()),
                hex(fields.get(1)),
                hex(fields.get(8)),
                fields.get(9),
            ) else {
                continue;
            };
            if flags & REJECT != 0 || *interface == "lo" {
                continue;
            }
            routes.default |= length == 0;
            routes.private |= destination >> 121 == 0xfc >> 1;
        }
        routes
    }
}

fn hex(field: Option<&&str>) -> Option<u32> {
    u32::from_str_radix(field?, 16).ok()
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
    address.is_private() || shared || address.is_loopback()
}

fn effective_capability(bit: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_effective(&status).is_some_and(|set| set >> bit & 1 == 1)
}

fn parse_effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// What the machine's processors did since it started; `None` where the kernel does not say.
pub(crate) fn machine_times() -> Option<MachineTimes> {
    parse_times(&fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq and
/// steal; what follows is counted in the first two already.
fn parse_times(stat: &str) -> Option<MachineTimes> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|it| it.parse().ok()).collect();
    let idle = times.get(3)?.saturating_add(*times.get(4)?);
    Some(MachineTimes { idle, all: times.iter().fold(0, |all, one| all.saturating_add(*one)) })
}

/// The kernel forwards already, or this process may make it do so.
fn forwards() -> bool {
    const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
    let on = fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "1");
    on || OpenOptions::new().write(true).open(SWITCH).is_ok()
}

fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_machines_times_are_read_from_the_kernels_table() {
        let stat = "cpu  10 1 5 70 4 2 3 5 9 9\ncpu0 10 1 5 70 4 2 3 5 9 9\nintr 7\n";
        assert_eq!(parse_times(stat), Some(MachineTimes { idle: 74, all: 100 }));
        assert_eq!(parse_times("cpu  10 1 5\n"), None);
        assert_eq!(parse_times("nonsense"), None);
        assert_eq!(parse_times(""), None);
        assert!(machine_times().is_some_and(|times| times.all >= times.idle));
    }

    #[test]
    fn routes_are_read_from_the_kernels_tables() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
        let v4 = |line: &str| Routes::parse_v4(&format!("{head}{line}\n"));
        let word = |a, b, c, d| format!("{:08X}", u32::from_ne_bytes([a, b, c, d]));
        let default =
            v4(&format!("eth0\t00000000\t{}\t0003\t0\t0\t0\t00000000\t0", word(10, 0, 0, 1)));
        assert_eq!(default, Routes { default: true, private: false });
        let private = v4(&format!(
            "eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0",
            word(10, 1, 0, 0),
            word(255, 255, 0, 0)
        ));
        assert_eq!(private, Routes { default: false, private: true });
        let down = v4("eth0\t00000000\t00000000\t0000\t0\t0\t0\t00000000\t0");
        assert_eq!(down, Routes::default());
        assert_eq!(v4("nonsense"), Routes::default());

        let zero = "0".repeat(32);
        let line = |destination: &str, length: &str, flags: &str, interface: &str| {
            Routes::parse_v6(&format!(
                "{destination} {length} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {interface}"
            ))
        };
        assert!(line(&zero, "00", "00000003", "eth0").default);
        assert!(!line(&zero, "00", "00200200", "lo").default);
        let ula = format!("fd00{}", "0".repeat(28));
        assert!(line(&ula, "40", "00000001", "eth0").private);
        assert!(!line(&format!("2001{}", "0".repeat(28)), "40", "00000001", "eth0").private);
    }

    #[test]
    fn the_effective_set_is_read_from_proc() {
        let status = "Name:\tx\nCapEff:\t0000000000001000\nCapBnd:\t0\n";
        assert_eq!(parse_effective(status).unwrap() >> CAP_NET_ADMIN, 1);
        assert_eq!(parse_effective("Name: x"), None);
    }

    #[test]
    fn what_is_configured_is_advertised_else_what_listens() {
        let loopback = "127.0.0.1:4433".parse().unwrap();
        let named = "198.51.100.7:443".parse().unwrap();
        assert_eq!(advertised(loopback, &[named]), [named]);
        assert_eq!(advertised(loopback, &[]), [loopback]);
        for address in advertised("0.0.0.0:4433".parse().unwrap(), &[]) {
            assert!(!address.ip().is_unspecified() && address.is_ipv4());
        }
    }
}
