//! The program as a person and a script meet it.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "dev")]
mod canary;
#[cfg(feature = "dev")]
mod dev;
#[cfg(feature = "dev")]
mod guide;
mod help;
#[cfg(feature = "dev")]
mod limited;
mod offline;
mod program;
#[cfg(feature = "dev")]
mod servers;
