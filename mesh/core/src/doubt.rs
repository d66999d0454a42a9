//! When a client doubts the connection of its session: it sends, and nothing comes back.

use std::time::Duration;

/// How long after a look at the connection comes the next one.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So many looks one after the other found nothing that came. A client that stood still itself looked once.
pub const LOOKS: u32 = 5;
/// So many datagrams were sent meanwhile. Two can be acknowledgements, which nobody answers.
pub const UNANSWERED: u64 = 3;

/// What the last looks found.
#[derive(Debug, Clone, Default)]
pub struct Doubt {
    received: u64,
    /// When something had come last.
    sent: u64,
    /// Looks since something was sent that nothing came after.
    unheard: u32,
}

impl Doubt {
    /// One more look: datagrams so far. Returns whether the connection is in doubt.
    pub fn look(&mut self, sent: u64, received: u64) -> bool {
        if received != self.received {
            *self = Self { received, sent, unheard: 0 };
        } else if sent > self.sent {
            self.unheard = self.unheard.saturating_add(1);
        }
        self.unheard >= LOOKS && sent.saturating_sub(self.sent) >= UNANSWERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is in doubt after each look at so many sent and received.
    fn looks(looks: impl IntoIterator<Item = (u64, u64)>) -> Vec<bool> {
        let mut doubt = Doubt::default();
        looks.into_iter().map(|(sent, received)| doubt.look(sent, received)).collect()
    }

    #[test]
    fn whoever_is_not_heard_for_so_many_looks_is_in_doubt_until_something_comes() {
        let unheard = (0..u64::from(LOOKS)).map(|look| (11 + look, 7));
        let said = looks([(10, 7)].into_iter().chain(unheard).chain([(30, 8)]));
        let mut expected = vec![false; LOOKS as usize];
        expected.extend([true, false]);
        assert_eq!(said, expected);
    }

    #[test]
    fn whoever_is_not_asked_or_only_answered_is_not_in_doubt() {
        assert!(!looks([(10, 7); 20]).contains(&true));
        let acknowledged = [(10, 7)].into_iter().chain([(10 + UNANSWERED - 1, 7); 20]);
        assert!(!looks(acknowledged).contains(&true));
    }
}
