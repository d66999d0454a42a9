//! The node agent: an actor system around the machines of `rap-agent-core`.
//!
//! ```text
//! join(JoinOptions, on_pending) -> Joined        keys, CSR, approval, certificate; once per host
//! run(RunOptions, shutdown, on_event)            this thread becomes the agent until shutdown
//! start(RunOptions) -> RunningAgent              the same on a thread of its own
//!     .ready().await   -> Ready { node, cluster }
//!     .status()        -> StatusReport
//!     .stop().await                              graceful, bounded by `drain_limit`
//! status(state_dir) -> StatusReport              asks a running agent over its Unix socket
//! ```
//!
//! Several agents run in one process, each with its own actix system: nothing in this crate is
//! global to the process but [`telemetry::init`], which only a program calls.

mod actors;
mod answer;
mod board;
mod clock;
pub mod config;
mod control;
mod dialer;
mod disk;
mod driver;
mod explain;
mod floors;
mod ground;
mod host;
mod join;
mod leases;
mod metrics;
pub mod options;
mod random;
mod run;
mod servers;
mod shell;
mod state;
pub mod telemetry;
mod worker;

pub use actors::status::{StatusError, status};
pub use board::{
    AgentState, AuthorityStatus, CarrierMeasured, CarrierReport, CertificateStatus, ClassReport,
    ConnectionStatus, ControlStatus, ControllersReport, CountedReport, FlowsReport, HoleReport,
    LaneReport, LeasesStatus, MeshReport, MessagesDown, MessagesReport, MessagesUp, MoveReport,
    PeerCount, PeerPolicyReport, PeerReport, PeersStatus, RelayedReport, ShapedReport,
    SnapshotStatus, SpoolStatus, StatusReport, WorkerStatus,
};
pub use clock::Clock;
pub use control::CallError;
pub use disk::OpenDiskError;
pub use driver::{Driver, Gate};
pub use ground::{ControlStream, Ground};
pub use join::{JoinError, join};
pub use options::{BusChoice, DriverChoice, JoinOptions, Joined, MetricsAt, RunOptions};
pub use rap_proto::ControlUrl;
pub use run::{Ready, RunError, RunEvent, RunningAgent, Shown, run, run_on, start};
pub use state::{CredentialsError, StateError, cluster};

/// The version that this agent reports.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
