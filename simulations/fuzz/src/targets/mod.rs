//! One module per target.

pub mod access_claims;
pub mod adapter;
pub mod agent_disk;
pub mod api;
pub mod bus;
pub mod carrier;
pub mod certificates;
pub mod client_wire;
pub mod codec;
pub mod events;
pub mod history;
pub mod messages;
pub mod node_api;
pub mod node_wire;
pub mod peer_cache;
pub mod signed;
pub mod snapshot;
pub mod text;
pub mod tree;
