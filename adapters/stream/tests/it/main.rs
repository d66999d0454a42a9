//! The worker against real sockets.
#![allow(clippy::unwrap_used)]

mod agent;
mod channels;
mod life;
mod limits;
mod refusals;
mod resolver;
