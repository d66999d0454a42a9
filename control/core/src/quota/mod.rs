//! Quotas: how much one organization may take of what all organizations share.
//!
//! [`check_nodes`] and [`check_sessions`] compare what the state holds with what the platform's owner
//! set; [`EventBuckets`] counts the events that an organization's members add to the log. What takes
//! authority away is never held back ([`is_counted`]).
//!
//! A count is that of the state which the command reads: commands that race can go beyond it by as
//! many as are on their way at once, and each replica counts the events that it appends itself.

mod events;
#[cfg(test)]
mod tests;

use std::fmt;

use rap_events::organization::Quotas;
use rap_proto::OrganizationId;

pub use events::{BURST_SECONDS, EventBuckets, MAX_EVENT_BUCKETS, Spent, is_counted};

use crate::state::{NodeStanding, State};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    Nodes,
    Sessions,
    EventsPerSecond,
}

/// A quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{used} of {limit} {quota} are in use")]
pub struct QuotaReached {
    pub quota: Quota,
    pub limit: u32,
    pub used: u32,
}

/// What an organization has at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Its own nodes, those that wait for approval among them.
    pub nodes: u32,
    /// Sessions that can be used.
    pub sessions: u32,
}

impl Quota {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Sessions => "sessions",
            Self::EventsPerSecond => "events_per_second",
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub fn usage(state: &State, organization: OrganizationId) -> Usage {
    let counts = |node: &&crate::state::Node| {
        node.organization == Some(organization)
            && matches!(node.standing, NodeStanding::Pending | NodeStanding::Approved)
    };
    let nodes = state.nodes().iter().filter(counts).count();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Usage { nodes: number(nodes), sessions: number(state.sessions().alive_in(organization)) }
}

/// Whether the organization may have one node more.
pub fn check_nodes(state: &State, organization: OrganizationId) -> Result<(), QuotaReached> {
    let (limit, used) = (quotas(state, organization).nodes, usage(state, organization).nodes);
    within(Quota::Nodes, limit, used)
}

/// Whether the organization may have one session more.
pub fn check_sessions(state: &State, organization: OrganizationId) -> Result<(), QuotaReached> {
    let used = state.sessions().alive_in(organization);
    let used = u32::try_from(used).unwrap_or(u32::MAX);
    within(Quota::Sessions, quotas(state, organization).sessions, used)
}

/// What the platform's owner set; what everybody has where nothing was set.
pub fn quotas(state: &State, organization: OrganizationId) -> Quotas {
    state.organizations().get(organization).map(|found| found.quotas).unwrap_or_default()
}

fn within(quota: Quota, limit: u32, used: u32) -> Result<(), QuotaReached> {
    if used < limit { Ok(()) } else { Err(QuotaReached { quota, limit, used }) }
}
