//! The replays of the log that callers wait for: each folds everything, so there are few at once.

use rap_proto::api::{Problem, ProblemCode};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The most replays at once that callers may ask for.
pub(crate) const MAX_REPLAYS: usize = 2;

#[derive(Debug)]
pub(crate) struct Replays(Semaphore);

impl Default for Replays {
    fn default() -> Self {
        Self(Semaphore::new(MAX_REPLAYS))
    }
}

impl Replays {
    /// The replay may go on while the permit is held.
    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.0.try_acquire().map_err(|_| {
            Problem::new(ProblemCode::LimitReached, "others look at the past; repeat")
                .rule("max_replays")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn so_many_replays_go_on_at_once_and_the_next_when_one_is_over() {
        let replays = Replays::default();
        let mut held: Vec<_> = (0..MAX_REPLAYS).map(|_| replays.enter().unwrap()).collect();
        let refused = replays.enter().unwrap_err();
        assert_eq!(refused.code(), Some(ProblemCode::LimitReached));
        held.pop();
        assert!(replays.enter().is_ok());
    }
}
