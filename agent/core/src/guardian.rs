//! What a dead actor means: it is started again, unless it keeps dying.
//!
//! A panicked actor says nothing; its shell notices and reports it here.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rap_proto::Moment;

use crate::Machine;

/// How many deaths of one actor within [`WINDOW`] are taken before the agent leaves.
pub const MAX_DEATHS: usize = 5;
pub const WINDOW: Duration = Duration::from_secs(60);

/// The actors of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActorName {
    Identity,
    Snapshots,
    Fetcher,
    Witness,
    Beat,
    Link,
    Spool,
    Workload,
    Mesh,
    Leases,
    Status,
    Telemetry,
    Peers,
}

impl ActorName {
    pub const ALL: [Self; 13] = [
        Self::Identity,
        Self::Snapshots,
        Self::Fetcher,
        Self::Witness,
        Self::Beat,
        Self::Link,
        Self::Spool,
        Self::Workload,
        Self::Mesh,
        Self::Leases,
        Self::Status,
        Self::Telemetry,
        Self::Peers,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Snapshots => "snapshots",
            Self::Fetcher => "fetcher",
            Self::Witness => "witness",
            Self::Beat => "beat",
            Self::Link => "link",
            Self::Spool => "spool",
            Self::Workload => "workload",
            Self::Mesh => "mesh",
            Self::Leases => "leases",
            Self::Status => "status",
            Self::Telemetry => "telemetry",
            Self::Peers => "peers",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Died(ActorName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Restart(ActorName),
    /// Leave, and let the service manager start the agent afresh: what keeps dying is broken.
    Exit(ActorName),
}

#[derive(Debug, Default)]
pub struct Guardian {
    deaths: BTreeMap<ActorName, VecDeque<Moment>>,
    effects: VecDeque<Effect>,
}

impl Guardian {
    pub fn new() -> Self {
        Self::default()
    }

    /// How often actors died within the last [`WINDOW`] in which one of them died.
    pub fn recent_deaths(&self) -> usize {
        self.deaths.values().map(VecDeque::len).sum()
    }
}

impl Machine for Guardian {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, Input::Died(name): Input) {
        let deaths = self.deaths.entry(name).or_default();
        deaths.retain(|at| now.since(*at) < WINDOW);
        deaths.push_back(now);
        let effect =
            if deaths.len() > MAX_DEATHS { Effect::Exit(name) } else { Effect::Restart(name) };
        self.effects.push_back(effect);
    }

    fn handle_timeout(&mut self, _now: Moment) {}

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    fn dies(guardian: &mut Guardian, name: ActorName, at: u64) -> Option<Effect> {
        guardian.handle_input(second(at), Input::Died(name));
        guardian.poll_effect()
    }

    #[test]
    fn an_actor_that_keeps_dying_ends_the_agent() {
        let mut guardian = Guardian::new();
        for at in 0..MAX_DEATHS as u64 {
            let effect = dies(&mut guardian, ActorName::Link, at);
            assert_eq!(effect, Some(Effect::Restart(ActorName::Link)));
        }
        let other = dies(&mut guardian, ActorName::Spool, 5);
        assert_eq!(other, Some(Effect::Restart(ActorName::Spool)), "each is counted alone");
        let effect = dies(&mut guardian, ActorName::Link, 6);
        assert_eq!(effect, Some(Effect::Exit(ActorName::Link)));
    }

    #[test]
    fn deaths_far_apart_are_survived_forever() {
        let mut guardian = Guardian::new();
        for at in 0..100 {
            let effect = dies(&mut guardian, ActorName::Mesh, at * 13);
            assert_eq!(effect, Some(Effect::Restart(ActorName::Mesh)));
        }
        assert!(guardian.recent_deaths() <= MAX_DEATHS);
    }
}
