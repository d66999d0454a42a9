//! Messages on the bus, and the observations in them.

use rap_proto::{
    bus::{ControlMessage, Heartbeat, NodeMessage},
    observation::Spooled,
    signed::Payload as _,
};

use crate::round_trip::{check, choose};

pub fn target(data: &[u8]) {
    choose(
        &[
            check::<NodeMessage, { NodeMessage::MAX_BYTES }>,
            check::<ControlMessage, { ControlMessage::MAX_BYTES }>,
            check::<Spooled, { NodeMessage::MAX_BYTES }>,
            check::<Heartbeat, { NodeMessage::MAX_BYTES }>,
        ],
        data,
    );
}
