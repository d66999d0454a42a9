//! The machine that holds one connection's lease, or waits to.
//!
//! INVARIANT: [`LeaseHolder::may_forward`] is false at and after the deadline, whatever inputs
//! and timeouts come late or never. The packet loop asks it for every packet, because a timer is
//! late exactly when it matters: while the process stands still.
//!
//! INVARIANT: a generation is activated only above the floor that was found at the start, so
//! that no run of the agent goes on with what another one held.
//!
//! INVARIANT: a generation is given back only when the floor that covers it is durable. A release may be
//! under way for long, and a renewal that leaves after it may come before it: whoever took up again
//! what it gave back would be active while control grants it to another node.

use std::{collections::VecDeque, mem};

use rap_proto::{Generation, LeaseClass, Moment, lease::STOP_BUDGET};

use super::{
    ACTIVATE_LIMIT, Answer, DRAIN_LIMIT, Effect, Input, MAX_RELEASES, PROBE_EVERY, Permit, Phase,
    RELEASE_AGAIN, Report, StopReason, Term,
};
use crate::{Machine, jitter::Jitter};

pub struct LeaseHolder {
    phase: Phase,
    /// When the present phase began.
    since: Moment,
    class: LeaseClass,
    term: Term,
    floor: Generation,
    ready: bool,
    drain_by: Option<Moment>,
    renew_at: Moment,
    probe_at: Moment,
    /// A newer grant, which waits until the driver has stopped.
    next: Option<(Generation, LeaseClass)>,
    /// Given up before it was acquired: given back when the floor that covers it is durable.
    given_up: Option<Generation>,
    release: Option<Release>,
    overdue: bool,
    reported: Report,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

/// A release that control has not answered yet.
#[derive(Debug, Clone, Copy)]
struct Release {
    generation: Generation,
    sent: u32,
    again_at: Moment,
}

impl LeaseHolder {
    /// `floor` is what the disk says. A node that held something stops its driver first, because
    /// an agent may die and leave a tunnel behind; then it gives back what it held.
    pub fn new(now: Moment, floor: Generation, seed: u64) -> Self {
        let mut holder = Self {
            phase: Phase::Standby,
            since: now,
            class: LeaseClass::Fast,
            term: Term::default(),
            floor,
            ready: false,
            drain_by: None,
            renew_at: now,
            probe_at: now,
            next: None,
            given_up: None,
            release: None,
            overdue: false,
            reported: Report::default(),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        };
        if floor > Generation::NONE {
            holder.stop(now, floor, StopReason::Restart);
        }
        holder
    }

    /// Whether a packet may leave at `now` under `generation`.
    pub fn may_forward(&self, now: Moment, generation: Generation) -> bool {
        self.permit().is_some_and(|permit| permit.covers(now, generation))
    }

    /// What the packet loop is shown, anew after every input. One that it was shown before is no
    /// longer than the newest one, unless the lease was given up meanwhile.
    pub fn permit(&self) -> Option<Permit> {
        let running = matches!(self.phase, Phase::Activating { .. } | Phase::Active { .. });
        let generation = self.phase.generation().filter(|_| running)?;
        Some(Permit { generation, until: self.term.deadline()? })
    }

    /// Whether nothing of the connection is left to be done here.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Standby && self.given_up.is_none() && self.release.is_none()
    }

