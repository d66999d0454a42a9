//! A machine of a node that asks control something now and then.

use rap_agent_core::Machine;
use rap_proto::Moment;

pub(super) struct Asking<M> {
    pub(super) machine: M,
    /// The last question.
    call: u64,
}

impl<M: Machine> Asking<M> {
    /// Two runs of a node number their questions differently.
    pub(super) fn new(machine: M, seed: u64) -> Self {
        Self { machine, call: seed >> 1 }
    }

    /// What the next question is called.
    pub(super) fn next_call(&mut self) -> u64 {
        self.call += 1;
        self.call
    }

    /// Whether an answer is one to the last question.
    pub(super) fn awaits(&self, call: u64) -> bool {
        self.call == call
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) {
        self.machine.handle_timeout(now);
    }

    pub(super) fn timeout(&self) -> Option<Moment> {
        self.machine.poll_timeout()
    }

    pub(super) fn poll_effect(&mut self) -> Option<M::Effect> {
        self.machine.poll_effect()
    }
}
