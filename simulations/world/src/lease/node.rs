//! A node: the shell of one holder for each connection, its disk, its drivers and its packet loop.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rap_agent_core::{
    Machine as _,
    disk::{Disk as _, SimDisk, StateFile},
    lease::{Answer, Effect, Input, LeaseHolder, RequestId, floor},
};
use rap_control_core::lease::Readiness;
use rap_proto::{Generation, LeaseClass, Moment, lease::STOP_BUDGET};

use crate::kit::{Chance, process::Process};

use super::{
    admin::connection_id,
    coverage::HOLDERS,
    driver::{Done, Driver},
    message::{Asked, Down, Out, Turn, Up},
    mutation::Mutation,
    witness::{Done as Witnessed, SimWitness},
};

/// How long a driver takes to start, at most.
const STARTS_WITHIN: Duration = Duration::from_millis(300);
/// More effects in one turn: the machine keeps itself busy.
const MAX_EFFECTS: usize = 1_000;

/// What comes to an agent. While it stands still, it waits.
#[derive(Debug, Clone)]
pub enum Happening {
    Down(Down),
    Driver {
        connection: usize,
        incarnation: u32,
        done: Done,
    },
    Drain(bool),
    /// By the node's own clock.
    Beat {
        until: Moment,
    },
}

pub struct SimNode {
    /// The agent's: its drivers and its packet loop are no part of it.
    pub process: Process<Happening>,
    /// The packet loop stands still.
    pub loop_paused: bool,
    disk: SimDisk,
    replicas: usize,
    next_replica: usize,
    draining: bool,
    holdings: Vec<Holding>,
    /// Whether there is a witness: where the log may forget.
    watches: bool,
    witness: Option<SimWitness>,
    /// Which witness of this node that is: another one takes no answer that this one waited for.
    watch: u32,
}

struct Holding {
    machine: LeaseHolder,
    driver: Driver,
    beat: Moment,
    /// What a shell with a planted bug needs to know.
    sent: BTreeMap<RequestId, Moment>,
    offered: Option<LeaseClass>,
    phase: &'static str,
}

impl SimNode {
    pub fn new(index: usize, seed: u64, replicas: usize, watches: bool) -> Self {
        Self {
            process: Process::new(index, Chance::new(seed, 100 + index as u64)),
            loop_paused: false,
            disk: SimDisk::new(),
            next_replica: index % replicas,
            replicas,
            draining: false,
            holdings: Vec::new(),
            watches,
            witness: None,
            watch: 0,
        }
    }

    pub fn boot(&mut self, turn: &mut Turn<'_>, connections: usize) {
        self.process.boot();
        self.disk.restore_power();
        let now = self.process.time(turn.now);
        for connection in 0..connections {
            let floor = floor::load(&self.disk, connection_id(connection));
            let floor = floor.expect("a floor is replaced whole");
            let seed = self.process.chance.number();
            let mut holding = Holding {
                machine: LeaseHolder::new(now, floor, seed),
                driver: Driver::Off,
                beat: Moment::default(),
                sent: BTreeMap::new(),
                offered: None,
                phase: "off",
            };
            if turn.planted(Mutation::NoRestartWait) && floor > Generation::NONE {
                holding.resume(now, floor, seed);
            }
            if turn.planted(Mutation::BeatIgnored) {
                let until = Moment::from_micros(u64::MAX / 4);
                holding.machine.handle_input(now, Input::Beat { until });
            }
            holding.machine.handle_input(now, Input::Drain(self.draining));
            self.holdings.push(holding);
        }
        self.begin_to_watch(now);
        self.drain_effects(turn);
    }

    fn begin_to_watch(&mut self, now: Moment) {
        self.watch += 1;
        let seed = self.process.index as u64;
        self.witness =
            self.watches.then(|| SimWitness::boot(self.process.index, &self.disk, now, seed));
    }

    /// A person looked at the log: what this node saw of it is put aside.
    pub fn trust_again(&mut self, turn: &mut Turn<'_>) {
        if self.watches {
            self.disk.remove(StateFile::TreeHead).expect("the power is there");
            turn.checkers.trusted_again(self.process.index);
            self.begin_to_watch(self.process.time(turn.now));
            self.take_in(turn, Happening::Drain(self.draining));
            self.drain_effects(turn);
        }
    }

    /// The agent is gone, and its drivers with it.
    pub fn crash(&mut self, turn: &mut Turn<'_>) {
        turn.note(format_args!("node {} crashes", self.process.index));
        self.process.crash();
        self.loop_paused = false;
        self.holdings.clear();
        self.witness = None;
    }

