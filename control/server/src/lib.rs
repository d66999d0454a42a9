//! The control plane's server: a REST API over the event log, and the actors around it.
//!
//! ```text
//! serve(ControlOptions, shutdown).await -> Running { address, cluster, ca_fingerprint, setup_code }
//!     Running::stopped().await           after `shutdown` resolved
//! ```
//!
//! The server runs on a thread and an actix system of its own, so any program can hold one or
//! several. It decides nothing itself: aggregates decide commands (`rap-events`), pure folds and
//! tables decide who may and what follows (`rap-control-core`).

mod actors;
mod app;
pub mod backup;
mod beat;
mod bootstrap;
mod clock;
pub mod config;
mod connection;
mod custody;
mod feed;
mod fold_cache;
mod follow;
mod http;
mod in_flight;
mod inquiries;
mod leadership;
mod lease_desk;
mod live;
mod living;
mod manifests;
mod metrics;
mod node_api;
mod options;
mod password;
mod quick_key;
mod rates;
mod rebuilds;
mod replays;
pub mod replica;
mod scrape;
mod sealing;
mod server;
mod source;
mod subjects;
pub mod telemetry;
mod throttle;
mod voice;
mod work;

pub use clock::now;
pub use custody::CustodyError;
pub use options::{
    BusChoice, ControlOptions, DEFAULT_PORT, Limits, LocalLog, LogChoice, StreamLimits, cluster,
    nats_authority,
};
pub use rap_control_core::{
    beat::Pace,
    rate::{Rate, Rates},
};
pub use server::{Running, ServeError, serve};
