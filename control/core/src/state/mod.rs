//! The current state: a fold of the log, and of nothing else.
//!
//! Every projection lives in its own file and is changed by [`State::fold`] only. Two folds of the
//! same events are equal byte for byte ([`State::to_bytes`]), so any state can be thrown away and
//! rebuilt. What is over (closed logins, removed resources, ended sessions) is forgotten by rules
//! that look at the events alone, never at a clock.

mod api_tokens;
mod authority;
mod cluster;
mod corrupt;
mod differing;
mod fold;
mod join_tokens;
mod leaderships;
mod logins;
mod names;
mod nodes;
mod organizations;
mod policies;
mod pools;
mod resources;
mod scoped;
mod session;
mod sessions;
mod stamp;
mod users;
mod vpn_connections;

#[cfg(test)]
mod tests;

use std::fmt;

use rap_events::Envelope;
use rap_proto::{Digest, Timestamp, codec};
use serde::{Deserialize, Serialize};

pub use api_tokens::{ApiToken, ApiTokens};
pub use authority::{Authority, Stated};
pub use cluster::Cluster;
pub use corrupt::Corrupt;
pub use join_tokens::{JoinToken, JoinTokens};
pub use leaderships::{Leader, Leadership, Leaderships};
pub use logins::{Login, Logins};
pub use nodes::{Node, NodeStanding, Nodes, REVOKED_KEPT_MS};
pub use organizations::{Organization, OrganizationStanding, Organizations};
pub use policies::{Policies, Policy};
pub use pools::{Pool, Pools};
pub use resources::{Resource, Resources};
pub use scoped::{OfOrganizations, OrgScoped, Within};
pub use session::{Ended, Session, SessionPhase, Terminated};
pub use sessions::{DENIAL_KEPT_MS, DeniedSession, MAX_OVER_PER_ORGANIZATION, Sessions};
pub use stamp::Stamp;
pub use users::{Invitation, Membership, PasswordChange, User, Users};
pub use vpn_connections::{HeldLease, VpnConnection, VpnConnections};

/// The version of the fold: raised whenever the same events give other bytes than before, so that
/// nothing that an earlier one left is taken for its own.
pub const FOLD_VERSION: u32 = 15;
/// The largest serialized state, in bytes.
pub const MAX_STATE_BYTES: usize = 1024 * 1024 * 1024;

/// Everything that the log says is so.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct State {
    position: u64,
    at: Timestamp,
    pub(crate) cluster: Cluster,
    pub(crate) organizations: Organizations,
    pub(crate) users: Users,
    pub(crate) logins: Logins,
    pub(crate) api_tokens: ApiTokens,
    pub(crate) join_tokens: JoinTokens,
    pub(crate) nodes: Nodes,
    pub(crate) pools: Pools,
    pub(crate) resources: Resources,
    pub(crate) policies: Policies,
    pub(crate) sessions: Sessions,
    pub(crate) vpn_connections: VpnConnections,
    pub(crate) leaderships: Leaderships,
    pub(crate) authority: Authority,
}

impl State {
    /// The position of the last event that was folded; 0 for none.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The time of the last event that was folded.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn organizations(&self) -> &Organizations {
        &self.organizations
    }

    /// Users and their memberships.
    pub fn users(&self) -> &Users {
        &self.users
    }

    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    pub fn api_tokens(&self) -> &ApiTokens {
        &self.api_tokens
    }

    pub fn join_tokens(&self) -> &JoinTokens {
        &self.join_tokens
    }

    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub fn vpn_connections(&self) -> &VpnConnections {
        &self.vpn_connections
    }

    pub fn leaderships(&self) -> &Leaderships {
        &self.leaderships
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Takes in the next event of the log.
    ///
    /// # Errors
    /// The log is corrupt or newer than this program. The state is unusable afterwards: halt.
    pub fn fold(&mut self, envelope: &Envelope) -> Result<(), Corrupt> {
        self.fold_next(envelope)
    }

    /// The state as bytes, equal for equal histories: what a replay is compared by, and what a
    /// checkpoint stores. Holds digests of secrets; treat it like the log.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`State::to_bytes`] wrote, in the same build of the program. Whoever stores it
    /// keeps the program's version beside it and folds from zero when that differs.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, codec::DecodeError> {
        codec::decode(bytes, MAX_STATE_BYTES)
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("position", &self.position).finish_non_exhaustive()
    }
}
