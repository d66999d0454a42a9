//! How much of what can happen did happen, over one seed or many. What was declared and never happened
//! is shown with a zero.

use std::{borrow::Cow, collections::BTreeMap, fmt};

/// How often what happened, by headings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<&'static str, BTreeMap<Cow<'static, str>, u64>>);

/// The heading of what went wrong, which every scenario has.
pub const FAULTS: &str = "faults";

impl Coverage {
    pub fn fault(&mut self, kind: &'static str) {
        self.count(FAULTS, kind);
    }

    /// Names what can happen under a heading.
    pub fn declare<T: Into<Cow<'static, str>>>(
        &mut self,
        heading: &'static str,
        all: impl IntoIterator<Item = T>,
    ) {
        all.into_iter().for_each(|what| self.count_many(heading, what, 0));
    }

    pub fn count(&mut self, heading: &'static str, what: impl Into<Cow<'static, str>>) {
        self.count_many(heading, what, 1);
    }

    pub fn count_many(
        &mut self,
        heading: &'static str,
        what: impl Into<Cow<'static, str>>,
        times: u64,
    ) {
        *self.0.entry(heading).or_default().entry(what.into()).or_default() += times;
    }

    /// How often it happened.
    pub fn of(&self, heading: &str, what: &str) -> u64 {
        self.0.get(heading).and_then(|counts| counts.get(what)).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Self) {
        for (heading, counts) in &other.0 {
            counts.iter().for_each(|(what, times)| self.count_many(heading, what.clone(), *times));
        }
    }

    /// # Panics
    /// When one of these faults never happened.
    pub fn expect_faults(&self, kinds: &[&str]) {
        self.expect(FAULTS, kinds);
    }

    /// A world in which nothing happens would hold as well.
    ///
    /// # Panics
    /// When one of these never happened.
    pub fn expect(&self, heading: &str, all: &[&str]) {
        all.iter().for_each(|what| self.expect_many(heading, what, 1));
    }

    /// # Panics
    /// When it happened less often.
    pub fn expect_many(&self, heading: &str, what: &str, least: u64) {
        let times = self.of(heading, what);
        assert!(times >= least, "{heading}: {what} came {times} times of {least}:\n{self}");
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(line).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn line((heading, counts): (&&str, &BTreeMap<Cow<'static, str>, u64>)) -> String {
    let words: Vec<_> = counts.iter().map(|(what, times)| format!("{what} {times}")).collect();
    format!("{heading}: {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_crashes() -> Coverage {
        let mut coverage = Coverage::default();
        coverage.declare(FAULTS, ["crash", "pause"]);
        coverage.fault("crash");
        coverage.count("nodes", format!("{} to {}", "up", "down"));
        let mut sum = coverage.clone();
        sum.add(&coverage);
        sum
    }

    #[test]
    fn what_happened_in_two_runs_is_added_up() {
        let sum = two_crashes();
        assert_eq!(sum.of("faults", "crash"), 2);
        assert_eq!(sum.to_string(), "faults: crash 2, pause 0\nnodes: up to down 2");
        sum.expect_many("nodes", "up to down", 2);
    }

    #[test]
    #[should_panic(expected = "faults: pause came 0 times of 1")]
    fn what_never_happened_is_missed() {
        two_crashes().expect_faults(&["crash", "pause"]);
    }
}
