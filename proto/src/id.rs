//! Typed identifiers: UUIDs that cannot be confused with one another.
//!
//! An id is made from a time and random bits that the caller supplies ([RFC 9562] version 7), so
//! that ids sort by age and no pure code draws randomness. In JSON an id is the hyphenated text,
//! in MessagePack its 16 bytes.
//!
//! [RFC 9562]: https://www.rfc-editor.org/rfc/rfc9562

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is a UUID in its hyphenated form")]
pub struct ParseIdError;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A version 7 UUID of the given time and 10 random bytes.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.unix_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            pub const fn from_u128(value: u128) -> Self {
                Self(Uuid::from_u128(value))
            }

            pub const fn from_uuid(value: Uuid) -> Self {
                Self(value)
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text.len() != 36 {
                    return Err(ParseIdError);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError)
            }
        }
    )*};
}

ids! {
    /// One cluster: an operational trust and routing domain.
    ClusterId,
    /// One organization: a tenancy boundary.
    OrganizationId,
    /// One person's account.
    UserId,
    /// One enrolled host.
    NodeId,
    /// One run of a node's agent.
    IncarnationId,
    /// One join token (not its secret).
    JoinTokenId,
    /// Something that a user may reach.
    ResourceId,
    /// The logical place that resources are reached from.
    PoolId,
    /// One access policy.
    PolicyId,
    /// One authorized access, held at the adapter.
    SessionId,
    /// One client on a session.
    AttachmentId,
    /// One API token (not its secret).
    ApiTokenId,
    /// One login of a user.
    LoginId,
    /// One command; repeating it repeats nothing.
    CommandId,
    /// One signed bus message or token.
    MessageId,
    /// One question of an operator to a node.
    InquiryId,
    /// One connection of a network, held by one node at a time.
    VpnConnectionId,
    /// One run of a control server: one replica of the control plane.
    ReplicaId,
}
