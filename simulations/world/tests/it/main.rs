//! Tests of the world itself.
#![allow(clippy::unwrap_used)]

mod beats;
mod daemons;
mod fleets;
mod joints;
mod leases;
mod level2;
mod meshes;
mod regressions;
mod seeds;
mod sessions;
