//! What a node's operator and its heartbeats are told of the mesh.

use std::{net::SocketAddr, time::Duration};

use rap_mesh_core::{
    carrier::Carrier,
    carriers::{ChoiceStatus, Reason},
    holes,
    lane_path::{RecoveryStep, SwitchReason},
    paths::Chain,
    shape::{ClassStatus, Counts},
};
use rap_proto::{Lane, NodeId, OrganizationId, carriers::CarrierRuling};

use crate::{BbrSupport, ControllerCounts, Counted};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshStatus {
    /// Sessions with a client connected to this entry, or expected back.
    pub entry_sessions: usize,
    /// Those of them whose client lost its connection and may come back.
    pub absent_sessions: usize,
    /// Sessions with a flow open at this egress.
    pub egress_sessions: usize,
    /// Flows of other nodes that this relay carries.
    pub relayed_flows: usize,
    /// What it forwarded for them.
    pub relayed: RelayedStatus,
    /// Egresses that keep themselves reachable at this relay.
    pub reachable_nodes: usize,
    /// Connections that such an egress made too late: whoever they were for had gone another way.
    pub late_connections: u64,
    /// Relays at which this egress keeps itself reachable.
    pub reachable_at: usize,
    /// The lane connections that this entry keeps warm.
    pub lanes: Vec<LaneStatus>,
    /// Flows of this entry on the `tcp` carrier.
    pub tcp_flows: usize,
    /// Of them, or waiting for another way: flows that end at their clients.
    pub through_flows: usize,
    /// How they changed their paths while those still worked.
    pub tcp_moves: MoveStatus,
    /// Whether bulk on TCP can have the congestion controller BBR now; `None` where that is unknown.
    pub bbr: Option<BbrSupport>,
    pub controllers: ControllerCounts,
    /// Which carriers new flows take, for each lane that had any.
    pub carriers: Vec<CarrierStatus>,
    /// The classes that a bandwidth policy speaks of and that have flows.
    pub classes: Vec<ClassStatus>,
    /// What was shaped since the start, of all together: towards resources, and towards clients.
    pub shaped_up: Counts,
    pub shaped_down: Counts,
    /// Events that were not reported: too many refusals, or an agent that does not read them.
    pub dropped_events: u64,
    pub counted: Counted,
}

/// What a relay forwarded since the start; it names nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayedStatus {
    pub datagrams: u64,
    /// Of datagrams and of streams.
    pub bytes: u64,
    /// Beyond what a flow, an asker or an organization may pass.
    pub dropped_datagrams: u64,
    pub dropped_bytes: u64,
    /// How often a stream was not read for a while, for the same reason.
    pub held_back: u64,
    /// How often a flow had to wait for its turn.
    pub waits: u64,
    /// Datagrams from elsewhere than a flow's own addresses, as far as the kernel let them through.
    pub strangers: u64,
}

/// Of flows on the `tcp` carrier. What went on over another path after a loss is not among it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MoveStatus {
    /// Flows that lead over relays now.
    pub relayed: usize,
    /// Since the start: moves, moves that came to nothing, and connections that were made to find out
    /// whether a path works.
    pub moved: u64,
    pub stayed: u64,
    pub trials: u64,
}

/// What one lane's new flows are tried on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarrierStatus {
    pub egress: NodeId,
    pub organization: OrganizationId,
    pub lane: Lane,
    /// What the platform and the organization say of the lane.
    pub ruling: CarrierRuling,
    /// What the last flow opened on, and why.
    pub last: Option<(Carrier, Reason)>,
    pub known: ChoiceStatus,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneStatus {
    pub egress: NodeId,
    pub organization: OrganizationId,
    pub lane: Lane,
    pub path: Path,
    pub rtt: Duration,
    /// How often the lane changed its path, and why it did the last time.
    pub switches: u64,
    pub last_switch: Option<SwitchReason>,
    /// How far the search for a path is, while one goes on.
    pub recovery: Option<RecoveryStep>,
    /// Datagrams from addresses that are no path of the lane.
    pub refused_datagrams: u64,
    /// How far it is with a direct path through NATs.
    pub hole: holes::Standing,
}

/// How a lane reaches its egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Direct {
        address: SocketAddr,
    },
    Relayed {
        relay: NodeId,
    },
    /// Over several relays.
    Chained {
        chain: Chain,
    },
}
