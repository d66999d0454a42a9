//! Links that lose packets, and what leaves a host by the priority that its kernel orders it by.

use crate::{Lab, Space};

/// Counts what leaves a host for other nodes, in bytes, by `SO_PRIORITY` (socket(7)). The control
/// connections of the node itself are on its own port.
const PRIORITIES: &str = "\
table inet priorities {
    counter interactive { }
    counter none { }
    counter bulk { }
    chain postrouting {
        type filter hook postrouting priority 0; policy accept;
        oifname { entry, relay, spare, egress } udp sport != 443 jump count
    }
    chain count {
        meta priority 0:6 counter name interactive
        meta priority none counter name none
        meta priority 0:2 counter name bulk
    }
}
";

/// Bytes of datagrams that left a relay's flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    pub interactive: u64,
    /// As best effort.
    pub without: u64,
    pub bulk: u64,
}

impl Lab {
    /// Of 100 packets that two neighbours send each other so many are lost from now on, each by
    /// chance. They are lost where they come in: a packet that its own host drops is no lost one, the
    /// sender is told. And each is one of its own, as on a cable: a run of many lost at once would be
    /// another kind of loss.
    pub fn lose(&self, one: Space, other: Space, percent: u32) -> Result<(), String> {
        for (own, neighbour) in [(one, other), (other, one)] {
            let name = neighbour.name();
            self.ip(own, &["link", "set", name, "gso_max_segs", "1"])?;
            // The first two lines, so that the third replaces whatever was there.
            let rules = format!(
                "table inet lossy {{ }}
                delete table inet lossy
                table inet lossy {{
                    chain prerouting {{
                        type filter hook prerouting priority 0; policy accept;
                        iifname {name} numgen random mod 100 < {percent} drop
                    }}
                }}"
            );
            self.run(own, "nft", &[&rules])?;
        }
        Ok(())
    }

    /// Counts from now on what leaves a host, for [`Lab::sent_by_priority`].
    pub fn count_priorities(&self, space: Space) -> Result<(), String> {
        self.run(space, "nft", &[PRIORITIES])
    }

    /// What left a host since it is counted.
    ///
    /// # Panics
    /// When it is not counted.
    pub fn sent_by_priority(&self, space: Space) -> Sent {
        let bytes = |name| self.counted(space, "priorities", name);
        Sent { interactive: bytes("interactive"), without: bytes("none"), bulk: bytes("bulk") }
    }

    /// The bytes of a counter of a host's packet filter.
    pub(crate) fn counted(&self, space: Space, table: &str, counter: &str) -> u64 {
        let mut listing = self.command(space, "nft");
        listing.args(["list", "counter", "inet", table, counter]);
        let output = listing.output().expect("nft runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace().skip_while(|word| *word != "bytes").skip(1);
        let bytes = words.next().and_then(|word| word.parse().ok());
        bytes.unwrap_or_else(|| panic!("no counter {counter} of {table}: {text}"))
    }
}
