use std::time::Duration;

use rap_events::{
    Aggregate as _, StreamId, keys,
    leadership::{LEADERSHIP_TTL_MS, Leadership, LeadershipCommand, LeadershipEnd},
    lease::{LeaseChange, LeaseGuard, LeaseRow},
};
use rap_proto::{Duty, ReplicaId, Timestamp};

/// What one append holds when a replica takes a duty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taking {
    pub generation: u64,
    /// For the duty's stream: the end of a leader that fell silent, and the grant.
    pub commands: Vec<LeadershipCommand>,
    pub change: LeaseChange,
}

/// The lease of a duty.
pub fn lease(duty: Duty) -> StreamId {
    Leadership::stream(keys::leadership_id(duty))
}

/// What an append of the duty's leader is guarded by.
pub fn guard(duty: Duty, replica: ReplicaId, generation: u64) -> LeaseGuard {
    LeaseGuard { lease: lease(duty), generation, holder: replica.uuid() }
}

/// Takes a duty whose row is free at `now`, the database's time.
pub fn take(
    leadership: &Leadership,
    duty: Duty,
    replica: ReplicaId,
    row: Option<&LeaseRow>,
    now: Timestamp,
) -> Taking {
    let generation = row.map_or(0, |row| row.generation) + 1;
    let silent = leadership.tenure.present.zip(row);
    let release = silent.map(|(present, row)| LeadershipCommand::Release {
        generation: present.generation,
        reason: LeadershipEnd::Expired,
        released_at: row.valid_until,
    });
    let grant = LeadershipCommand::Grant {
        duty,
        replica,
        generation,
        granted_at: now,
        valid_until: now + Duration::from_millis(u64::from(LEADERSHIP_TTL_MS)),
    };
    let (lease, holder) = (lease(duty), replica.uuid());
    Taking {
        generation,
        commands: release.into_iter().chain([grant]).collect(),
        change: LeaseChange::Grant {
            lease,
            generation,
            holder,
            ttl_ms: LEADERSHIP_TTL_MS,
            timeline: None,
        },
    }
}

/// Gives a duty back at `now`, the database's time.
pub fn give_back(duty: Duty, generation: u64, now: Timestamp) -> (LeadershipCommand, LeaseChange) {
    let (reason, released_at) = (LeadershipEnd::Resigned, now);
    let release = LeadershipCommand::Release { generation, reason, released_at };
    (release, LeaseChange::End { lease: lease(duty), generation })
}
