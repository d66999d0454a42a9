//! What a node kept of its peers: whatever the disk gives back, it ends in peers within their bounds
//! or in an error.

use rap_mesh_core::peers::cache::{MAX_KEPT, decode, encode};

use crate::round_trip::choose;

pub fn target(data: &[u8]) {
    choose(&[kept], data);
}

fn kept(bytes: &[u8]) {
    let Ok(peers) = decode(bytes) else { return };
    assert!(peers.len() <= MAX_KEPT);
    // What we write may take more room than what arrived: then the last ones are left out.
    let again = decode(&encode(&peers)).expect("what we wrote can be read");
    assert_eq!(again[..], peers[..again.len()]);
}
