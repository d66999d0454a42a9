//! A node: the shell of one listener, its disk, its clock and its calendar.

use rap_agent_core::{
    Machine as _,
    beat::{BeatFloor, BeatListener, Effect, Input},
    disk::{Disk as _, SimDisk, StateFile},
    record,
};
use rap_proto::{
    Authority, Moment, Signer as _, Timestamp,
    beat::{Beat, EpochStatement},
    signed::{Payload, Unverified},
    wire::node_api::{BeatReply, BeatRequest},
};

use crate::kit::{
    Chance,
    keys::{self, CLUSTER, REPLICAS},
    process::Process,
};

use super::{
    clock::Calendar,
    coverage::{self, word},
    message::{Ask, Down, Out, Turn},
    mutation::Mutation,
};

/// More effects in one turn: the machine keeps itself busy.
const MAX_EFFECTS: usize = 100;

pub struct SimNode {
    pub process: Process<Down>,
    pub calendar: Calendar,
    disk: SimDisk,
    next_replica: usize,
    machine: Option<BeatListener>,
    authority: Authority,
    /// Asks no more, for a planted bug.
    deaf: bool,
}

impl SimNode {
    pub fn new(index: usize, seed: u64) -> Self {
        let mut process = Process::new(index, Chance::new(seed, 100 + index as u64));
        Self {
            calendar: Calendar::draw(&mut process.chance),
            process,
            disk: SimDisk::new(),
            next_replica: index,
            machine: None,
            authority: Authority::Unheard,
            deaf: false,
        }
    }

    pub fn authority(&self) -> Option<Authority> {
        let machine = self.machine.as_ref().filter(|_| !self.process.is_paused())?;
        Some(machine.authority())
    }

    pub fn boot(&mut self, turn: &mut Turn<'_>) {
        self.process.boot();
        self.deaf = false;
        self.disk.restore_power();
        let kept = self.disk.read(StateFile::Beat).expect("it is small");
        let kept = kept.map(|bytes| record::decode::<BeatFloor>(&bytes));
        let kept = kept.transpose().expect("a beat is replaced whole");
        if let Some(floor) = &kept {
            turn.checkers.restored(turn.now, self.process.index, place(floor), &floor.beat);
        }
        self.authority = Authority::Unheard;
        self.machine = Some(self.listener(turn.now, kept));
        self.drain_effects(turn);
    }

    pub fn crash(&mut self, turn: &mut Turn<'_>) {
        turn.note(format_args!("node {} crashes", self.process.index));
        self.process.crash();
        self.machine = None;
    }

    /// The power goes in the middle of the next write.
    pub fn crash_in_a_write(&mut self) {
        let survives = self.process.chance.happens(500);
        self.disk.cut_after(self.process.chance.below(900), survives);
    }

    pub fn steady(&mut self) {
        self.disk.restore_power();
        self.calendar.repair();
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, down: Down) {
        if let Some(down) = self.process.receive(down) {
            self.hear(turn, down);
            self.drain_effects(turn);
        }
    }

