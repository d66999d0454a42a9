//! Whether this replica leads: the real candidate over the row of the duty's lease.

use bytes::Bytes;
use rap_control_core::leadership::{self, Candidate, Effect, Input};
use rap_events::{
    Actor, Aggregate as _,
    handler::{self, ExecuteError, Request, Stop, Unit},
    keys::leadership_id,
    leadership::Leadership,
    lease::{LeaseGuard, LeaseRow, Renewal},
};
use rap_proto::{Duty, ReplicaId, Timestamp};

use super::{Control, MAX_ROUNDS, at_once};
use crate::{
    mutation::Mutation,
    turn::{Turn, calendar},
};

const DUTY: Duty = Duty::Processes;

/// The id of the replica at this place.
pub fn replica_id(index: usize) -> ReplicaId {
    ReplicaId::from_u128(0x700 + index as u128)
}

impl Control {
    /// What this replica's appends in the name of all are guarded by; none while another leads. One
    /// that is alone leads always, and needs no guard.
    pub(super) fn leads(&self, turn: &Turn<'_>) -> Option<Vec<LeaseGuard>> {
        let running = self.running.as_ref().filter(|running| !running.followed.halted)?;
        let Some(candidate) = &running.candidate else { return Some(Vec::new()) };
        let generation = candidate.leads(turn.moment)?;
        if turn.planted(Mutation::LeaderNotGuarded) {
            return Some(Vec::new());
        }
        Some(vec![leadership::guard(DUTY, replica_id(self.index), generation)])
    }

    /// Asks for the duty, or renews it, as far as that is due.
    pub(super) fn lead(&mut self, turn: &mut Turn<'_>) {
        let halted = self.is_halted();
        for _ in 0..MAX_ROUNDS {
            let Some(candidate) = self.candidate().filter(|_| !halted) else { return };
            candidate.handle_timeout(turn.moment);
            let Some(effect) = candidate.poll_effect() else { return };
            let input = self.seek(turn, effect);
            if let (Some(candidate), Some(input)) = (self.candidate(), input) {
                candidate.handle_input(turn.moment, input);
            }
        }
    }

    /// A guard refused what was given under the present term.
    pub(super) fn led_no_more(&mut self, turn: &Turn<'_>) {
        if let Some(candidate) = self.candidate()
            && let Some(generation) = candidate.leads(turn.moment)
        {
            candidate.handle_input(turn.moment, Input::Lost { generation });
        }
    }

    fn candidate(&mut self) -> Option<&mut Candidate> {
        self.running.as_mut()?.candidate.as_mut()
    }

    fn seek(&mut self, turn: &mut Turn<'_>, effect: Effect) -> Option<Input> {
        let sent = turn.moment;
        Some(match effect {
            Effect::Look => match at_once(self.leases.read_leases(Leadership::CATEGORY, None, 1)) {
                Ok(page) => {
                    let row = page.rows.first().map(|(_, row)| *row);
                    Input::Looked { row, now: page.at.now }
                }
                Err(_) => Input::Unanswered,
            },
            Effect::Take { row, now } => self.take(turn, row, now),
            Effect::Renew { generation } => {
                let holder = replica_id(self.index).uuid();
                let renewal = Renewal { lease: leadership::lease(DUTY), generation, holder };
                match at_once(self.leases.renew(vec![renewal])) {
                    Ok(renewed) => {
                        let outcome = *renewed.outcomes.first()?;
                        Input::Renewed { sent, generation, outcome }
                    }
                    Err(_) => Input::Unanswered,
                }
            }
            // Nobody resigns here.
            Effect::GiveBack { .. } => return None,
        })
    }

    fn take(&mut self, turn: &mut Turn<'_>, row: Option<LeaseRow>, now: Timestamp) -> Input {
        let (sent, replica) = (turn.moment, replica_id(self.index));
        let process = "leadership".to_owned();
        let request = self.own_request(calendar(turn.now), Actor::System { process });
        let taken = take_duty(&self.log, &request, replica, row, now);
        match taken {
            Ok(()) => {
                let generation = row.map_or(0, |row| row.generation) + 1;
                turn.coverage.count("replicas", "leads");
                turn.note(format_args!("replica {} leads under {generation}", self.index));
                Input::Granted { sent, generation }
            }
            Err(ExecuteError::Lease(_) | ExecuteError::Contended { .. }) => Input::Refused,
            Err(_) => Input::Unanswered,
        }
    }
}

fn take_duty(
    log: &std::sync::Arc<dyn rap_events::Log>,
    request: &Request,
    replica: ReplicaId,
    row: Option<LeaseRow>,
    now: Timestamp,
) -> Result<(), ExecuteError<String>> {
    let work = |mut unit: Unit| async move {
        let mut loaded = unit.load::<Leadership>(leadership_id(DUTY)).await?;
        let taking = leadership::take(&loaded.state, DUTY, replica, row.as_ref(), now);
        for command in taking.commands {
            let decided = unit.decide(&mut loaded, command);
            decided.map_err(|no| Stop::Rejected(no.to_string()))?;
        }
        unit.change_lease(taking.change);
        Ok::<_, Stop<String>>((unit, Bytes::new()))
    };
    at_once(handler::execute(log, request, work)).map(|_| ())
}
