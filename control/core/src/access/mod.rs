//! Who may reach what, from where: access policies, the choice of nodes, and the access token's
//! claims.
//!
//! What no policy permits is denied. The policies are asked as [`crate::rules`]. Whoever asks is told only a code; why is for the auditor.

mod availability;
mod constraint;
mod document;
mod grant;
mod nodes;
mod policy;
mod trial;

pub use availability::{Known, Outlook, Words};
pub use constraint::{Pair, RuledOut};
pub use document::{DocumentRefused, MAX_DOCUMENTS, check_document};
pub use grant::{
    AccessIds, AccessRequest, Asked, Authorized, CHANNELS_PER_SESSION, Denied, authorize_session,
    granted_claims,
};
pub use nodes::{LIVENESS_MS, Live, Liveness};
pub(crate) use policy::basis;
pub use policy::{Explanation, Obstacle, explain, permits, reachable};
pub(crate) use policy::{permitted_users, ruled_users, withdrawn};
pub use trial::{
    TestBroken, TestedResource, check_lists, check_policy_removal, check_resource_removal,
};

#[cfg(test)]
mod tests;
