//! Properties of the vocabulary, and the frozen bytes of every format.

#![allow(clippy::unwrap_used)]

mod codec;
mod fixtures;
mod frames;
mod golden;
mod ids_and_time;
mod names_and_secrets;
mod signed;
mod skew;
mod token;
