//! Whether control's word counts: the shell of one real listener.

use rap_agent_core::{
    Machine as _,
    beat::{BeatFloor, BeatListener, Effect, Input},
    disk::{Disk as _, SimDisk, StateFile},
    fetch,
    lease::holders,
    record,
};
use rap_proto::{
    Authority, Moment, PublicKey, Timestamp, beat::EpochStatement, observation::Observation,
    signed::Unverified, wire::node_api::BeatReply,
};

use super::{Phase, PowerCut, SimNode, asking::Asking};
use crate::{
    beat::coverage::word, cast, message::Message, mutation::Mutation, network::Party, turn::Turn,
};

pub(super) struct Hearing {
    pub(super) asking: Asking<BeatListener>,
    /// What was said last of what control's word is worth.
    pub(super) authority: Authority,
}

impl Hearing {
    /// With what is on the disk.
    pub(super) fn load(
        disk: &SimDisk,
        control_keys: Vec<PublicKey>,
        (now, at): (Moment, Timestamp),
        seed: u64,
    ) -> (Self, Option<BeatFloor>) {
        let kept = disk.read(StateFile::Beat).expect("it is small");
        let kept = kept.map(|bytes| record::decode::<BeatFloor>(&bytes));
        let kept = kept.transpose().expect("a beat is replaced whole");
        let mut machine = BeatListener::new(cast::CLUSTER, seed);
        machine.handle_input(now, Input::ControlKeys(control_keys));
        machine.handle_input(now, Input::Restore { kept: kept.clone(), at });
        let asking = Asking::new(machine, seed);
        (Self { asking, authority: Authority::default() }, kept)
    }

    pub(super) fn answered(&mut self, (now, at): (Moment, Timestamp), call: u64, reply: BeatReply) {
        if self.asking.awaits(call) {
            self.asking.machine.handle_input(now, Input::Answered { reply, at });
        }
    }
}

impl SimNode {
    /// From its next start on it asks for beats.
    pub fn hear_beats(&mut self) {
        self.hears = true;
    }

    /// What control's word is worth to a node that works and hears of beats.
    pub fn authority(&self) -> Option<Authority> {
        Some(self.agent()?.hearing.as_ref()?.asking.machine.authority())
    }

    pub(super) fn perform_beat(
        &mut self,
        turn: &mut Turn<'_>,
        effect: Effect,
    ) -> Result<(), PowerCut> {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return Ok(()) };
        let Some(hearing) = &mut agent.hearing else { return Ok(()) };
        match effect {
            Effect::Ask(request) => {
                let (node, call) = (agent.id, hearing.asking.next_call());
                turn.send(Party::Control, Message::AskBeat { node, call, request });
            }
            Effect::Persist(floor) => {
                if !turn.planted(Mutation::BeatNotKept) {
                    let kept = self.disk.replace(StateFile::Beat, &record::encode(&*floor));
                    kept.map_err(|_| PowerCut)?;
                }
                turn.checkers.beat.accepted(turn.now, self.index, place(&floor), &floor.beat);
                hearing.asking.machine.handle_input(turn.moment, Input::Persisted { at });
            }
            Effect::Entered(authority) => {
                let passage = format!("{} to {}", word(hearing.authority), word(authority));
                turn.coverage.count("beats", passage);
                turn.note(format_args!("{} is {authority:?}", self.host.name));
                hearing.authority = authority;
                if let Some((view, _)) = &mut agent.view {
                    view.authority = authority;
                }
            }
            Effect::Changed(change) => {
                turn.coverage.count("beats", format!("tells {}", change.standing));
                self.observe(turn, Observation::AuthorityChanged { change });
            }
            Effect::Lasts { until } => {
                agent.leases.holders.handle_input(turn.moment, holders::Input::Authority { until });
            }
            Effect::Denied { version } => {
                agent.fetcher.handle_input(turn.moment, fetch::Input::Doorbell { version });
            }
            Effect::Refused(reason) => {
                turn.coverage.count("beats", format!("refused: {reason:?}"));
                turn.note(format_args!("{} refuses a beat: {reason}", self.host.name));
            }
            // Here each call goes to any replica.
            Effect::Servers { .. } => {}
            Effect::AskElsewhere => turn.coverage.count("beats", "asks elsewhere"),
        }
        Ok(())
    }
}

/// Where the statement stands among all.
pub(super) fn place(floor: &BeatFloor) -> (u64, u64) {
    let statement = Unverified::<EpochStatement>::parse(&floor.statement);
    let statement = statement.and_then(|found| found.peek()).ok();
    statement.map_or((0, 0), |statement| (statement.epoch, statement.revision))
}
