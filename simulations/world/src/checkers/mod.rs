//! What must always hold, one file per invariant. A checker sees what happened and keeps its own
//! books; it shares no code with what it checks.

mod admission;
mod applied;
mod convergence;
mod enrollment;
mod recorded;
mod replay;
mod scope;

pub use admission::{Admission, Flow};
pub use applied::Applied;
pub use convergence::{Convergence, Standing};
pub use enrollment::Enrollment;
pub use recorded::Recorded;
pub use replay::Replay;
pub use scope::Scope;

pub use crate::kit::Violation;

use crate::kit::Verdict;

/// All checkers, and what they found.
#[derive(Debug, Default)]
pub struct Checkers {
    pub applied: Applied,
    pub scope: Scope,
    pub recorded: Recorded,
    pub admission: Admission,
    pub enrollment: Enrollment,
    pub replay: Replay,
    pub convergence: Convergence,
    pub verdict: Verdict,
}

impl Checkers {
    pub fn judge(&mut self, outcome: Result<(), Violation>) {
        self.verdict.judge(outcome);
    }
}

impl AsRef<Verdict> for Checkers {
    fn as_ref(&self) -> &Verdict {
        &self.verdict
    }
}
