//! The bus implementations under one suite, and what only one of them does.
#![allow(clippy::unwrap_used)]

mod authority;
mod local;
mod nats;
mod private;

use std::time::{SystemTime, UNIX_EPOCH};

use rap_proto::{ClusterId, NodeId, Timestamp};

const CLUSTER: ClusterId = ClusterId::from_u128(7);

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(elapsed.as_millis().try_into().unwrap())
}