    /// The power goes in the middle of the next write.
    pub fn crash_in_a_write(&mut self) {
        let survives = self.process.chance.happens(500);
        self.disk.cut_after(self.process.chance.below(70), survives);
    }

    pub fn steady(&mut self) {
        self.disk.restore_power();
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, happening: Happening) {
        if let Happening::Drain(draining) = happening {
            self.draining = draining;
        }
        if !self.process.up {
            return;
        }
        // A driver is no part of the agent's thread.
        if let Happening::Driver { connection, incarnation, done } = happening
            && incarnation == self.process.boot
        {
            self.holdings[connection].driver.done(done);
        }
        if let Some(happening) = self.process.receive(happening) {
            self.take_in(turn, happening);
            self.drain_effects(turn);
        }
    }

    /// The agent goes on: what came in the meantime waits in its sockets.
    pub fn resume(&mut self, turn: &mut Turn<'_>) {
        self.process.resume();
        self.loop_paused = false;
        for happening in self.process.waiting() {
            if self.process.up {
                self.take_in(turn, happening);
                self.drain_effects(turn);
            }
        }
    }

    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.process.is_paused() {
            return;
        }
        let now = self.process.time(turn.now);
        for holding in &mut self.holdings {
            if holding.machine.poll_timeout().is_some_and(|at| at <= now) {
                holding.machine.handle_timeout(now);
            }
        }
        if let Some(witness) = &mut self.witness {
            witness.handle_timeout(now);
        }
        self.drain_effects(turn);
    }

    pub fn timeout(&self) -> Option<Moment> {
        let timeouts = self.holdings.iter().filter_map(|holding| holding.machine.poll_timeout());
        let witness = self.witness.as_ref().and_then(SimWitness::timeout);
        timeouts.chain(witness).min().filter(|_| self.process.works())
    }

    pub fn report(&self, turn: &mut Turn<'_>) {
        if !self.process.works() {
            return;
        }
        let readiness = |holding: &Holding| {
            let report = holding.machine.report();
            Readiness { ready: report.ready, floor: report.floor, holding: report.holding }
        };
        // Of each connection; all replicas are told the same.
        let report: Arc<[Readiness]> = self.holdings.iter().map(readiness).collect();
        for replica in 0..self.replicas {
            turn.out.push(Out::Up { replica, up: Up::Report(report.clone()) });
        }
    }

    /// Under which generation this node touches what the connection leads to, at this instant.
    pub fn touches(
        &self,
        now: Moment,
        connection: usize,
        mutation: Option<Mutation>,
    ) -> Option<Generation> {
        let holding = self.holdings.get(connection).filter(|_| !self.loop_paused)?;
        let generation = holding.driver.generation()?;
        let now = self.process.time(now);
        let machine = &holding.machine;
        let touches = match (holding.driver, mutation) {
            (Driver::On(_) | Driver::Starting(_), Some(Mutation::TimerOnly))
            | (Driver::Stopping(_), Some(Mutation::DeactivateNotAwaited)) => true,
            (Driver::Stopping(_), _) => machine.may_finish(now, generation),
            _ => machine.may_forward(now, generation),
        };
        touches.then_some(generation)
    }

    /// Whether the newest beat that came here is still valid.
    pub fn has_beat(&self, now: Moment, connection: usize) -> bool {
        let now = self.process.time(now);
        self.holdings.get(connection).is_some_and(|holding| now < holding.beat + STOP_BUDGET)
    }

    /// Whether the connection is up here.
    pub fn serves(&self, now: Moment, connection: usize) -> bool {
        let holding = self.holdings.get(connection);
        holding.is_some_and(|holding| matches!(holding.driver, Driver::On(_)))
            && self.touches(now, connection, None).is_some()
    }

    fn take_in(&mut self, turn: &mut Turn<'_>, happening: Happening) {
        let now = self.process.time(turn.now);
        match happening {
            Happening::Down(down) => self.hear(turn, now, down),
            Happening::Driver { connection, incarnation, done } => {
                if incarnation != self.process.boot {
                    return;
                }
                let input = match done {
                    Done::Started(generation) => Input::Activated { generation },
                    Done::NotStarted(generation) => Input::Failed { generation },
                    Done::Stopped(generation) => Input::Deactivated { generation },
                };
                self.holdings[connection].machine.handle_input(now, input);
            }
            Happening::Drain(draining) => {
                if turn.planted(Mutation::ReleaseIgnored) {
                    return;
                }
                // Of a control whose log was rewritten nothing is taken.
                let suspended = self.witness.as_ref().is_some_and(|witness| witness.suspended);
                for holding in &mut self.holdings {
                    holding.machine.handle_input(now, Input::Drain(draining || suspended));
                }
            }
            Happening::Beat { until } => {
                for holding in &mut self.holdings {
                    holding.beat = until;
                    holding.machine.handle_input(now, Input::Beat { until });
                }
            }
        }
    }

    fn hear(&mut self, turn: &mut Turn<'_>, now: Moment, down: Down) {
        match down {
            Down::Answer { connection, asked, answer } => {
                if asked.incarnation == self.process.boot {
                    let mutation = turn.mutation;
                    let (request, answer) =
                        self.holdings[connection].distort(now, asked.request, answer, mutation);
                    let input = Input::Answered { request, answer };
                    self.holdings[connection].machine.handle_input(now, input);
                }
            }
            Down::Tree { watch, reply } => {
                if let Some(witness) = self.witness.as_mut().filter(|_| watch == self.watch) {
                    witness.answered(now, reply, turn.mutation);
                }
            }
            Down::Released { connection, generation } => {
                let input = Input::ReleaseTaken { generation };
                self.holdings[connection].machine.handle_input(now, input);
            }
            Down::Offer { connection, generation, class } => {
                let holding = &mut self.holdings[connection];
                let fresh = generation > holding.machine.report().floor;
                holding.offered = fresh.then_some(class);
                holding.machine.handle_input(now, Input::Offered { generation, class });
            }
            Down::AskRelease { connection, generation } => {
                if !turn.planted(Mutation::ReleaseIgnored) {
                    let input = Input::ReleaseAsked { generation };
                    self.holdings[connection].machine.handle_input(now, input);
                }
            }
        }
    }

    fn drain_effects(&mut self, turn: &mut Turn<'_>) {
        let now = self.process.time(turn.now);
        self.drain_witness(turn, now);
        for connection in 0..self.holdings.len() {
            let mut effects = 0;
            while let Some(effect) =
                self.holdings.get_mut(connection).and_then(|holding| holding.machine.poll_effect())
            {
                effects += 1;
                assert!(effects < MAX_EFFECTS, "node {} is busy with itself", self.process.index);
                self.perform(turn, now, connection, effect);
            }
            if let Some(holding) = self.holdings.get_mut(connection) {
                let phase = holding.machine.phase().as_str();
                if phase != holding.phase {
                    turn.coverage.count(HOLDERS, format!("{} to {phase}", holding.phase));
                    turn.note(format_args!(
                        "node {} connection {connection}: {phase}",
                        self.process.index
                    ));
                    holding.phase = phase;
                }
            }
        }
    }

    fn drain_witness(&mut self, turn: &mut Turn<'_>, now: Moment) {
        let before = self.witness.as_ref().is_some_and(|witness| witness.suspended);
        let mut effects = 0;
        while let Some(witness) = &mut self.witness
            && let Some(done) = witness.step(turn, now, &mut self.disk)
        {
            effects += 1;
            assert!(
                effects < MAX_EFFECTS,
                "the witness {} is busy with itself",
                self.process.index
            );
            match done {
                Witnessed::Nothing => {}
                Witnessed::Ask(request) => {
                    let watch = self.watch;
                    self.send(turn, Up::Tree { watch, request });
                }
                Witnessed::Torn => {
                    turn.coverage.fault("torn write");
                    self.crash(turn);
                }
            }
        }
        let suspended = self.witness.as_ref().is_some_and(|witness| witness.suspended);
        if suspended && !before {
            turn.coverage.fault("node suspended itself");
            self.take_in(turn, Happening::Drain(self.draining));
        }
    }

    fn perform(&mut self, turn: &mut Turn<'_>, now: Moment, connection: usize, effect: Effect) {
        match effect {
            Effect::PersistFloor { generation } => {
                let skipped = turn.planted(Mutation::FloorNotPersisted);
                let id = connection_id(connection);
                if !skipped && floor::persist(&mut self.disk, id, generation).is_err() {
                    turn.coverage.fault("torn write");
                    self.crash(turn);
                    return;
                }
                let machine = &mut self.holdings[connection].machine;
                machine.handle_input(now, Input::Persisted { generation });
            }
            Effect::SendRenewal { request, generation } => {
                let asked = Asked { request, incarnation: self.process.boot };
                self.send(turn, Up::Renew { connection, generation, asked });
                let holding = &mut self.holdings[connection];
                if turn.mutation.is_some() {
                    holding.sent.insert(request, now);
                }
                if turn.planted(Mutation::ReplayedGrant)
                    && let Some(class) = holding.offered.take()
                {
                    let answer = Answer::Granted { remaining: class.ttl() };
                    holding.machine.handle_input(now, Input::Answered { request, answer });
                }
            }
            Effect::Activate { generation } => self.activate(turn, connection, generation),
            Effect::Deactivate { generation } => self.deactivate(turn, connection, generation),
            Effect::SendRelease { generation } => {
                self.send(turn, Up::Release { connection, generation });
            }
            Effect::Probe => {
                let machine = &mut self.holdings[connection].machine;
                machine.handle_input(now, Input::Probed { ready: true });
            }
            Effect::Report(report) => {
                if report.overdue {
                    turn.coverage.fault("driver overdue");
                }
            }
        }
    }

    /// To one replica after the other, so that one that is cut off costs one try.
    fn send(&mut self, turn: &mut Turn<'_>, up: Up) {
        self.next_replica = (self.next_replica + 1) % self.replicas;
        turn.out.push(Out::Up { replica: self.next_replica, up });
    }

    fn activate(&mut self, turn: &mut Turn<'_>, connection: usize, generation: Generation) {
        turn.checkers.activated(connection, self.process.index, generation, self.process.boot);
        self.holdings[connection].driver = Driver::Starting(generation);
        let fails = turn.chance.happens(turn.mix.driver_fails);
        if fails {
            turn.coverage.fault("driver does not start");
        }
        let done = if fails { Done::NotStarted(generation) } else { Done::Started(generation) };
        let after = turn.chance.between(Duration::from_millis(1), STARTS_WITHIN);
        turn.out.push(Out::Driver { connection, incarnation: self.process.boot, done, after });
    }

    fn deactivate(&mut self, turn: &mut Turn<'_>, connection: usize, generation: Generation) {
        let now = self.process.time(turn.now);
        let holding = &mut self.holdings[connection];
        if holding.driver == Driver::Off {
            holding.machine.handle_input(now, Input::Deactivated { generation });
            return;
        }
        holding.driver = Driver::Stopping(generation);
        if turn.planted(Mutation::DeactivateNotAwaited) {
            holding.machine.handle_input(now, Input::Deactivated { generation });
        }
        let budget = self.process.clock.span(STOP_BUDGET);
        let after = match turn.chance.happens(turn.mix.driver_late) {
            true if turn.chance.happens(200) => budget * 4,
            true => budget,
            false => turn.chance.between(Duration::from_millis(1), budget / 2),
        };
        let done = Done::Stopped(generation);
        turn.out.push(Out::Driver { connection, incarnation: self.process.boot, done, after });
    }
}

