//! What each kind of channel promises. Another table, another behaviour.

use std::time::Duration;

use rap_proto::{ChannelKind, Lane};

/// Whether messages may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Never. Who sends waits while there is no room, and for the reader's credit.
    Reliable,
    /// When there is no room the oldest is, and what has waited too long.
    Droppable,
}

/// In which order a reader has them. A queue hands out in the order in which it took in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    AsSent,
    /// No message after a newer one of its key.
    NewestOfKey,
    AsTheyCome,
}

/// How much may wait at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub messages: usize,
    pub bytes: usize,
}

/// INVARIANT: nothing in it is zero, and the largest message is within the bound. What is reliable
/// never gets stale, may be ahead as far as the bound, and its largest message is at most half of
/// that, so that a credit that is too small for it is followed by a greater one (see
/// [`super::Window`]). Of what is droppable, what is ahead and one message more fit the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub lane: Lane,
    pub delivery: Delivery,
    pub order: Order,
    pub bound: Bound,
    /// How much may have left its queue without having been taken by whoever reads: what a reader
    /// grants. Of a droppable channel the last message may go beyond it.
    pub ahead: Bound,
    /// The largest message, in bytes.
    pub max_message: usize,
    /// A message that has waited so long in one queue is dropped.
    pub stale_after: Option<Duration>,
    /// A message with a key takes the place of a waiting one with the same.
    pub coalesces: bool,
    /// Not more than one message in this time is handed out.
    pub every: Option<Duration>,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// As many keys and clicks as a person makes in many seconds; moves are coalesced.
const INPUT: Policy = Policy {
    coalesces: true,
    ..reliable(Lane::Interactive, Bound { messages: 256, bytes: 64 * KIB }, 4 * KIB)
};
const CONTROL: Policy =
    reliable(Lane::Interactive, Bound { messages: 64, bytes: 256 * KIB }, 64 * KIB);
/// Little: it shares the lane with keys.
const CLIPBOARD: Policy =
    reliable(Lane::Interactive, Bound { messages: 16, bytes: 64 * KIB }, 16 * KIB);
const FILE_TRANSFER: Policy =
    reliable(Lane::Bulk, Bound { messages: 64, bytes: 4 * MIB }, 256 * KIB);
/// About six pictures at 30 in a second: older ones show nobody anything.
/// Ahead: 200 ms at 10 Mbit/s, or one picture that is larger.
const RENDER: Policy = Policy {
    order: Order::NewestOfKey,
    coalesces: true,
    ahead: Bound { messages: 64, bytes: 256 * KIB },
    ..droppable(Lane::Media, Bound { messages: 256, bytes: 4 * MIB }, MIB, 200)
};
/// Whoever sent a packet sends it again by then. Ahead: as much as fits, as connections within
/// the tunnel want a round trip's worth under way.
const VPN_PACKETS: Policy = Policy {
    ahead: Bound { messages: 512, bytes: MIB - 64 * KIB },
    ..droppable(Lane::Bulk, Bound { messages: 512, bytes: MIB }, 64 * KIB, 100)
};
const TELEMETRY: Policy = Policy {
    coalesces: true,
    ahead: Bound { messages: 16, bytes: 16 * KIB },
    every: Some(Duration::from_millis(100)),
    ..droppable(Lane::Bulk, Bound { messages: 64, bytes: 64 * KIB }, 4 * KIB, 10_000)
};

impl Policy {
    /// `None` for a byte stream, which its carrier pushes back.
    pub const fn of(kind: ChannelKind) -> Option<&'static Self> {
        match kind {
            ChannelKind::Stream => None,
            ChannelKind::Input => Some(&INPUT),
            ChannelKind::Control => Some(&CONTROL),
            ChannelKind::Render => Some(&RENDER),
            ChannelKind::Clipboard => Some(&CLIPBOARD),
            ChannelKind::FileTransfer => Some(&FILE_TRANSFER),
            ChannelKind::VpnPackets => Some(&VPN_PACKETS),
            ChannelKind::Telemetry => Some(&TELEMETRY),
        }
    }
}

const fn reliable(lane: Lane, bound: Bound, max_message: usize) -> Policy {
    Policy {
        lane,
        delivery: Delivery::Reliable,
        order: Order::AsSent,
        bound,
        ahead: bound,
        max_message,
        stale_after: None,
        coalesces: false,
        every: None,
    }
}

const fn droppable(lane: Lane, bound: Bound, max_message: usize, stale_ms: u64) -> Policy {
    Policy {
        lane,
        delivery: Delivery::Droppable,
        order: Order::AsTheyCome,
        bound,
        ahead: bound,
        max_message,
        stale_after: Some(Duration::from_millis(stale_ms)),
        coalesces: false,
        every: None,
    }
}
