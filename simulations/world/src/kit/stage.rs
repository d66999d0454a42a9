//! What every world stands on: its time, its chance, its faults, and what it noted.

use std::{borrow::Cow, fmt::Arguments, time::Duration};

use rap_proto::Moment;

use super::{Chance, Coverage, Trace, Turn, Violation, World, scheduler::Scheduler};

pub struct Stage<W: World> {
    pub mutation: Option<W::Mutation>,
    pub chance: Chance,
    /// The first phase's faults.
    pub drawn: W::Mix,
    /// Those of the moment.
    pub mix: W::Mix,
    /// Whether this is the first phase.
    pub failing: bool,
    pub checkers: W::Checkers,
    pub coverage: Coverage,
    pub trace: Trace,
    scheduler: Scheduler<W::Event>,
    events: u64,
    most_events: u64,
}

impl<W: World> Stage<W> {
    /// `most_events` in one run; with more, the world runs in circles.
    pub fn new(
        mutation: Option<W::Mutation>,
        chance: Chance,
        mix: W::Mix,
        checkers: W::Checkers,
        most_events: u64,
    ) -> Self {
        Self {
            mutation,
            chance,
            drawn: mix.clone(),
            mix,
            failing: true,
            checkers,
            coverage: Coverage::default(),
            trace: Trace::default(),
            scheduler: Scheduler::default(),
            events: 0,
            most_events,
        }
    }

    /// Names what can happen under a heading of the coverage.
    pub fn declare<T: Into<Cow<'static, str>>>(
        mut self,
        heading: &'static str,
        all: impl IntoIterator<Item = T>,
    ) -> Self {
        self.coverage.declare(heading, all);
        self
    }

    pub fn now(&self) -> Moment {
        self.scheduler.now()
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn after(&mut self, delay: Duration, event: W::Event) {
        self.scheduler.after(delay, event);
    }

    /// At any moment from `least` to `greatest` from now.
    pub fn within(&mut self, least: Duration, greatest: Duration, event: W::Event) {
        let delay = self.chance.between(least, greatest);
        self.scheduler.after(delay, event);
    }

    /// As [`Self::within`], in seconds.
    pub fn within_secs(&mut self, least: u64, greatest: u64, event: W::Event) {
        self.within(Duration::from_secs(least), Duration::from_secs(greatest), event);
    }

    /// Once more of what comes every so often, if it still does.
    pub fn again(&mut self, every: Option<Duration>, event: W::Event) {
        if let Some(every) = every {
            self.within(every / 2, every * 3 / 2, event);
        }
    }

    /// Arms a party's timer for `at`, or leaves it at what it is armed for when that is earlier.
    pub fn arm(&mut self, armed: &mut Option<Moment>, at: Moment, event: W::Event) {
        let at = at.max(self.now());
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.scheduler.at(at, event);
        }
    }

    /// Whether the timer that fires is the one that is armed, and not an earlier wish.
    pub fn fires(&self, armed: &mut Option<Moment>) -> bool {
        armed.take_if(|armed| *armed == self.now()).is_some()
    }

    /// The next event up to and including `end`; none once something is violated.
    ///
    /// # Panics
    /// When more events happen than the world said that a run has at the most.
    pub fn next(&mut self, end: Moment) -> Option<W::Event> {
        if self.violation().is_some() {
            return None;
        }
        let event = self.scheduler.next(end)?;
        self.events += 1;
        assert!(self.events < self.most_events, "the world runs in circles");
        Some(event)
    }

    pub fn violation(&self) -> Option<&Violation> {
        self.checkers.as_ref().found()
    }

    pub fn note(&mut self, what: Arguments<'_>) {
        self.trace.note(self.scheduler.now(), what);
    }

    /// One of the first `bound` numbers.
    pub fn any(&mut self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).unwrap_or(0)
    }

    pub fn planted(&self, mutation: W::Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The turn of a party, which adds to `out` what leaves it.
    pub fn turn<O>(&mut self, out: Vec<O>) -> Turn<'_, W, O> {
        Turn {
            now: self.scheduler.now(),
            mutation: self.mutation,
            mix: &self.mix,
            chance: &mut self.chance,
            checkers: &mut self.checkers,
            coverage: &mut self.coverage,
            trace: &mut self.trace,
            out,
        }
    }
}
