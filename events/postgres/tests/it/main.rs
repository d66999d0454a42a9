//! Tests of the log against real, private PostgreSQL servers.
#![allow(clippy::unwrap_used)]

mod private;
