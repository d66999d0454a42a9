//! The crate's tests over all aggregates, and the fixtures that their own tests use.

#![allow(clippy::unwrap_used)]

mod catalogue;
mod entry;
mod executor;
mod export;
pub(crate) mod given;
mod golden;
pub(crate) mod handler;
mod keys;
mod memory;
pub(crate) mod replay;
pub(crate) mod samples;
