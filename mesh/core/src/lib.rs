//! The mesh's decisions: who is admitted, which peers are kept, what a node is worth, which path is
//! tried, which flows a relay carries and whose turn it is, what waits or is dropped, and why a session ended.
//!
//! The crate is pure. The shell `rap-mesh` owns sockets, connections and clocks; it asks here
//! and does what it is told.

pub mod admission;
pub mod bounds;
pub mod bulk_window;
pub mod busy;
pub mod carrier;
pub mod carriers;
pub mod channel;
pub mod doubt;
pub mod ended;
pub mod fence;
pub mod flows;
pub mod holes;
pub mod lane_path;
pub mod lane_turns;
#[cfg(any(test, feature = "many-relays"))]
pub mod many_relays;
pub mod moves;
pub mod path_audit;
pub mod paths;
pub mod peers;
pub mod reachable;
pub mod refusals;
pub mod reports;
pub mod resume;
pub mod score;
pub mod sessions;
pub mod shape;
pub mod slow_path;
pub mod view;

pub use admission::Caller;
pub use view::{Sections, View};
