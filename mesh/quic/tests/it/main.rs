//! Real endpoints over loopback: entries, relays, egresses and clients of one test cluster.

#![allow(clippy::unwrap_used)]

mod carry;
mod ends;
mod fabric;
mod limits;
mod own;
mod paths;
mod raw;
mod refusals;
mod targets;
mod traffic;
mod views;
