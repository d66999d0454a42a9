//! What an endpoint counted since it was bound: numbers by closed lists of words, in which nobody
//! has a name.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rap_mesh_core::{
    channel::{self, Arrived},
    holes,
    lane_path::{Happened, RecoveryStep, SwitchReason},
};
use rap_proto::{ChannelKind, Lane, RefusalCode};

use crate::{
    mesh::{Mesh, locked},
    splice::Counters,
};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counted {
    /// How lanes changed their paths.
    pub switches: BTreeMap<SwitchReason, u64>,
    /// How far lanes had to search for a path.
    pub steps: BTreeMap<RecoveryStep, u64>,
    /// What lanes' rounds for a direct path through NATs came to.
    pub holes: holes::Outcomes,
    /// What this node refused, whether or not that was reported for the audit.
    pub refused: BTreeMap<RefusalCode, u64>,
    /// What was turned away before anybody could be told a reason.
    pub limits: BTreeMap<Limit, u64>,
    pub flows: BTreeMap<(FlowEnd, Lane), FlowCounts>,
    /// Messages of the channels that end here, at the egress.
    pub messages: BTreeMap<ChannelKind, MessageCounts>,
}

/// A limit that is reached before a request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// [`MeshLimits::connections`](crate::MeshLimits) or its handshakes, on QUIC.
    QuicConnections,
    /// The same on TCP.
    TcpConnections,
    /// Channels of one client.
    ClientStreams,
    /// [`MeshLimits::lane_streams`](crate::MeshLimits), at the egress.
    LaneStreams,
}

/// What this node is for a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowEnd {
    /// It has the client, and may be the egress as well.
    Entry,
    /// It has the resource, and the flow comes on a lane.
    Egress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowCounts {
    pub open: u64,
    /// Those that were open since the start.
    pub begun: u64,
    /// Bytes towards resources, and towards clients.
    pub up: u64,
    pub down: u64,
}

/// What became of messages. What is in none of the numbers of its direction waits, or was on its way
/// when its channel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// Towards clients.
    pub down: channel::Counters,
    /// From clients.
    pub up: Arrived,
}

impl Limit {
    pub const ALL: [Self; 4] =
        [Self::QuicConnections, Self::TcpConnections, Self::ClientStreams, Self::LaneStreams];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuicConnections => "quic_connections",
            Self::TcpConnections => "tcp_connections",
            Self::ClientStreams => "client_streams",
            Self::LaneStreams => "lane_streams",
        }
    }
}

impl FlowEnd {
    pub const ALL: [Self; 2] = [Self::Entry, Self::Egress];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Egress => "egress",
        }
    }
}

/// Cheap to clone: the same tally.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Of flows and of channels of messages, those that are over.
    counted: Counted,
    /// There are no more of them than channels and flows of lanes.
    passing: BTreeMap<u64, (FlowEnd, Lane, Arc<Counters>)>,
    talking: BTreeMap<u64, (ChannelKind, Arc<dyn Talks>)>,
    last: u64,
}

/// A channel of messages, which counts for itself.
pub(crate) trait Talks: Send + Sync {
    fn counts(&self) -> MessageCounts;
}

impl Tally {
    pub(crate) fn refused(&self, code: RefusalCode) {
        *locked(&self.0).counted.refused.entry(code).or_default() += 1;
    }

    pub(crate) fn reached(&self, limit: Limit) {
        *locked(&self.0).counted.limits.entry(limit).or_default() += 1;
    }

    pub(crate) fn happened(&self, Happened { switches, steps }: Happened) {
        if switches.is_empty() && steps.is_empty() {
            return;
        }
        let counted = &mut locked(&self.0).counted;
        add(&mut counted.switches, switches);
        add(&mut counted.steps, steps);
    }

    pub(crate) fn holes(&self, holes::Outcomes { found, failed }: holes::Outcomes) {
        if found == 0 && failed.is_empty() {
            return;
        }
        let counted = &mut locked(&self.0).counted;
        counted.holes.found += found;
        add(&mut counted.holes.failed, failed);
    }

    pub(crate) fn read(&self) -> Counted {
        let state = locked(&self.0);
        let mut counted = state.counted.clone();
        for (end, lane, counters) in state.passing.values() {
            let flows = counted.flows.entry((*end, *lane)).or_default();
            flows.open += 1;
            flows.add(counters);
        }
        for (kind, channel) in state.talking.values() {
            counted.messages.entry(*kind).or_default().add(channel.counts());
        }
        counted
    }

    /// Counts what becomes of a channel's messages, until what is returned is dropped.
    pub(crate) fn talk(&self, kind: ChannelKind, channel: Arc<dyn Talks>) -> Talking {
        let mut state = locked(&self.0);
        state.last += 1;
        let number = state.last;
        state.talking.insert(number, (kind, channel));
        Talking { tally: self.clone(), number }
    }
}

