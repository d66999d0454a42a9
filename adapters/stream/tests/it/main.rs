//! The worker against real sockets.
#![allow(clippy::unwrap_used)]

mod agent;
mod channels;
mod handed;
mod life;
mod limits;
mod refusals;
mod resolver;
mod way;
