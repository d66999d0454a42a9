//! The protocol-neutral contract between the agent and adapter workers.
//!
//! A worker listens on one Unix socket in a directory that only its own user can enter. Each
//! connection starts with one [`Request`] of the agent:
//!
//! | first frame | answer | then |
//! |---|---|---|
//! | [`Request::Control`] | [`ControlEvent::Hello`], or [`ControlEvent::Refused`] | [`ControlRequest`] and [`ControlEvent`] frames; when it closes, the worker exits |
//! | [`Request::Open`] | [`OpenReply`] | after [`OpenReply::Opened`] raw bytes both ways, each direction closed on its own; after [`OpenReply::Handed`] nothing, until either side closes it |
//!
//! One connection is one channel, so a slow channel cannot hold another one back. A frame is a
//! length of four bytes, big-endian, and that many bytes of MessagePack with named fields.
//!
//! A worker that does not look into the bytes hands the target's socket over, where the agent takes
//! it, and keeps a copy: the channel is still the worker's to count and to end.
//!
//! Which addresses a worker may dial is decided here too, as plain functions in [`address`], so
//! that every worker decides alike.

pub mod address;
pub mod frame;
pub mod limit;

pub use address::{check_address, check_host};
pub use frame::{ControlEvent, ControlRequest, Open, OpenReply, Request};