/// A channel of messages that ends here.
pub(crate) struct Talking {
    tally: Tally,
    number: u64,
}

impl Drop for Talking {
    fn drop(&mut self) {
        let mut state = locked(&self.tally.0);
        if let Some((kind, channel)) = state.talking.remove(&self.number) {
            state.counted.messages.entry(kind).or_default().add(channel.counts());
        }
    }
}

impl MessageCounts {
    fn add(&mut self, Self { down, up }: Self) {
        for (all, more) in [
            (&mut self.down.taken_in, down.taken_in),
            (&mut self.down.sent, down.sent),
            (&mut self.down.dropped_full, down.dropped_full),
            (&mut self.down.dropped_stale, down.dropped_stale),
            (&mut self.down.coalesced, down.coalesced),
            (&mut self.up.came, up.came),
            (&mut self.up.handed_out, up.handed_out),
            (&mut self.up.put_aside, up.put_aside),
        ] {
            *all = all.saturating_add(more);
        }
    }
}

fn add<K: Ord>(to: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        *to.entry(key).or_default() += count;
    }
}

impl FlowCounts {
    fn add(&mut self, counters: &Counters) {
        let (up, down) = counters.read();
        self.up = self.up.saturating_add(up);
        self.down = self.down.saturating_add(down);
    }
}

/// A flow whose bytes pass here, counted as open until this is dropped.
pub(crate) struct Passing {
    mesh: Arc<Mesh>,
    number: u64,
}

impl Passing {
    pub(crate) fn begin(
        mesh: &Arc<Mesh>,
        (end, lane): (FlowEnd, Lane),
        counters: Arc<Counters>,
    ) -> Self {
        let number = mesh.tally.begin(end, lane, counters);
        Self { mesh: mesh.clone(), number }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.mesh.tally.end(self.number);
    }
}

impl Tally {
    fn begin(&self, end: FlowEnd, lane: Lane, counters: Arc<Counters>) -> u64 {
        let mut state = locked(&self.0);
        state.last += 1;
        let number = state.last;
        state.counted.flows.entry((end, lane)).or_default().begun += 1;
        state.passing.insert(number, (end, lane, counters));
        number
    }

    fn end(&self, number: u64) {
        let mut state = locked(&self.0);
        if let Some((end, lane, counters)) = state.passing.remove(&number) {
            state.counted.flows.entry((end, lane)).or_default().add(&counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_bytes_of_a_flow_count_while_it_is_open_and_once_when_it_is_over() {
        let (tally, counters) = (Tally::default(), Arc::new(Counters::default()));
        let number = tally.begin(FlowEnd::Entry, Lane::Bulk, counters.clone());
        counters.add(10, 3);
        let other = tally.begin(FlowEnd::Egress, Lane::Bulk, Arc::default());
        let of = |end| tally.read().flows[&(end, Lane::Bulk)];
        assert_eq!(of(FlowEnd::Entry), FlowCounts { open: 1, begun: 1, up: 10, down: 3 });
        tally.end(number);
        tally.end(number);
        assert_eq!(of(FlowEnd::Entry), FlowCounts { open: 0, begun: 1, up: 10, down: 3 });
        assert_eq!(of(FlowEnd::Egress).open, 1);
        tally.end(other);
        assert!(locked(&tally.0).passing.is_empty());
    }

    #[derive(Default)]
    struct Said(AtomicU64);

    impl Talks for Said {
        fn counts(&self) -> MessageCounts {
            let sent = self.0.load(Ordering::Relaxed);
            let down = channel::Counters { sent, ..channel::Counters::default() };
            let up = Arrived { put_aside: 2 * sent, ..Arrived::default() };
            MessageCounts { down, up }
        }
    }

    #[test]
    fn the_messages_of_a_channel_count_while_it_is_open_and_once_when_it_is_over() {
        let (tally, said) = (Tally::default(), Arc::new(Said::default()));
        let talking = tally.talk(ChannelKind::Render, said.clone());
        let of = || {
            let counts = tally.read().messages[&ChannelKind::Render];
            (counts.down.sent, counts.up.put_aside)
        };
        assert_eq!(of(), (0, 0));
        said.0.store(5, Ordering::Relaxed);
        let other = tally.talk(ChannelKind::Render, said);
        assert_eq!(of(), (10, 20));
        drop(talking);
        assert_eq!(of(), (10, 20));
        drop(other);
        assert_eq!(of(), (10, 20));
        assert!(locked(&tally.0).talking.is_empty());
    }
}