    /// Whether what was taken before may still leave while the driver stops.
    pub fn may_finish(&self, now: Moment, generation: Generation) -> bool {
        self.phase.generation() == Some(generation) && self.term.may_finish(now)
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn report(&self) -> Report {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        Report {
            ready: self.ready && self.drain_by.is_none(),
            draining: self.drain_by.is_some(),
            floor: self.floor,
            holding: self.phase.generation().filter(|_| !stopping),
            active: matches!(self.phase, Phase::Active { .. }),
            overdue: self.overdue,
        }
    }

    fn enter(&mut self, now: Moment, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }

    fn offered(&mut self, now: Moment, generation: Generation, class: LeaseClass) {
        let newest = self.phase.generation().max(self.next.map(|next| next.0)).max(self.given_up);
        if generation <= self.floor || newest.is_some_and(|newest| generation <= newest) {
            return;
        }
        if self.drain_by.is_some() {
            self.given_up = Some(generation);
            self.effects.push_back(Effect::PersistFloor { generation });
            return;
        }
        match self.phase {
            Phase::Standby | Phase::Persisting { .. } | Phase::Acquiring { .. } => {
                self.begin(now, generation, class);
            }
            Phase::Activating { generation: old } | Phase::Active { generation: old } => {
                self.next = Some((generation, class));
                self.stop(now, old, StopReason::Refused);
            }
            Phase::Stopping { .. } => self.next = Some((generation, class)),
        }
    }

    fn begin(&mut self, now: Moment, generation: Generation, class: LeaseClass) {
        self.class = class;
        self.term.clear();
        self.given_up = self.given_up.filter(|given_up| *given_up > generation);
        self.release = None;
        self.enter(now, Phase::Persisting { generation });
        self.effects.push_back(Effect::PersistFloor { generation });
    }

    fn persisted(&mut self, now: Moment, generation: Generation) {
        self.floor = self.floor.max(generation);
        if self.given_up == Some(generation) {
            self.given_up = None;
            self.give_back(now, generation);
        }
        if self.phase == (Phase::Persisting { generation }) {
            self.enter(now, Phase::Acquiring { generation });
            self.renew(now, generation);
        }
    }

    fn renew(&mut self, now: Moment, generation: Generation) {
        let request = self.term.ask(now, generation);
        self.effects.push_back(Effect::SendRenewal { request, generation });
        self.renew_at = now + self.jitter.around(self.class.renew_every(), 10);
    }

    fn answered(&mut self, now: Moment, generation: Generation, sent: Moment, answer: Answer) {
        if self.phase.generation() != Some(generation) {
            return;
        }
        match (answer, self.phase) {
            (_, Phase::Standby | Phase::Persisting { .. } | Phase::Stopping { .. }) => {}
            (Answer::Granted { remaining }, phase) => {
                self.term.extend(sent, remaining);
                if matches!(phase, Phase::Acquiring { .. }) && self.term.lasts(now) {
                    self.enter(now, Phase::Activating { generation });
                    self.effects.push_back(Effect::Activate { generation });
                }
            }
            (Answer::Superseded { .. } | Answer::Over, Phase::Acquiring { .. }) => {
                self.enter(now, Phase::Standby);
            }
            (Answer::Superseded { .. } | Answer::Over, _) => {
                self.stop(now, generation, StopReason::Refused);
            }
        }
    }

    fn stop(&mut self, now: Moment, generation: Generation, why: StopReason) {
        self.enter(now, Phase::Stopping { generation, why });
        self.effects.push_back(Effect::Deactivate { generation });
    }

    fn deactivated(&mut self, now: Moment, generation: Generation) {
        let Phase::Stopping { generation: stopping, why } = self.phase else { return };
        if stopping != generation {
            return;
        }
        self.overdue = false;
        self.term.clear();
        self.enter(now, Phase::Standby);
        self.probe_at = now;
        // What came meanwhile may have been overtaken by what was given back.
        let newest = self.given_up.unwrap_or(self.floor).max(self.floor);
        match self.next.take().filter(|(generation, _)| *generation > newest) {
            Some((generation, class)) => self.begin(now, generation, class),
            None if why == StopReason::Refused => {}
            None => self.give_back(now, generation),
        }
    }

    /// Gives up a lease for whose generation no driver runs, and which the floor covers.
    fn give_back(&mut self, now: Moment, generation: Generation) {
        if self.release.is_some_and(|release| release.generation > generation) {
            return;
        }
        self.release = Some(Release { generation, sent: 0, again_at: now });
        self.release_again(now);
    }

    fn release_again(&mut self, now: Moment) {
        let Some(release) = &mut self.release else { return };
        if now < release.again_at {
            return;
        }
        if release.sent == MAX_RELEASES {
            self.release = None;
            return;
        }
        release.sent += 1;
        release.again_at = now + RELEASE_AGAIN;
        self.effects.push_back(Effect::SendRelease { generation: release.generation });
    }

    /// Gives up the lease, in whatever phase it is.
    fn leave(&mut self, now: Moment, why: StopReason) {
        match self.phase {
            Phase::Standby | Phase::Stopping { .. } => {}
            Phase::Persisting { generation } => {
                self.enter(now, Phase::Standby);
                self.given_up = self.given_up.max(Some(generation));
            }
            Phase::Acquiring { generation } => {
                self.term.clear();
                self.enter(now, Phase::Standby);
                self.give_back(now, generation);
            }
            Phase::Activating { generation } | Phase::Active { generation } => {
                self.stop(now, generation, why);
            }
        }
    }

    /// What time alone decides. Comes before every input, so that none is handled as if the
    /// deadline had not passed.
    fn expire(&mut self, now: Moment) {
        match self.phase {
            Phase::Activating { generation } | Phase::Active { generation }
                if !self.term.lasts(now) =>
            {
                self.stop(now, generation, StopReason::Expired);
            }
            Phase::Activating { generation } if now >= self.since + ACTIVATE_LIMIT => {
                self.stop(now, generation, StopReason::DriverFailed);
            }
            // Nobody answered for as long as a grant lives.
            Phase::Acquiring { .. } if now >= self.since + self.class.ttl() => {
                self.leave(now, StopReason::Expired);
            }
            Phase::Stopping { .. } if now >= self.since + STOP_BUDGET => self.overdue = true,
            _ => {}
        }
        if self.drain_by.is_some_and(|by| now >= by) {
            self.leave(now, StopReason::Draining);
        }
    }

    fn tell(&mut self) {
        let report = self.report();
        if mem::replace(&mut self.reported, report) != report {
            self.effects.push_back(Effect::Report(report));
        }
    }
}

impl Machine for LeaseHolder {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        self.expire(now);
        match input {
            Input::Offered { generation, class } => self.offered(now, generation, class),
            Input::Persisted { generation } => self.persisted(now, generation),
            Input::Answered { request, answer } => {
                if let Some((generation, sent)) = self.term.answered(request) {
                    self.answered(now, generation, sent, answer);
                }
            }
            Input::Activated { generation } => {
                if self.phase == (Phase::Activating { generation }) {
                    self.enter(now, Phase::Active { generation });
                }
            }
            Input::Failed { generation } => {
                self.ready = false;
                if self.phase.generation() == Some(generation) {
                    self.leave(now, StopReason::DriverFailed);
                }
                // It is not written down, and never given back: it runs out.
                self.given_up = self.given_up.filter(|given_up| *given_up != generation);
            }
            Input::Deactivated { generation } => self.deactivated(now, generation),
            Input::Probed { ready } => self.ready = ready,
            Input::ReleaseAsked { generation } => {
                if self.phase.generation() == Some(generation) {
                    self.leave(now, StopReason::Asked);
                }
            }
            Input::ReleaseTaken { generation } => {
                if self.release.is_some_and(|release| release.generation == generation) {
                    self.release = None;
                }
            }
            Input::Drain(true) => {
                self.drain_by.get_or_insert(now + DRAIN_LIMIT);
            }
            Input::Drain(false) => self.drain_by = None,
            Input::Beat { until } => self.term.beat(until),
        }
        self.tell();
    }

