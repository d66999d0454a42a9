//! The fabric's vocabulary: ids, time, signed envelopes and wire messages.
//!
//! Everything that two programs of the fabric say to each other is declared here and nowhere
//! else, so that a format has one definition, one version and one set of golden bytes. The crate
//! is pure: it opens no socket, reads no clock and draws no random number.

pub mod api;
mod as_text;
pub mod authority;
pub mod bandwidth;
pub mod beat;
pub mod bus;
pub mod carriers;
pub mod codec;
pub mod constraint;
mod control_url;
pub mod digest;
pub mod hole;
pub mod id;
pub mod key;
pub mod lane_set;
pub mod lease;
pub mod mesh;
pub mod name;
pub mod observation;
pub mod paths;
pub mod refusal;
pub mod secret;
pub mod signed;
pub mod snapshot;
pub mod term;
pub mod time;
pub mod token;
pub mod week_hour;
pub mod wire;

pub use bandwidth::BitRate;
pub use beat::Authority;
pub use constraint::Constraint;
pub use control_url::{ControlUrl, ParseControlUrlError};
pub use digest::Digest;
pub use id::*;
pub use key::{KeyId, PublicKey, Signer};
pub use lane_set::LaneSet;
pub use lease::{Duty, Generation, LeaseClass, Leased};
pub use name::Name;
pub use refusal::RefusalCode;
pub use term::{
    ApiScope, Capability, ChannelKind, Lane, NodeRole, OrganizationRole, PlatformRole, Preference,
    ResourceKind, Verdict,
};
pub use time::{Moment, Timestamp};
pub use week_hour::WeekHour;
