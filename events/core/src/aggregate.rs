//! What an aggregate is: a fold of its own events, and the rules for adding to them.

use std::fmt::Debug;

use bytes::Bytes;
use rap_proto::{
    OrganizationId, Timestamp,
    codec::{self, DecodeError},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::log::{Envelope, MAX_PAYLOAD_BYTES, NewEvent, StreamId};

/// The longest free text in an event (a reason, a label), in bytes.
pub const MAX_TEXT_BYTES: usize = 256;

/// One kind of consistency boundary. `Default` is the state before the first event.
pub trait Aggregate: Default + Clone + Debug + PartialEq + Send + 'static {
    /// The category of its streams and the first word of its events' types.
    const CATEGORY: &'static str;

    type Command: Clone + Send;
    type Event: EventCodec + Send;
    /// Why the rules said no. Never a fault of the world.
    type Rejection: std::error::Error + Send + Sync + 'static;

    /// What follows from `command`: no events when what it asks for is so already.
    fn decide(
        &self,
        command: Self::Command,
        now: Timestamp,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Takes in what happened. Infallible: an event that was stored did happen.
    fn evolve(&mut self, event: &Self::Event);

    /// The organization that its events are tagged with, asked for after each event.
    fn organization(&self) -> Option<OrganizationId>;

    fn stream(id: Uuid) -> StreamId {
        StreamId::new(Self::CATEGORY, id)
    }
}

/// An event type and the version of its payload's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKind {
    pub event_type: &'static str,
    pub schema: u16,
}

/// How one aggregate's events are stored. Written by the `events!` macro of this crate.
pub trait EventCodec: Sized + Clone + Debug + PartialEq {
    /// Every kind that can be read, older schemas included.
    const KINDS: &'static [EventKind];

    /// What this event is written as: always the newest schema of its type.
    fn kind(&self) -> EventKind;

    fn encode(&self) -> Vec<u8>;

    /// Reads an event of any known schema in its newest shape.
    fn decode(event_type: &str, schema: u16, payload: &[u8]) -> Result<Self, EventError>;

    fn from_envelope(envelope: &Envelope) -> Result<Self, EventError> {
        Self::decode(&envelope.event_type, envelope.schema, &envelope.payload)
    }

    fn to_new_event(&self, organization: Option<OrganizationId>) -> NewEvent {
        let EventKind { event_type, schema } = self.kind();
        NewEvent {
            event_type: event_type.to_owned(),
            schema,
            payload: Bytes::from(self.encode()),
            organization,
        }
    }
}

/// A stored event that this program cannot read: written by a newer one, or corrupt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error("unknown event {event_type} of schema {schema}")]
    Unknown { event_type: String, schema: u16 },
    #[error("{event_type} of schema {schema} cannot be read: {error}")]
    Malformed { event_type: String, schema: u16, error: DecodeError },
}

/// Whether `text` may stand in an event: short enough, and nothing that moves a cursor.
pub(crate) fn is_plain_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control)
}

pub(crate) fn decode_payload<T: DeserializeOwned>(
    kind: EventKind,
    payload: &[u8],
) -> Result<T, EventError> {
    codec::decode(payload, MAX_PAYLOAD_BYTES).map_err(|error| EventError::Malformed {
        event_type: kind.event_type.to_owned(),
        schema: kind.schema,
        error,
    })
}

/// Declares an aggregate's event enum and its codec.
///
/// `Created(OrganizationCreated) = "organization.created" / 1` is written and read as schema 1.
/// `= "resource.created" / 2, from 1 by ResourceCreatedV1` is written as schema 2 and also read
/// from schema 1: decoded as the old shape and converted by `From`, which is the upcaster.
macro_rules! events {
    (
        $(#[$doc:meta])*
        $name:ident:
        $($(#[$variant_doc:meta])* $variant:ident($payload:ident) = $event_type:literal / $schema:literal
            $(, from $old:literal by $old_payload:ident)*);* $(;)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "an event lives until it is encoded or folded")]
        pub enum $name {
            $($(#[$variant_doc])* $variant($payload),)*
        }

        impl $crate::aggregate::EventCodec for $name {
            const KINDS: &'static [$crate::aggregate::EventKind] = &[$(
                $($crate::aggregate::EventKind { event_type: $event_type, schema: $old },)*
                $crate::aggregate::EventKind { event_type: $event_type, schema: $schema },
            )*];

            fn kind(&self) -> $crate::aggregate::EventKind {
                match self {
                    $(Self::$variant(_) => $crate::aggregate::EventKind {
                        event_type: $event_type,
                        schema: $schema,
                    },)*
                }
            }

            fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(payload) => ::rap_proto::codec::encode(payload),)*
                }
            }

            fn decode(
                event_type: &str,
                schema: u16,
                payload: &[u8],
            ) -> Result<Self, $crate::aggregate::EventError> {
                match (event_type, schema) {
                    $(
                        $(($event_type, $old) => {
                            let kind = $crate::aggregate::EventKind { event_type: $event_type, schema: $old };
                            let old: $old_payload = $crate::aggregate::decode_payload(kind, payload)?;
                            Ok(Self::$variant(old.into()))
                        })*
                        ($event_type, $schema) => {
                            let kind = $crate::aggregate::EventKind { event_type: $event_type, schema: $schema };
                            $crate::aggregate::decode_payload(kind, payload).map(Self::$variant)
                        }
                    )*
                    _ => Err($crate::aggregate::EventError::Unknown {
                        event_type: event_type.to_owned(),
                        schema,
                    }),
                }
            }
        }

        $(impl From<$payload> for $name {
            fn from(payload: $payload) -> Self {
                Self::$variant(payload)
            }
        })*
    };
}
pub(crate) use events;
