use rap_proto::{OrganizationId, Timestamp};

use super::{
    LEADERSHIP_TTL_MS, Leadership, LeadershipCommand, LeadershipEvent, LeadershipGranted,
    LeadershipRejection, LeadershipReleased,
};
use crate::{Aggregate, lease::Granted};

impl Aggregate for Leadership {
    const CATEGORY: &'static str = "leadership";
    type Command = LeadershipCommand;
    type Event = LeadershipEvent;
    type Rejection = LeadershipRejection;

    fn decide(
        &self,
        command: LeadershipCommand,
        _: Timestamp,
    ) -> Result<Vec<LeadershipEvent>, LeadershipRejection> {
        match command {
            LeadershipCommand::Grant { duty, replica, generation, granted_at, valid_until } => {
                if self.duty.is_some_and(|own| own != duty) {
                    return Err(LeadershipRejection::OtherDuty);
                }
                let event =
                    LeadershipGranted { duty, replica, generation, granted_at, valid_until };
                self.tenure.check_grant(&granted(&event), LEADERSHIP_TTL_MS)?;
                Ok(vec![event.into()])
            }
            LeadershipCommand::Release { generation, reason, released_at } => {
                let released_at = self.tenure.check_end(generation, released_at)?;
                Ok(vec![LeadershipReleased { generation, reason, released_at }.into()])
            }
        }
    }

    fn evolve(&mut self, event: &LeadershipEvent) {
        match event {
            LeadershipEvent::Granted(event) => {
                self.duty = Some(event.duty);
                self.tenure.grant(granted(event));
            }
            LeadershipEvent::Released(event) => self.tenure.end(event.released_at),
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }
}

fn granted(event: &LeadershipGranted) -> Granted {
    Granted {
        generation: event.generation,
        holder: event.replica.uuid(),
        granted_at: event.granted_at,
        valid_until: event.valid_until,
    }
}