    /// The agent goes on: what came in the meantime waits in its sockets, and so does its timer.
    pub fn resume(&mut self, turn: &mut Turn<'_>) {
        let Some(since) = self.process.resume() else { return };
        if turn.planted(Mutation::SuspendNotCounted) {
            let stood = self.process.time(turn.now).since(self.process.time(since));
            self.process.clock.back(stood);
        }
        let timer_first = self.process.chance.happens(500);
        if timer_first {
            self.handle_timeout(turn);
        }
        for down in self.process.waiting() {
            self.handle(turn, down);
        }
        if !timer_first {
            self.handle_timeout(turn);
        }
    }

    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = self.process.time(turn.now);
        if let Some(machine) = self.machine.as_mut().filter(|_| !self.process.is_paused()) {
            machine.handle_timeout(now);
        }
        self.drain_effects(turn);
    }

    pub fn timeout(&self) -> Option<Moment> {
        self.machine.as_ref().filter(|_| !self.process.is_paused())?.poll_timeout()
    }

    fn listener(&mut self, now: Moment, kept: Option<BeatFloor>) -> BeatListener {
        let (at, now) = (self.calendar.show(now), self.process.time(now));
        let mut machine = BeatListener::new(CLUSTER, self.process.chance.number());
        machine.handle_input(now, Input::ControlKeys(vec![keys::control().public_key()]));
        machine.handle_input(now, Input::Restore { kept, at });
        machine
    }

    fn hear(&mut self, turn: &mut Turn<'_>, down: Down) {
        let (now, at) = (self.process.time(turn.now), self.calendar.show(turn.now));
        let input = match down {
            Down::Answer { incarnation, reply } if incarnation == self.process.boot => {
                self.distort(turn, &reply);
                let at = self.received(turn, &reply.beat, at);
                Input::Answered { reply, at }
            }
            Down::Refused { incarnation } if incarnation == self.process.boot => Input::Failed,
            // Of a connection that died with an earlier run.
            Down::Answer { .. } | Down::Refused { .. } => return,
            Down::Rung { sequence } => Input::Rung { sequence },
        };
        if let Some(machine) = &mut self.machine {
            machine.handle_input(now, input);
        }
    }

    /// What a planted bug takes for the time at which a beat came.
    fn received(&self, turn: &Turn<'_>, beat: &[u8], at: Timestamp) -> Timestamp {
        let issued = peek::<Beat>(beat).map(|beat| beat.issued_at);
        issued.filter(|_| turn.planted(Mutation::LifeFromReceipt)).unwrap_or(at)
    }

    /// What a shell with a planted bug makes of its machine before it hears an answer.
    fn distort(&mut self, turn: &Turn<'_>, reply: &BeatReply) {
        if !turn.planted(Mutation::EpochNotChecked) {
            return;
        }
        let Some(offered) = peek::<EpochStatement>(&reply.statement) else { return };
        let known = self.machine.as_ref().and_then(BeatListener::statement);
        if known.is_some_and(|known| rank(&offered) < rank(known)) {
            let mut forgetful = self.listener(turn.now, None);
            while forgetful.poll_effect().is_some() {}
            self.machine = Some(forgetful);
        }
    }

    fn drain_effects(&mut self, turn: &mut Turn<'_>) {
        let mut effects = 0;
        while let Some(effect) = self.machine.as_mut().and_then(BeatListener::poll_effect) {
            effects += 1;
            assert!(effects < MAX_EFFECTS, "node {} is busy with itself", self.process.index);
            self.perform(turn, effect);
        }
    }

    fn perform(&mut self, turn: &mut Turn<'_>, effect: Effect) {
        match effect {
            Effect::Ask(_) if self.deaf => {}
            Effect::Ask(request) => self.ask(turn, request),
            Effect::Persist(floor) => self.persist(turn, &floor),
            Effect::Entered(authority) => {
                let passage = format!("{} to {}", word(self.authority), word(authority));
                turn.coverage.count(coverage::NODES, passage);
                turn.note(format_args!("node {} is {authority:?}", self.process.index));
                self.authority = authority;
            }
            // For the leases and the log, of which there are none here.
            Effect::Lasts { .. } | Effect::Changed(_) => {}
            // It asks one replica after the other all the time.
            Effect::AskElsewhere | Effect::Servers { .. } => {}
            Effect::Denied { .. } => turn.coverage.count(coverage::REPLICAS, "name a denial"),
            Effect::Refused(reason) => {
                turn.coverage.count(coverage::REFUSED, format!("{reason:?}"));
                turn.note(format_args!("node {} refuses: {reason}", self.process.index));
                self.deaf = turn.planted(Mutation::RefusedForGood);
            }
        }
    }

    /// One replica after the other.
    fn ask(&mut self, turn: &mut Turn<'_>, request: BeatRequest) {
        self.next_replica = (self.next_replica + 1) % REPLICAS;
        let ask = Ask { incarnation: self.process.boot, request };
        turn.out.push(Out::Ask { replica: self.next_replica, ask });
    }

    fn persist(&mut self, turn: &mut Turn<'_>, floor: &BeatFloor) {
        let skipped = turn.planted(Mutation::FloorNotPersisted);
        let bytes = record::encode(floor);
        if !skipped && self.disk.replace(StateFile::Beat, &bytes).is_err() {
            turn.coverage.fault("torn write");
            self.crash(turn);
            return;
        }
        turn.coverage.count(coverage::REPLICAS, "tell a node");
        turn.note(format_args!("node {} keeps beat {}", self.process.index, floor.beat.sequence));
        turn.checkers.accepted(turn.now, self.process.index, place(floor), &floor.beat);
        let (now, mut at) = (self.process.time(turn.now), self.calendar.show(turn.now));
        if turn.planted(Mutation::LifeFromReceipt) {
            at = floor.beat.issued_at;
        }
        if let Some(machine) = &mut self.machine {
            machine.handle_input(now, Input::Persisted { at });
        }
    }
}

/// Where a statement stands among all.
fn rank(statement: &EpochStatement) -> (u64, u64) {
    (statement.epoch, statement.revision)
}

fn place(floor: &BeatFloor) -> (u64, u64) {
    peek::<EpochStatement>(&floor.statement).as_ref().map(rank).unwrap_or_default()
}

fn peek<T: Payload>(bytes: &[u8]) -> Option<T> {
    Unverified::<T>::parse(bytes).ok()?.peek().ok()
}
