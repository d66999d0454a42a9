//! Tests of the world itself.
#![allow(clippy::unwrap_used)]

mod actors;
mod leases;
mod seeds;
