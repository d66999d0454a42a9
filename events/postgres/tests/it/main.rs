//! Tests of the log against real, private PostgreSQL servers.
#![allow(clippy::unwrap_used)]

mod at_once;
mod conformance;
mod crash;
mod disk_full;
mod encrypted;
mod faults;
mod followers;
mod leases;
mod lost_commit;
mod outage;
mod private;
mod reader;
mod roles;
mod schema;
mod support;
mod tail;
mod teller;
mod tree;
mod writers;
