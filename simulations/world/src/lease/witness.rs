//! What a node makes of the log behind the leases: the shell of one real witness.

use std::str;

use rap_agent_core::{
    Machine as _,
    disk::{Disk as _, DiskError, SimDisk, StateFile},
    record,
    witness::{Effect, Input, Witness, Witnessed},
};
use rap_proto::{
    Moment, Signer as _, Timestamp,
    wire::node_api::{TreeReply, TreeRequest},
};

use crate::kit::{
    heads,
    keys::{self, CLUSTER},
};

use super::{admin::node_id, message::Turn, mutation::Mutation};

/// When a node cosigns; no checker looks at it.
const AT: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

pub struct SimWitness {
    node: usize,
    machine: Witness,
    /// The size that is on the disk.
    size: u64,
    /// Nothing that control says counts any more.
    pub suspended: bool,
}

/// What becomes of the machine's effects.
#[derive(Debug)]
pub enum Done {
    Nothing,
    Ask(TreeRequest),
    /// The power went.
    Torn,
}

impl SimWitness {
    pub fn boot(node: usize, disk: &SimDisk, now: Moment, seed: u64) -> Self {
        let kept = disk.read(StateFile::TreeHead).expect("it is small");
        let kept = kept.map(|bytes| record::decode::<Witnessed>(&bytes));
        let kept = kept.transpose().expect("a tree head is replaced whole");
        let size = kept.as_ref().map_or(0, |kept| kept.size);
        Self { node, machine: machine(node, kept, now, seed), size, suspended: false }
    }

    pub fn answered(&mut self, now: Moment, reply: TreeReply, mutation: Option<Mutation>) {
        let smaller = size_of(&reply.head).is_some_and(|size| size < self.size);
        if smaller && mutation == Some(Mutation::SmallerHeadAccepted) {
            self.machine = machine(self.node, None, now, 1);
            while self.machine.poll_effect().is_some() {}
        }
        self.machine.handle_input(now, Input::Answered { reply, at: AT });
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        self.machine.handle_timeout(now);
    }

    pub fn timeout(&self) -> Option<Moment> {
        self.machine.poll_timeout()
    }

    /// Performs the next effect; `None` when there is none.
    pub fn step(&mut self, turn: &mut Turn<'_>, now: Moment, disk: &mut SimDisk) -> Option<Done> {
        let done = match self.machine.poll_effect()? {
            Effect::Ask(request) => Done::Ask(request),
            Effect::Persist(head) => match keep(disk, &head) {
                Ok(()) => {
                    self.size = head.size;
                    self.machine.handle_input(now, Input::Persisted);
                    Done::Nothing
                }
                Err(_) => Done::Torn,
            },
            Effect::Saw { size, root } => {
                turn.note(format_args!("node {} saw {size} events", self.node));
                turn.checkers.witnessed(self.node, &root);
                Done::Nothing
            }
            Effect::Refused { size, known, code } => {
                turn.coverage.fault("log refused");
                turn.note(format_args!(
                    "node {} saw {known} events and refuses {size}: {code}",
                    self.node
                ));
                Done::Nothing
            }
            Effect::Suspend(_) => {
                self.suspended = true;
                Done::Nothing
            }
        };
        Some(done)
    }
}

/// How many events a signed head is of: the second line of its note.
pub fn size_of(head: &[u8]) -> Option<u64> {
    str::from_utf8(head).ok()?.lines().nth(1)?.parse().ok()
}

fn machine(node: usize, kept: Option<Witnessed>, now: Moment, seed: u64) -> Witness {
    let key = keys::witness(node_id(node));
    let mut machine = Witness::new(CLUSTER, key, seed).opening_by(heads::open);
    machine.handle_input(now, Input::ControlKeys(vec![keys::control().public_key()]));
    machine.handle_input(now, Input::Restore(kept));
    machine
}

fn keep(disk: &mut SimDisk, head: &Witnessed) -> Result<(), DiskError> {
    disk.replace(StateFile::TreeHead, &record::encode(head))
}
