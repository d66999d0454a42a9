//! The program as a person and a script meet it.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "dev")]
mod canary;
#[cfg(feature = "dev")]
mod dev;
#[cfg(feature = "dev")]
mod guide;
mod help;
mod offline;
mod program;
