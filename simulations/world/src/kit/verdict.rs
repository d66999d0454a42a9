//! What checkers found.

use std::fmt;

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub checker: &'static str,
    pub detail: String,
}

/// The first violation: the ones after it follow from it.
#[derive(Debug, Default)]
pub struct Verdict(Option<Violation>);

impl Verdict {
    pub fn violated(&mut self, checker: &'static str, detail: String) {
        self.judge(Err(Violation::new(checker, detail)));
    }

    pub fn judge(&mut self, outcome: Result<(), Violation>) {
        if let (Err(violation), None) = (outcome, &self.0) {
            self.0 = Some(violation);
        }
    }

    pub fn found(&self) -> Option<&Violation> {
        self.0.as_ref()
    }
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
