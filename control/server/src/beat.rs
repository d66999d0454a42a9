//! Whether the replicas have a quorum now: what the keeper of the beat publishes and everyone else
//! asks before anything is granted.

use std::sync::Arc;

use rap_control_core::beat::Held;
use rap_proto::{
    api::{AuthorityState, Problem, ProblemCode},
    observation::LogRefusal,
};
use tokio::sync::watch;

use crate::clock;

/// The side of those who ask.
#[derive(Debug)]
pub(crate) struct AuthorityBeat(watch::Receiver<Option<Arc<Held>>>);

/// The keeper's side.
pub(crate) type BeatSender = watch::Sender<Option<Arc<Held>>>;

pub(crate) fn authority_beat() -> (AuthorityBeat, BeatSender) {
    let (publish, held) = watch::channel(None);
    (AuthorityBeat(held), publish)
}

/// Why nothing may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frozen {
    /// A node proved that the log is not the one that it saw.
    LogRefused(LogRefusal),
    /// This replica's projections fold the log no further.
    Halted,
    /// There is no valid beat: too few replicas see the database.
    NoQuorum,
}

impl AuthorityBeat {
    /// The beat of this moment. Asked before each step, because time passes without a message.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        let held = self.0.borrow();
        held.as_ref().filter(|held| clock::moment() < held.until).cloned()
    }

    /// The newest beat, also when it is over.
    pub(crate) fn last(&self) -> Option<Arc<Held>> {
        self.0.borrow().clone()
    }

    /// Waits until there is a beat.
    pub(crate) async fn heard(&self) {
        let mut held = self.0.clone();
        // The keeper only goes with the server.
        let _ = held.wait_for(Option::is_some).await;
    }

    pub(crate) fn state(&self) -> AuthorityState {
        match self.held() {
            None => AuthorityState::Frozen,
            Some(held) if held.charter.is_quorum() => AuthorityState::Quorum,
            Some(_) => AuthorityState::NoQuorum,
        }
    }
}

impl Frozen {
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::LogRefused(code) => {
                let detail = "the log is not the one that nodes saw; nothing is built upon it";
                Problem::new(ProblemCode::AuthorityFrozen, detail).rule(format!("log_{code}"))
            }
            Self::Halted => {
                let detail = "this replica cannot fold the log any further; ask another one";
                Problem::new(ProblemCode::AuthorityFrozen, detail).rule("fold_halted")
            }
            Self::NoQuorum => {
                let detail = "too few replicas see the database; only what takes authority away \
                              is done";
                Problem::new(ProblemCode::AuthorityFrozen, detail).rule("no_quorum")
            }
        }
    }
}
