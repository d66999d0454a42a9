//! What must always hold, one file per invariant. A checker sees what happened and keeps its own
//! books; it shares no code with what it checks.

mod admission;
mod applied;
mod convergence;
mod enrollment;
mod recorded;
mod replay;
mod scope;

use std::fmt;

pub use admission::{Admission, Flow};
pub use applied::Applied;
pub use convergence::{Convergence, Standing};
pub use enrollment::Enrollment;
pub use recorded::Recorded;
pub use replay::Replay;
pub use scope::Scope;

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub checker: &'static str,
    pub detail: String,
}

impl Violation {
    pub fn new(checker: &'static str, detail: impl Into<String>) -> Self {
        Self { checker, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.detail)
    }
}

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
    found: Option<Violation>,
}

impl Checkers {
    /// Keeps the first violation: the ones after it follow from it.
    pub fn judge(&mut self, outcome: Result<(), Violation>) {
        if let (Err(violation), None) = (outcome, &self.found) {
            self.found = Some(violation);
        }
    }

    pub fn found(&self) -> Option<&Violation> {
        self.found.as_ref()
    }
}
