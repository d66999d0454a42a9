//! What a host can do, from facts that the shell found out. Never configured, never a permission.

use std::collections::BTreeSet;

use rap_proto::Capability;

/// The free space that a file cache needs.
pub const FILE_CACHE_BYTES: u64 = 10 << 30;
/// The free space that an update cache needs.
pub const UPDATE_CACHE_BYTES: u64 = 5 << 30;
/// The processors that relaying video needs.
pub const VIDEO_RELAY_CPUS: usize = 2;

/// What was seen on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// A UDP socket can be bound, or is, where the endpoint listens.
    pub listens: bool,
    /// Some address that others were told is not a loopback address, or all of the host's are.
    pub reachable: bool,
    /// Some route leads to the whole internet.
    pub default_route: bool,
    /// Some route leads to a private, loopback or link-local network.
    pub private_route: bool,
    /// `/dev/net/tun` can be opened.
    pub tun_device: bool,
    /// The effective capability set holds CAP_NET_ADMIN.
    pub net_admin: bool,
    /// The kernel forwards packets, or this process may tell it to.
    pub forwarding: bool,
    /// The programs of adapters that are installed beside the agent.
    pub rdp_worker: bool,
    pub vnc_worker: bool,
    pub free_bytes: u64,
    pub cpus: usize,
}

pub fn capabilities(facts: &HostFacts) -> BTreeSet<Capability> {
    let serves = facts.listens && facts.reachable;
    let tunnels = facts.tun_device && facts.net_admin;
    Capability::ALL
        .iter()
        .copied()
        .filter(|capability| match capability {
            Capability::AcceptClientIngress
            | Capability::AcceptNodeIngress
            | Capability::RouteMesh => serves,
            Capability::EgressInternet => facts.default_route,
            Capability::EgressPrivateNetwork => facts.private_route,
            Capability::RunRdpWorker => facts.rdp_worker,
            Capability::RunVncWorker => facts.vnc_worker,
            Capability::RunVpnConnector => tunnels,
            Capability::RunVpnExit => tunnels && facts.forwarding && facts.default_route,
            Capability::RunFileCache => facts.free_bytes >= FILE_CACHE_BYTES,
            Capability::RunUpdateCache => facts.free_bytes >= UPDATE_CACHE_BYTES,
            Capability::RunVideoRelay => serves && facts.cpus >= VIDEO_RELAY_CPUS,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> HostFacts {
        HostFacts {
            listens: true,
            reachable: true,
            default_route: true,
            private_route: true,
            tun_device: true,
            net_admin: true,
            forwarding: true,
            rdp_worker: true,
            vnc_worker: true,
            free_bytes: FILE_CACHE_BYTES,
            cpus: VIDEO_RELAY_CPUS,
        }
    }

    #[test]
    fn a_bare_host_can_do_nothing_and_a_full_one_everything() {
        assert_eq!(capabilities(&HostFacts::default()), BTreeSet::new());
        assert_eq!(capabilities(&all()).len(), Capability::ALL.len());
    }

    #[test]
    fn each_missing_fact_takes_its_own_capabilities_away() {
        use Capability::{
            AcceptClientIngress, AcceptNodeIngress, EgressInternet, EgressPrivateNetwork,
            RouteMesh, RunFileCache, RunRdpWorker, RunUpdateCache, RunVideoRelay, RunVncWorker,
            RunVpnConnector, RunVpnExit,
        };
        let serving = [AcceptClientIngress, AcceptNodeIngress, RouteMesh, RunVideoRelay];
        let check = |change: fn(&mut HostFacts), gone: &[Capability]| {
            let mut facts = all();
            change(&mut facts);
            let have = capabilities(&facts);
            let missing: BTreeSet<_> =
                Capability::ALL.iter().copied().filter(|one| !have.contains(one)).collect();
            assert_eq!(missing, gone.iter().copied().collect());
        };
        check(|facts| facts.listens = false, &serving);
        check(|facts| facts.reachable = false, &serving);
        check(|facts| facts.default_route = false, &[EgressInternet, RunVpnExit]);
        check(|facts| facts.private_route = false, &[EgressPrivateNetwork]);
        check(|facts| facts.tun_device = false, &[RunVpnExit, RunVpnConnector]);
        check(|facts| facts.net_admin = false, &[RunVpnExit, RunVpnConnector]);
        check(|facts| facts.forwarding = false, &[RunVpnExit]);
        check(|facts| facts.rdp_worker = false, &[RunRdpWorker]);
        check(|facts| facts.vnc_worker = false, &[RunVncWorker]);
        check(|facts| facts.free_bytes = UPDATE_CACHE_BYTES, &[RunFileCache]);
        check(|facts| facts.free_bytes = 0, &[RunFileCache, RunUpdateCache]);
        check(|facts| facts.cpus = 1, &[RunVideoRelay]);
    }
}