impl Holding {
    /// What a shell with a planted bug makes of an answer.
    fn distort(
        &mut self,
        now: Moment,
        request: RequestId,
        answer: Answer,
        mutation: Option<Mutation>,
    ) -> (RequestId, Answer) {
        let Some(mutation) = mutation else { return (request, answer) };
        let sent = self.sent.get(&request).copied();
        let Answer::Granted { remaining } = answer else { return (request, answer) };
        match (mutation, sent) {
            (Mutation::DeadlineFromReceipt, Some(sent)) => {
                let late = now.since(sent) * 103 / 100;
                (request, Answer::Granted { remaining: remaining + late })
            }
            (Mutation::NoDriftMargin, _) => {
                (request, Answer::Granted { remaining: remaining * 100 / 98 })
            }
            (Mutation::StaleAnswerAccepted, _) => {
                let newest = self.sent.keys().next_back().copied();
                (newest.map_or(request, |newest| newest.max(request)), answer)
            }
            _ => (request, answer),
        }
    }

    /// What an agent would do that believes its disk.
    fn resume(&mut self, now: Moment, floor: Generation, seed: u64) {
        let class = LeaseClass::Fast;
        let mut machine = LeaseHolder::new(now, Generation::NONE, seed);
        self.beat = now + Duration::from_secs(30);
        machine.handle_input(now, Input::Beat { until: self.beat });
        machine.handle_input(now, Input::Offered { generation: floor, class });
        machine.handle_input(now, Input::Persisted { generation: floor });
        let answer = Answer::Granted { remaining: class.ttl() };
        machine.handle_input(now, Input::Answered { request: RequestId(1), answer });
        self.machine = machine;
    }
}
