//! How much of what can happen did happen, over one seed or many.

use std::{collections::BTreeMap, fmt};

use rap_proto::Authority;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    pub faults: BTreeMap<&'static str, u64>,
    /// From one state of a node to the next.
    pub transitions: BTreeMap<(&'static str, &'static str), u64>,
    /// What replicas asked the primary to do.
    pub steps: BTreeMap<&'static str, u64>,
    /// Why nodes refused beats.
    pub refusals: BTreeMap<String, u64>,
}

impl Coverage {
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub fn transition(&mut self, from: Authority, to: Authority) {
        *self.transitions.entry((word(from), word(to))).or_default() += 1;
    }

    pub fn step(&mut self, what: &'static str) {
        *self.steps.entry(what).or_default() += 1;
    }

    pub fn refusal(&mut self, why: String) {
        *self.refusals.entry(why).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        add(&mut self.faults, &other.faults);
        add(&mut self.transitions, &other.transitions);
        add(&mut self.steps, &other.steps);
        add(&mut self.refusals, &other.refusals);
    }
}

fn add<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    from.iter().for_each(|(key, count)| *into.entry(key.clone()).or_default() += count);
}

/// A state without its time.
pub fn word(authority: Authority) -> &'static str {
    match authority {
        Authority::Unheard => "unheard",
        Authority::Healthy => "healthy",
        Authority::Degraded { .. } => "degraded",
        Authority::Isolated { .. } => "isolated",
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<K>(counts: &BTreeMap<K, u64>, name: impl Fn(&K) -> String) -> String {
            let words: Vec<_> =
                counts.iter().map(|(what, count)| format!("{} {count}", name(what))).collect();
            words.join(", ")
        }
        let text = |what: &&'static str| (*what).to_owned();
        writeln!(f, "faults: {}", list(&self.faults, text))?;
        let pair = |(from, to): &(&str, &str)| format!("{from} to {to}");
        writeln!(f, "nodes: {}", list(&self.transitions, pair))?;
        writeln!(f, "replicas: {}", list(&self.steps, text))?;
        write!(f, "refused: {}", list(&self.refusals, String::clone))
    }
}
