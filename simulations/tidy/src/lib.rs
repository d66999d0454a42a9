//! Structure rules of the workspace, as tests.
//!
//! Each rule is a pure function from the workspace's texts to a list of violations, and each has
//! a test that shows it a planted one: a rule that cannot fail is a defect. The test
//! `the_workspace_is_tidy` runs them all.

pub mod citations;
pub mod migrations;
pub mod scenarios;
pub mod sizes;
pub mod sql;
pub mod tiers;
pub mod words;
pub mod workspace;

/// What a rule found: where, and the rule in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub place: String,
    pub rule: String,
}

impl Violation {
    pub fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { place: place.into(), rule: rule.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let workspace = workspace::Workspace::read();
        let violations: Vec<_> = [
            tiers::check(&workspace),
            sizes::check(&workspace),
            words::check(&workspace),
            migrations::check(&workspace),
            citations::check(&workspace),
            sql::check(&workspace),
            scenarios::check(&workspace),
        ]
        .concat();
        let lines: Vec<_> =
            violations.iter().map(|found| format!("{}: {}", found.place, found.rule)).collect();
        assert!(lines.is_empty(), "{} violations\n{}", lines.len(), lines.join("\n"));
    }
}
