//! What must always hold, one file per invariant. A checker sees what happened and keeps its own
//! books; it shares no code with what it checks.

mod admission;
mod applied;
mod convergence;
mod enrollment;
mod leased;
mod recorded;
mod replay;
mod scope;

pub use admission::{Admission, Flow};
pub use applied::Applied;
pub use convergence::{Convergence, Standing};
pub use enrollment::Enrollment;
pub use leased::{FENCE, GRANTED, Leased};
pub use recorded::Recorded;
pub use replay::Replay;
pub use scope::Scope;

pub use crate::kit::Violation;

use crate::{beat, kit::Verdict, lease};

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
    pub leased: Leased,
    /// One node at a time, and generations that rise: as of the scenario of leases alone.
    pub leases: lease::checkers::Checkers,
    /// As of the scenario of beats alone.
    pub beat: beat::checkers::Checkers,
    pub verdict: Verdict,
}

impl Checkers {
    pub fn judge(&mut self, outcome: Result<(), Violation>) {
        self.verdict.judge(outcome);
    }

    /// Takes in what the books of leases found.
    pub fn judge_leases(&mut self) {
        let leased = self.leased.check();
        self.verdict.judge(leased);
        for verdict in [&self.leases.verdict, &self.beat.verdict] {
            if let Some(found) = verdict.found() {
                self.verdict.judge(Err(found.clone()));
            }
        }
    }
}

impl AsRef<Verdict> for Checkers {
    fn as_ref(&self) -> &Verdict {
        &self.verdict
    }
}
