//! Accepting each (sender's incarnation, sequence) once.
//!
//! Messages expire, so an incarnation need be remembered only while one of its messages could
//! still be valid. The window lets messages overtake each other by up to [`WIDTH`].

use std::collections::BTreeMap;

use rap_proto::{IncarnationId, Timestamp};

/// How far a message may lag behind the newest of its incarnation.
pub const WIDTH: u64 = 64;
/// How many incarnations are remembered at once: control replicas and their restarts.
pub const MAX_INCARNATIONS: usize = 16;

#[derive(Debug, Default)]
pub struct ReplayWindow {
    seen: BTreeMap<IncarnationId, Seen>,
}

#[derive(Debug)]
struct Seen {
    newest: u64,
    /// Bit n: `newest − n` was accepted.
    bits: u64,
    /// The latest expiry of a message accepted from this incarnation.
    until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("this message was accepted before")]
    Seen,
    #[error("this message is too far behind")]
    TooOld,
    #[error("too many senders at once")]
    TooManyIncarnations,
}

impl ReplayWindow {
    /// Records a verified message, or says why it must not count.
    pub fn accept(
        &mut self,
        incarnation: IncarnationId,
        sequence: u64,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), ReplayError> {
        self.seen.retain(|_, seen| seen.until >= now);
        let full = self.seen.len() >= MAX_INCARNATIONS;
        let Some(seen) = self.seen.get_mut(&incarnation) else {
            if full {
                return Err(ReplayError::TooManyIncarnations);
            }
            let seen = Seen { newest: sequence, bits: 1, until: expires_at };
            self.seen.insert(incarnation, seen);
            return Ok(());
        };
        if sequence > seen.newest {
            let ahead = sequence - seen.newest;
            seen.bits = if ahead >= WIDTH { 0 } else { seen.bits << ahead } | 1;
            seen.newest = sequence;
        } else {
            let behind = seen.newest - sequence;
            if behind >= WIDTH {
                return Err(ReplayError::TooOld);
            }
            if seen.bits & (1 << behind) != 0 {
                return Err(ReplayError::Seen);
            }
            seen.bits |= 1 << behind;
        }
        seen.until = seen.until.max(expires_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_000);
    const LATER: Timestamp = Timestamp::from_unix_millis(2_000);

    fn id(value: u128) -> IncarnationId {
        IncarnationId::from_u128(value)
    }

    #[test]
    fn reordered_messages_count_once_each() {
        let mut window = ReplayWindow::default();
        for sequence in [5, 3, 70, 68, 69] {
            assert_eq!(window.accept(id(1), sequence, LATER, NOW), Ok(()), "{sequence}");
            assert_eq!(window.accept(id(1), sequence, LATER, NOW), Err(ReplayError::Seen));
        }
        assert_eq!(window.accept(id(1), 6, LATER, NOW), Err(ReplayError::TooOld));
        assert_eq!(window.accept(id(2), 5, LATER, NOW), Ok(()), "another incarnation");
    }

    #[test]
    fn incarnations_are_bounded_and_forgotten_when_their_messages_expired() {
        let mut window = ReplayWindow::default();
        for value in 0..MAX_INCARNATIONS as u128 {
            assert_eq!(window.accept(id(value), 1, LATER, NOW), Ok(()));
        }
        let refused = window.accept(id(99), 1, LATER, NOW);
        assert_eq!(refused, Err(ReplayError::TooManyIncarnations));
        let after = Timestamp::from_unix_millis(2_001);
        assert_eq!(window.accept(id(99), 1, Timestamp::from_unix_millis(3_000), after), Ok(()));
    }

    proptest! {
        #[test]
        fn nothing_is_accepted_twice(
            sequences in proptest::collection::vec(0u64..200, 1..300)
        ) {
            let mut window = ReplayWindow::default();
            let mut accepted = BTreeSet::new();
            let mut newest = None;
            for sequence in sequences {
                let new = !accepted.contains(&sequence);
                let within = newest.is_none_or(|newest| sequence + WIDTH > newest);
                let ok = window.accept(id(1), sequence, LATER, NOW).is_ok();
                prop_assert_eq!(ok, new && within);
                if ok {
                    accepted.insert(sequence);
                    newest = newest.max(Some(sequence));
                }
            }
        }
    }
}
