//! How much of what can happen did happen, over one seed or many.

use std::{collections::BTreeMap, fmt};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    pub faults: BTreeMap<&'static str, u64>,
    /// From one phase of a holder to the next.
    pub transitions: BTreeMap<(&'static str, &'static str), u64>,
    /// What grantors did and why.
    pub commands: BTreeMap<(&'static str, &'static str), u64>,
    /// Why connections waited or stayed.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub fn transition(&mut self, from: &'static str, to: &'static str) {
        *self.transitions.entry((from, to)).or_default() += 1;
    }

    pub fn command(&mut self, what: &'static str, why: &'static str) {
        *self.commands.entry((what, why)).or_default() += 1;
    }

    pub fn reason(&mut self, why: &'static str) {
        *self.reasons.entry(why).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        let add = |into: &mut BTreeMap<_, u64>, from: &BTreeMap<_, u64>| {
            from.iter().for_each(|(key, count)| *into.entry(*key).or_default() += count);
        };
        add(&mut self.faults, &other.faults);
        add(&mut self.reasons, &other.reasons);
        let add = |into: &mut BTreeMap<_, u64>, from: &BTreeMap<_, u64>| {
            from.iter().for_each(|(key, count)| *into.entry(*key).or_default() += count);
        };
        add(&mut self.transitions, &other.transitions);
        add(&mut self.commands, &other.commands);
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let words: Vec<_> =
                counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            words.join(", ")
        };
        let pairs = |counts: &BTreeMap<(&'static str, &'static str), u64>, between: &str| {
            let word = |((one, other), count): (&(&str, &str), &u64)| {
                format!("{one}{between}{other} {count}")
            };
            counts.iter().map(word).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "faults: {}", list(&self.faults))?;
        writeln!(f, "holders: {}", pairs(&self.transitions, " to "))?;
        writeln!(f, "grantors: {}", pairs(&self.commands, ", for "))?;
        write!(f, "reasons: {}", list(&self.reasons))
    }
}
