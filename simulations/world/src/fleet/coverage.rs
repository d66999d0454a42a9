//! How much of what can happen did happen, over one seed or many.

use std::{collections::BTreeMap, fmt};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    pub faults: BTreeMap<&'static str, u64>,
    /// What machines wanted to be done.
    pub effects: BTreeMap<&'static str, u64>,
    /// Steps of recoveries, and their ends.
    pub steps: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub fn effect(&mut self, kind: &'static str) {
        *self.effects.entry(kind).or_default() += 1;
    }

    pub fn step(&mut self, step: &'static str) {
        *self.steps.entry(step).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        add(&mut self.faults, &other.faults);
        add(&mut self.effects, &other.effects);
        add(&mut self.steps, &other.steps);
    }
}

fn add(into: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<&'static str, u64>) {
    from.iter().for_each(|(key, count)| *into.entry(key).or_default() += count);
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let words: Vec<_> =
                counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            words.join(", ")
        };
        writeln!(f, "faults: {}", list(&self.faults))?;
        writeln!(f, "effects: {}", list(&self.effects))?;
        write!(f, "recovery: {}", list(&self.steps))
    }
}
