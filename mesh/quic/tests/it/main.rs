//! Real endpoints over loopback: entries, relays, egresses and clients of one test cluster.

#![allow(clippy::unwrap_used)]

mod ends;
mod fabric;
mod limits;
mod own;
mod paths;
mod peers;
mod raw;
mod refusals;
mod targets;
mod traffic;
mod views;