    fn handle_timeout(&mut self, now: Moment) {
        self.expire(now);
        match self.phase {
            Phase::Acquiring { generation }
            | Phase::Activating { generation }
            | Phase::Active { generation }
                if now >= self.renew_at =>
            {
                self.renew(now, generation);
            }
            Phase::Standby if now >= self.probe_at => {
                self.probe_at = now + PROBE_EVERY;
                self.effects.push_back(Effect::Probe);
            }
            _ => {}
        }
        self.release_again(now);
        self.tell();
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        let deadline = self.term.deadline();
        let of_phase = match self.phase {
            Phase::Standby => Some(self.probe_at),
            Phase::Persisting { .. } => None,
            Phase::Acquiring { .. } => Some(self.renew_at.min(self.since + self.class.ttl())),
            Phase::Activating { .. } => {
                deadline.min(Some(self.renew_at.min(self.since + ACTIVATE_LIMIT)))
            }
            Phase::Active { .. } => deadline.min(Some(self.renew_at)),
            Phase::Stopping { .. } => (!self.overdue).then_some(self.since + STOP_BUDGET),
        };
        let holds = !matches!(self.phase, Phase::Standby | Phase::Stopping { .. });
        [of_phase, self.release.map(|release| release.again_at), self.drain_by.filter(|_| holds)]
            .into_iter()
            .flatten()
            .min()
    }
}
