//! What an agent and the control plane say to each other over HTTPS.

use rap_proto::wire::node_api::{
    Credentials, EnrollReply, EnrollRequest, MAX_BODY_BYTES, NodeApiRefusal, PollRequest,
    RenewRequest, SnapshotRequest,
};

use crate::round_trip::{check, choose};

pub fn target(data: &[u8]) {
    choose(
        &[
            check::<EnrollRequest, MAX_BODY_BYTES>,
            check::<EnrollReply, MAX_BODY_BYTES>,
            check::<PollRequest, MAX_BODY_BYTES>,
            check::<RenewRequest, MAX_BODY_BYTES>,
            check::<Credentials, MAX_BODY_BYTES>,
            check::<SnapshotRequest, MAX_BODY_BYTES>,
            check::<NodeApiRefusal, MAX_BODY_BYTES>,
        ],
        data,
    );
}
