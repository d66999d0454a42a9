//! Real endpoints over loopback: entries, relays, egresses and clients of one test cluster.

#![allow(clippy::unwrap_used)]

mod answers;
mod beside;
mod carriers;
mod carry;
mod chains;
mod direct;
mod ends;
mod fabric;
mod fallen;
mod fence;
mod holes;
mod leases;
mod limits;
mod media;
mod messages;
mod moves;
mod nat;
mod own;
mod paths;
mod peers;
mod ports;
mod raw;
mod reachable;
mod refusals;
mod relayed_lanes;
mod relaying;
mod resume;
mod shaping;
mod stalled;
mod successors;
mod targets;
mod tcp;
mod through;
mod traffic;
mod views;
