//! Tests of the world itself.
#![allow(clippy::unwrap_used)]

mod actors;
mod beats;
mod carriers;
mod leases;
mod regressions;
mod seeds;
