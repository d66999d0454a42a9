//! NATs in front of the lab's hosts, of the kinds that there are in the world (RFC 4787), and the
//! roads between them.
//!
//! A NAT is the host's own packet filter. Whatever leaves for other nodes has the address of the cable
//! that it leaves on; a port is kept, but by a symmetric one. What comes in and answers nothing is dropped,
//! or sent on to the host as the kind says.

use std::net::Ipv4Addr;

use crate::{Lab, NODE_PORT, Space};

use Space::{Egress, Entry, Relay, Spare};

/// What a NAT lets in, and which ports it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// One port for all destinations, and everybody may send to it.
    FullCone,
    /// The same, for hosts that were written to.
    AddressRestricted,
    /// For the ports of hosts that were written to.
    PortRestricted,
    /// Each destination sees another port, and may send there alone.
    Symmetric,
}

/// The cables to other nodes.
const OUTSIDE: &str = "{ entry, relay, spare, egress }";
/// What a relay's own sockets receive besides what goes to its port.
const CARRIED: &str = "\
table inet carried {
    counter datagrams { }
    chain input {
        type filter hook input priority 0; policy accept;
        meta l4proto udp udp dport != 443 counter name datagrams;
    }
}
";

impl Nat {
    pub const ALL: [Self; 4] =
        [Self::FullCone, Self::AddressRestricted, Self::PortRestricted, Self::Symmetric];

    fn rules(self, own: Ipv4Addr) -> String {
        // A port below 1024 would be given another one below 512 alone, and now and then its own.
        let ports = if self == Self::Symmetric {
            "meta l4proto { tcp, udp } masquerade to :1024-65535 fully-random"
        } else {
            "masquerade"
        };
        let inwards = format!("iifname {OUTSIDE} udp dport {{ {NODE_PORT}, 1024-65535 }}");
        let inwards = match self {
            Self::FullCone => format!("{inwards} dnat ip to {own};"),
            Self::AddressRestricted => format!("{inwards} ip saddr @known dnat ip to {own};"),
            Self::PortRestricted | Self::Symmetric => String::new(),
        };
        // The first two lines, so that the third replaces whatever was there.
        format!(
            "table inet nat {{ }}
            delete table inet nat
            table inet nat {{
                set known {{ type ipv4_addr; flags dynamic, timeout; timeout 2m; }}
                chain prerouting {{
                    type nat hook prerouting priority -100; policy accept;
                    {inwards}
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100; policy accept;
                    oifname {OUTSIDE} {ports};
                }}
                chain output {{
                    type filter hook output priority 0; policy accept;
                    oifname {OUTSIDE} meta nfproto ipv4 add @known {{ ip daddr }};
                }}
                chain input {{
                    type filter hook input priority 0; policy accept;
                    ct status dnat accept;
                    iifname {OUTSIDE} ct state new drop;
                }}
            }}"
        )
    }
}

impl Lab {
    /// Puts a host behind a NAT, in the place of the one that it is behind. Flows that are there keep
    /// their ports.
    pub fn put_behind(&self, space: Space, nat: Nat) -> Result<(), String> {
        self.run(space, "nft", &[&nat.rules(space.address())])
    }

    /// Lets entry and egress send to the addresses that each other's NAT has on its cable to the
    /// relay, over the relay's kernel.
    pub fn join_outsides(&self) -> Result<(), String> {
        self.open_relay()?;
        for (from, to) in [(Entry, Egress), (Egress, Entry)] {
            self.reach_outside(from, Relay, (to, Relay))?;
        }
        Ok(())
    }

    /// Puts the NAT of an entry or egress behind another one, that of `spare`: what leaves for other nodes
    /// passes both. No node may run on `spare`. Its road to the other side leads over the relay's kernel, which
    /// has to be open ([`Lab::open_relay`]).
    pub fn put_behind_another(&self, space: Space, inner: Nat, outer: Nat) -> Result<(), String> {
        let far = if space == Egress { Entry } else { Egress };
        self.put_behind(space, inner)?;
        self.run(Spare, "sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
        let ports = if outer == Nat::Symmetric { "masquerade fully-random" } else { "masquerade" };
        // Whatever comes for the outer NAT and answers nothing is for its own host, where nobody
        // listens.
        let rules = format!(
            "table inet nat {{ }}
            delete table inet nat
            table inet nat {{
                chain postrouting {{
                    type nat hook postrouting priority 100; policy accept;
                    oifname relay {ports};
                }}
                chain input {{
                    type filter hook input priority 0; policy accept;
                    iifname relay ct state new drop;
                }}
                chain forward {{
                    type filter hook forward priority 0; policy accept;
                    iifname relay ct state new drop;
                }}
            }}"
        );
        self.run(Spare, "nft", &[&rules])?;
        let (relay, over) = (Relay.address().to_string(), self.neighbour(space, Spare)?);
        let own = space.address().to_string();
        self.ip(space, &["route", "replace", &relay, "via", &over, "src", &own])?;
        // One road in and out: the outer NAT has one address.
        for (from, over) in [(Spare, Relay), (space, Spare)] {
            self.reach_outside(from, over, (far, Relay))?;
        }
        self.reach_outside(far, Relay, (Spare, Relay))
    }

    /// A host's NAT forgets what nothing passed for so long, in one direction or in both.
    pub fn forget_after(&self, space: Space, seconds: u32) -> Result<(), String> {
        for what in ["udp_timeout", "udp_timeout_stream"] {
            let setting = format!("net.netfilter.nf_conntrack_{what}={seconds}");
            self.run(space, "sysctl", &["-qw", &setting])?;
        }
        Ok(())
    }

    /// Closes the roads that [`Lab::join_outsides`] opened, for as long as nobody opens them again.
    pub fn part_outsides(&self) -> Result<(), String> {
        let rules = "table inet parted {
            chain forward { type filter hook forward priority 0; policy drop; }
        }";
        self.run(Relay, "nft", &[rules])
    }

    /// Counts the relay's datagrams from now on, for [`Lab::carried`].
    pub fn count_carried(&self, space: Space) -> Result<(), String> {
        self.run(space, "nft", &[CARRIED])
    }

    /// How many bytes of datagrams came to a relay's flows.
    ///
    /// # Panics
    /// When they are not counted.
    pub fn carried(&self, space: Space) -> u64 {
        self.counted(space, "carried", "datagrams")
    }

    /// A route to the address of the cable between two hosts, on the side of the first.
    fn reach_outside(
        &self,
        from: Space,
        over: Space,
        (whose, cable): (Space, Space),
    ) -> Result<(), String> {
        let to = self.neighbour(cable, whose)?;
        let (hop, own) = (self.neighbour(from, over)?, from.address().to_string());
        self.ip(from, &["route", "replace", &to, "via", &hop, "src", &own])
    }
}
