//! The message bus port with its in-process and NATS implementations.
//!
//! The bus carries doorbells and observations, never truth: it may lose, repeat and reorder
//! messages, and it is trusted with nothing, for every message is signed. Publishing and
//! subscribing never wait for a lost server: they fail, and the caller's next poll or resend
//! makes up for it. [`conformance`] states what every implementation does.

pub mod conformance;
mod local;
mod nats;
pub mod nats_authority;
pub mod private;
mod queue;
mod subject;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use local::{Faults, LocalBus};
pub use nats::{AccountUpdateError, ConnectError, NatsBus, NatsOptions, update_account};
pub use nats_authority::{BusKey, NatsAuthority, NatsCredentials};
pub use queue::Subscription;

/// The largest payload, in bytes: the largest signed message with room for its envelope.
pub const MAX_PAYLOAD_BYTES: usize = 80 * 1024;
/// The messages that a subscription holds for a slow reader; the oldest go first.
pub const SUBSCRIPTION_CAPACITY: usize = 1024;

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    pub subject: String,
    pub payload: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Not sent; the connection is being restored in the background.
    #[error("the bus is not connected")]
    Disconnected,
    #[error("`{0}` is not a subject for this purpose")]
    InvalidSubject(String),
    #[error("{actual} bytes exceed the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge { actual: usize },
    #[error("more than {limit} subscriptions")]
    TooManySubscriptions { limit: usize },
    /// It may or may not have been sent.
    #[error("the bus did not answer in time")]
    TimedOut,
}

/// A way to send short messages to whoever listens to a subject.
///
/// Subjects are dot-separated tokens of letters, digits, `-`, `_` and, in first place, `$`. A
/// subscription may also hold `*` (one token) and, at its end, `>` (one or more tokens).
pub trait Bus: Send + Sync + 'static {
    /// Sends to the subscriptions of this moment, at most once each. Success means that the
    /// message left, not that it arrived.
    fn publish(&self, subject: String, payload: Bytes) -> BoxFuture<'_, Result<(), BusError>>;

    /// Listens from now on, through reconnections, until the subscription is dropped.
    fn subscribe(&self, subject: String) -> BoxFuture<'_, Result<Subscription, BusError>>;
}
