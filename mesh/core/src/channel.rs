//! Channels that carry messages: what each kind promises, where messages wait, and how they travel.
//!
//! A [`Policy`] is the promise, as data. A [`Queue`] keeps to it where messages are sent, a
//! [`Window`] or [`Arrivals`] where they come:
//!
//! ```text
//! reliable    push ─▶ Queue ─ poll, within credit ─▶ Window ─▶ reader
//!               └ full: wait  ◀──── poll_grant ─────────┘
//! droppable   push ─▶ Queue ─ poll, when there is room ─▶ Arrivals ─▶ reader
//!               └ full, stale: dropped, counted             └ late: put aside, counted
//! ```
//!
//! A shell feeds and drains a [`ReliableEnd`] or a [`DroppableEnd`], which put these together.
//!
//! Nobody who fills one channel takes room from another: each has its own queue and its own credit.

mod alone;
mod arrivals;
mod credit;
mod droppable;
mod items;
mod policy;
mod queue;
mod reliable;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use alone::{Head, MAX_HEAD_BYTES, MAX_VARINT, alone_head, read_alone};
pub use arrivals::{Arrivals, MAX_KEYS};
pub use credit::{Amount, TooMuch, Window};
pub use droppable::{DroppableEnd, Lone};
pub use items::{ITEM_HEAD_BYTES, Item, Items, Malformed, alone_item, credit_item, message_item};
pub use policy::{Bound, Delivery, Order, Policy};
pub use queue::{Counters, Queue, Refused};
pub use reliable::{Broken, Out, ReliableEnd};

/// What a message is about, in its maker's numbers: a pointer, a tile, a gauge. A newer message of
/// the same key makes an older one worthless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Of a message that may be replaced by a newer one while it waits.
    pub key: Option<Key>,
    pub bytes: Bytes,
}
