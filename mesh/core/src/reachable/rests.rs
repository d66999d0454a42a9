//! Relays that give an egress no line: each keeps its place for a few attempts and then rests, so that
//! others get their turn. A relay that is full, or gone, would keep it for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_proto::{Moment, NodeId};

/// So many attempts in a row that bring no line, and the relay rests.
pub const TRIES: u32 = 4;
/// For so long; then it is a relay like others.
pub const REST: Duration = Duration::from_secs(600);
/// The most relays whose failures are remembered; those of further ones count for nothing.
pub const MAX_RESTING: usize = 256;

#[derive(Debug, Clone, Default)]
pub struct Rests {
    failed: BTreeMap<NodeId, Failed>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failed {
    times: u32,
    rests_until: Option<Moment>,
}

impl Rests {
    /// An attempt brought no line. True when the relay rests from now on.
    pub fn failed(&mut self, now: Moment, relay: NodeId) -> bool {
        if self.failed.len() >= MAX_RESTING && !self.failed.contains_key(&relay) {
            self.failed.retain(|_, failed| failed.rests_until.is_some_and(|until| now < until));
            if self.failed.len() >= MAX_RESTING {
                return false;
            }
        }
        let failed = self.failed.entry(relay).or_default();
        if failed.rests_until.is_some_and(|until| until <= now) {
            *failed = Failed::default();
        }
        failed.times = failed.times.saturating_add(1);
        let begins = failed.times >= TRIES && failed.rests_until.is_none();
        if begins {
            failed.rests_until = Some(now + REST);
        }
        begins
    }

    /// The relay gave a line: nothing of before counts.
    pub fn held(&mut self, relay: NodeId) {
        self.failed.remove(&relay);
    }

    pub fn resting(&self, now: Moment) -> BTreeSet<NodeId> {
        let resting = self
            .failed
            .iter()
            .filter(|(_, failed)| failed.rests_until.is_some_and(|until| now < until));
        resting.map(|(relay, _)| *relay).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_micros(1_000);

    fn relay(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    fn rest(rests: &mut Rests, now: Moment, number: u128) {
        let begins: Vec<bool> = (0..TRIES).map(|_| rests.failed(now, relay(number))).collect();
        assert_eq!(begins.iter().position(|begins| *begins), Some(TRIES as usize - 1));
    }

    #[test]
    fn a_relay_rests_after_so_many_failures_in_a_row_and_not_for_ever() {
        let mut rests = Rests::default();
        for _ in 1..TRIES {
            assert!(!rests.failed(NOW, relay(1)));
        }
        rests.held(relay(1));
        assert!(!rests.failed(NOW, relay(1)), "not in a row");
        rests.held(relay(1));
        rest(&mut rests, NOW, 1);
        assert!(!rests.failed(NOW, relay(1)), "it rests already");
        assert_eq!(rests.resting(NOW), BTreeSet::from([relay(1)]));
        assert!(rests.resting(NOW + REST).is_empty());
        rest(&mut rests, NOW + REST, 1);
        rests.held(relay(1));
        assert!(rests.resting(NOW).is_empty(), "it gave a line all the same");
    }

    #[test]
    fn so_many_relays_are_remembered_and_those_that_rest_stay() {
        let mut rests = Rests::default();
        for number in 0..MAX_RESTING as u128 - 1 {
            rest(&mut rests, NOW, number);
        }
        rests.failed(NOW, relay(900));
        rest(&mut rests, NOW, 901);
        assert_eq!(rests.failed.len(), MAX_RESTING, "in the place of the one that did not rest");
        assert!((0..TRIES).all(|_| !rests.failed(NOW, relay(902))), "no room");
        assert_eq!(rests.failed.len(), MAX_RESTING);
        rest(&mut rests, NOW + REST, 902);
        assert_eq!(rests.failed.len(), 1);
    }
}
