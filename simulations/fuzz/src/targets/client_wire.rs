//! What a client and its entry say to each other.

use rap_proto::wire::{
    MAX_FRAME_BYTES,
    client::{
        ChannelReply, ClientControl, EntryControl, Hello, HelloReply, JoinSession, OpenChannel,
    },
    through::{Answer, Ask, OpenThrough, Voucher, Word},
};

use crate::round_trip::{check, choose};

pub fn target(data: &[u8]) {
    choose(
        &[
            check::<Hello, MAX_FRAME_BYTES>,
            check::<HelloReply, MAX_FRAME_BYTES>,
            check::<ClientControl, MAX_FRAME_BYTES>,
            check::<EntryControl, MAX_FRAME_BYTES>,
            check::<OpenChannel, MAX_FRAME_BYTES>,
            check::<ChannelReply, MAX_FRAME_BYTES>,
            check::<JoinSession, MAX_FRAME_BYTES>,
            check::<Ask, MAX_FRAME_BYTES>,
            check::<Answer, MAX_FRAME_BYTES>,
            check::<Word, MAX_FRAME_BYTES>,
            check::<OpenThrough, MAX_FRAME_BYTES>,
            check::<Voucher, MAX_FRAME_BYTES>,
        ],
        data,
    );
}
