//! The control server as its callers see it: over TLS on loopback, with a log and a bus in memory.
#![allow(clippy::unwrap_used)]

mod accounts;
mod availability;
mod backup;
mod bandwidth;
mod beat;
mod bus;
mod commands;
mod contract;
mod crash;
mod crowd;
mod differ;
mod enrollment;
mod erased;
mod events;
mod limits;
mod losses;
mod node;
mod objects;
mod pages;
mod policies;
mod promotion;
mod quotas;
mod rates;
mod relay;
mod replicas;
mod sealer;
mod servers;
mod sessions;
mod skew;
mod streams;
mod tenancy;
mod tree;
mod why;
mod world;
