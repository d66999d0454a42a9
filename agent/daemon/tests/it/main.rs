//! The agent as its operator sees it: joined and run against a control plane that speaks the real
//! node API over TLS on loopback, holds real keys and listens on a real bus.

#![allow(clippy::unwrap_used)]

mod beat;
mod control;
mod enrollment;
mod life;
mod metrics;
mod peers;
mod program;
mod servers;
mod snapshots;
mod tree;
