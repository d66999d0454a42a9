//! What a node makes of the log behind what it is told: the shell of one real witness.

use rap_agent_core::{
    Machine as _,
    disk::{Disk as _, SimDisk, StateFile},
    lease::holders,
    record, snapshot,
    witness::{Effect, Input, Witness, Witnessed},
};
use rap_proto::{
    Moment, NodeId, PublicKey, Timestamp, observation::Observation, wire::node_api::TreeReply,
};
use rap_tlog::WitnessKey;

use super::{Phase, PowerCut, SimNode, asking::Asking};
use crate::{cast, message::Message, mutation::Mutation, network::Party, turn::Turn};

pub(super) struct Watching {
    pub(super) asking: Asking<Witness>,
    /// Whose machine it is, and which keys it believes.
    of: (NodeId, Vec<PublicKey>),
}

impl Watching {
    pub(super) fn load(
        disk: &SimDisk,
        of: (NodeId, Vec<PublicKey>),
        now: Moment,
        seed: u64,
    ) -> Self {
        let kept = disk.read(StateFile::TreeHead).expect("it is small");
        let kept = kept.map(|bytes| record::decode::<Witnessed>(&bytes));
        let kept = kept.transpose().expect("a tree head is replaced whole");
        Self { asking: Asking::new(machine(&of, kept, now, seed), seed), of }
    }

    pub(super) fn answered(&mut self, (now, at): (Moment, Timestamp), call: u64, reply: TreeReply) {
        if self.asking.awaits(call) {
            self.asking.machine.handle_input(now, Input::Answered { reply, at });
        }
    }
}

impl SimNode {
    /// A person looked at the log that this node is shown, and lets it begin anew: what it saw of the
    /// other one, and the beat that may name a denial of that, are removed.
    pub fn trust_again(&mut self) {
        self.disk.restore_power();
        for file in [StateFile::TreeHead, StateFile::Beat] {
            self.disk.remove(file).expect("the power is on");
        }
    }

    /// Whether this is the last question that it asked about the log.
    pub fn awaits_tree(&self, call: u64) -> bool {
        let Phase::Working(agent) = &self.phase else { return false };
        agent.watching.as_ref().is_some_and(|watching| watching.asking.awaits(call))
    }

    pub(super) fn perform_witness(
        &mut self,
        turn: &mut Turn<'_>,
        effect: Effect,
    ) -> Result<(), PowerCut> {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return Ok(()) };
        let Some(watching) = &mut agent.watching else { return Ok(()) };
        match effect {
            Effect::Ask(request) => {
                let (node, call) = (agent.id, watching.asking.next_call());
                turn.send(Party::Control, Message::AskTree { node, call, request });
            }
            Effect::Persist(head) => {
                let kept = self.disk.replace(StateFile::TreeHead, &record::encode(&head));
                kept.map_err(|_| PowerCut)?;
                watching.asking.machine.handle_input(turn.moment, Input::Persisted);
            }
            Effect::Saw { size, root } => {
                turn.note(format_args!("{} saw {size} events", self.host.name));
                turn.checkers.leases.witnessed(self.index, &root);
            }
            Effect::Refused { size, known, code } => {
                turn.coverage.fault("log refused");
                let host = &self.host.name;
                turn.note(format_args!("{host} saw {known} events and refuses {size}: {code}"));
                self.observe(turn, Observation::LogRefused { size, known, code });
            }
            Effect::Suspend(_) if turn.planted(Mutation::LogTrustedAnew) => {
                self.disk.remove(StateFile::TreeHead).map_err(|_| PowerCut)?;
                watching.asking.machine = machine(&watching.of, None, turn.moment, 1);
            }
            Effect::Suspend(_) => {
                turn.note(format_args!("{} takes nothing any more", self.host.name));
                agent.store.handle_input(turn.moment, snapshot::Input::LogRefused { at });
                agent.leases.holders.handle_input(turn.moment, holders::Input::Leave);
            }
        }
        Ok(())
    }
}

fn machine(
    (id, control_keys): &(NodeId, Vec<PublicKey>),
    kept: Option<Witnessed>,
    now: Moment,
    seed: u64,
) -> Witness {
    let key = WitnessKey::derive(*id, b"a node of the simulation");
    let mut machine = Witness::new(cast::CLUSTER, key, seed);
    machine.handle_input(now, Input::ControlKeys(control_keys.clone()));
    machine.handle_input(now, Input::Restore(kept));
    machine
}
