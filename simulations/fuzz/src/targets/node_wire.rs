//! What nodes say to each other: lanes and hops.

use rap_proto::wire::{
    MAX_FRAME_BYTES, hop,
    lane::{self, FlowReply, OpenFlow},
};

use crate::round_trip::{check, choose};

pub fn target(data: &[u8]) {
    choose(
        &[
            check::<OpenFlow, MAX_FRAME_BYTES>,
            check::<FlowReply, MAX_FRAME_BYTES>,
            check::<hop::Request, MAX_FRAME_BYTES>,
            check::<hop::Reply, MAX_FRAME_BYTES>,
            check::<hop::Call, MAX_FRAME_BYTES>,
            check::<lane::Request, MAX_FRAME_BYTES>,
            check::<lane::RequestReply, MAX_FRAME_BYTES>,
        ],
        data,
    );
}
