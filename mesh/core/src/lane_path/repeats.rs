//! How often each of the first datagrams along another path is sent.
//!
//! Until the far end has validated the path it sends at most three times as much as came over it
//! (RFC 9000, section 8.1). It begins with a challenge of full size, which takes all of that from an
//! interactive lane that says little. When the challenge or its answer is lost, the far end is silent:
//! it sends no other challenge before the time of that one is over, and nothing else until enough has
//! come. What comes twice counts for that, and is discarded by QUIC otherwise. So the first datagrams
//! are sent twice, and one after which nothing came back as often as the far end needs for an answer.

/// So many datagrams behind each change are looked at.
pub const LOOKED_AT: u32 = 32;
/// So many of them are sent twice: the answer to the challenge is one of them.
pub const TWICE: u32 = 8;
/// What the far end has to get until it may send one more datagram of full size: a third of 1,452
/// bytes, rounded up.
pub const ENOUGH_BYTES: usize = 484;
/// No datagram is sent more often.
pub const MOST_COPIES: usize = 12;

/// INVARIANT: counts down from a change of paths, and does nothing before the first one.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    left: u32,
    /// What had come over the path in use when the datagram before was sent.
    received: Option<u64>,
}

impl Repeats {
    /// Another path is in use.
    pub const fn begin(&mut self) {
        (self.left, self.received) = (LOOKED_AT, None);
    }

    /// Whether every datagram is sent once from now on, until another path is in use.
    pub const fn are_over(&self) -> bool {
        self.left == 0
    }

    /// How often the next datagram is sent, of so many bytes; `received` counts what came so far.
    pub fn copies(&mut self, received: u64, bytes: usize) -> usize {
        if self.left == 0 {
            return 1;
        }
        let twice = if self.left + TWICE > LOOKED_AT { 2 } else { 1 };
        self.left -= 1;
        // Nothing can have come along a path on which nothing was sent.
        let is_answered = self.received.replace(received).is_some_and(|before| before < received);
        if is_answered {
            return twice;
        }
        ENOUGH_BYTES.div_ceil(bytes.max(1)).clamp(twice, MOST_COPIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_whose_path_never_changed_sends_everything_once() {
        assert!(Repeats::default().are_over());
        assert_eq!(Repeats::default().copies(0, 40), 1);
    }

    #[test]
    fn the_first_datagrams_are_sent_twice_and_what_is_not_answered_as_often_as_an_answer_takes() {
        let mut repeats = Repeats::default();
        repeats.begin();
        assert_eq!(repeats.copies(7, 50), 10, "the first of all");
        assert_eq!(repeats.copies(7, 300), 2);
        assert_eq!(repeats.copies(7, 10), MOST_COPIES);
        assert_eq!(repeats.copies(8, 50), 2, "something came");
        assert_eq!(repeats.copies(8, 1_200), 2, "it is large enough by itself");
        for received in 9..=11 {
            assert_eq!(repeats.copies(received, 1_200), 2);
        }
        assert_eq!(repeats.copies(12, 50), 1, "they are no longer the first");
        assert_eq!(repeats.copies(12, 50), 10, "silent again");
    }

    #[test]
    fn no_more_are_repeated_after_a_change_than_the_limit_says() {
        let mut repeats = Repeats::default();
        for _ in 0..2 {
            repeats.begin();
            assert!(!repeats.are_over());
            let repeated = (0..1_000).filter(|_| repeats.copies(0, 50) > 1).count();
            assert_eq!(repeated, LOOKED_AT as usize);
            assert!(repeats.are_over());
        }
    }
}
