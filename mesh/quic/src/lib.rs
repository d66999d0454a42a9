//! The QUIC endpoint that drives the mesh machines.
//!
//! One UDP socket serves everything a node may be: an entry for clients, an egress that reaches
//! resources, a relay that forwards other nodes' datagrams without being able to read them. The
//! role decides nothing here: each request is checked against the newest [`View`], and every
//! check is in `rap-mesh-core`.
//!
//! - A node calls [`MeshEndpoint::bind`] with its identity, a [`Dialer`], its [`Leases`] and its first view, then
//!   [`MeshEndpoint::apply`] with each newer one, and reads [`MeshEvent`]s.
//! - A client calls [`client::connect`] and opens channels on the [`client::ClientSession`].
//! - A channel of messages is a [`MessageChannel`] at both ends: a client opens it, and at the egress
//!   the dialer's [`MessageService`] takes it on.

mod bulk;
mod carried;
pub mod client;
mod clock;
mod congestion;
mod dialer;
mod egress;
mod endpoint;
mod entry;
mod event;
mod fencing;
mod frames;
mod hops;
mod kept;
mod lanes;
mod leases;
mod limits;
mod mesh;
mod messages;
mod network;
mod peers;
mod pieces;
mod pipe;
mod pool;
mod race;
mod reachable;
mod relay;
mod relays;
mod shaping;
mod splice;
mod status;
mod tally;
mod tcp;
mod tls;
mod transport;
mod watch;

pub use bulk::BulkThreads;
pub use dialer::{ByteStream, DialRequest, Dialed, Dialer, MessageService};
pub use endpoint::{BindError, MeshEndpoint, MeshOptions};
pub use event::{EVENT_QUEUE, MeshEvent, MeshEvents};
pub use frames::{CHANNEL_REPLY_TIMEOUT, HELLO_TIMEOUT, TARGET_DIAL_TIMEOUT};
pub use lanes::{MeasuredFlow, lane_endpoint};
pub use leases::{Leases, MarkNotKept, NoLeases};
pub use limits::{
    MAX_CONNECTIONS, MAX_HANDSHAKES, MAX_LANE_STREAMS, MAX_LASTING_FLOWS, MeshLimits,
};
pub use messages::{Cut, MessageChannel, SendError};
pub use network::{Kernel, Network, RelayedUdp};
pub use peers::{AskPeerError, PeerAnswer, ProbeChainError};
pub use rap_mesh_core::{
    Sections, View,
    bounds::{Bound, Limits as RelayLimits},
    carrier::Carrier,
    carriers::{ChoiceStatus, Measured, Reason as CarrierReason},
    channel,
    fence::{Held, MAX_FENCED},
    lane_path::{RecoveryStep, SwitchReason},
    paths::Chain,
    shape::{ClassName, ClassStatus, Counts, MeterStatus, One},
};
pub use rap_pki::tls::{Identity, TlsError};
pub use status::{CarrierStatus, LaneStatus, MeshStatus, MoveStatus, Path, RelayedStatus};
pub use tally::{Counted, FlowCounts, FlowEnd, Limit, MessageCounts};
pub use tcp::{BbrSupport, ControllerCounts};
pub use transport::dialled_lane as lane_transport;
