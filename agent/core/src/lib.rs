//! The node agent's machines: what an agent decides, without a clock, file or socket.
//!
//! | Machine | Decides | Its shell performs |
//! |---|---|---|
//! | [`snapshot::SnapshotStore`] | which snapshot this node acts on | disk writes, applying it |
//! | [`fetch::Fetcher`] | when to ask for a newer snapshot | the request |
//! | [`renewal::Renewal`] | when to renew the certificate | the request |
//! | [`spool::Spool`] | which observations are kept, sent, sent again | disk appends, messages |
//! | [`beat::BeatListener`] | what control's word is worth | the request, disk writes |
//! | [`witness::Witness`] | whether the log only grows | the request, disk writes |
//! | [`link::Link`] | which bus messages to believe; heartbeats | the bus |
//! | [`lease::LeaseHolder`] | whether this node is active for a connection | floors, requests, the driver |
//! | [`workload::Workload`] | when a worker is started, killed, restarted | processes |
//! | [`guardian::Guardian`] | what a dead actor means | restarting it, or leaving |
//!
//! Every one implements [`Machine`]: feed an input, drain the effects, arm one timer. Beside them stands
//! [`servers::Servers`], which says whom the requests go to.

pub mod beat;
pub mod capability;
pub mod disk;
pub mod fetch;
pub mod guardian;
pub mod jitter;
pub mod lease;
pub mod link;
pub mod machine;
pub mod record;
pub mod renewal;
pub mod replay;
pub mod servers;
pub mod snapshot;
pub mod spool;
pub mod standing;
pub mod witness;
pub mod workload;

pub use machine::Machine;
