//! Tests of the world itself.
#![allow(clippy::unwrap_used)]

mod actors;
mod beats;
mod carriers;
mod daemons;
mod fleets;
mod joints;
mod leases;
mod meshes;
mod regressions;
mod seeds;
