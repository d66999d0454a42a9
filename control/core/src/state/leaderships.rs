use std::collections::{BTreeMap, btree_map::Entry};

use rap_events::{Envelope, leadership::LeadershipEvent};
use rap_proto::{Duty, ReplicaId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Corrupt, Stamp, stamp::created};

/// Which replica does each duty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Leaderships(BTreeMap<Uuid, Leadership>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    pub duty: Duty,
    /// `None` between two leaders.
    pub leader: Option<Leader>,
    pub stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    pub replica: ReplicaId,
    pub generation: u64,
    pub granted_at: Timestamp,
}

impl Leaderships {
    /// `None` before the duty was granted for the first time.
    pub fn of(&self, duty: Duty) -> Option<&Leadership> {
        self.0.get(&rap_events::keys::leadership_id(duty))
    }

    pub(super) fn fold(
        &mut self,
        event: &LeadershipEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        let id = envelope.stream.id;
        let leader = match event {
            LeadershipEvent::Granted(event) => {
                let leader = Leader {
                    replica: event.replica,
                    generation: event.generation,
                    granted_at: event.granted_at,
                };
                if let Entry::Vacant(first) = self.0.entry(id) {
                    let (duty, stamp) = (event.duty, Stamp::first(envelope)?);
                    first.insert(Leadership { duty, leader: Some(leader), stamp });
                    return Ok(());
                }
                Some(leader)
            }
            LeadershipEvent::Released(_) => None,
        };
        let leadership = created(self.0.get_mut(&id), envelope)?;
        leadership.stamp.advance(envelope)?;
        leadership.leader = leader;
        Ok(())
    }
}
