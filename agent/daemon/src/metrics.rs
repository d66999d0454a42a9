//! What an agent's metrics say, in Prometheus' text format (version 0.0.4). Numbers by closed lists
//! of words: no organization, user, node, resource or address has a name here. The cluster has its id.
//!
//! Everything is taken from the status report, so that both say the same.

mod mesh;
mod node;
mod serve;

#[cfg(test)]
mod tests;

use std::fmt::{Display, Write as _};

use rap_proto::Timestamp;

pub(crate) use serve::{bind, serve};

use crate::StatusReport;

/// The page, from the report and the time of the moment.
pub(crate) fn render(report: &StatusReport, now: Timestamp) -> String {
    let mut page = Page(String::new());
    node::say(&mut page, report, now);
    mesh::peers(&mut page, &report.peers);
    mesh::lanes(&mut page, &report.mesh);
    mesh::flows(&mut page, &report.mesh);
    mesh::refusals(&mut page, &report.mesh);
    page.0
}

struct Page(String);

/// One metric, to which samples are added.
struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl Page {
    fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A number that only rises while the agent runs.
    fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: &mut self.0, name }
    }
}

impl Family<'_> {
    fn is(&mut self, value: impl Display) {
        let _ = writeln!(self.page, "{} {value}", self.name);
    }

    /// One sample with its labels.
    fn of<const N: usize>(&mut self, labels: [(&str, &str); N], value: impl Display) -> &mut Self {
        let labels = labels.map(|(name, word)| format!("{name}=\"{word}\"")).join(",");
        let _ = writeln!(self.page, "{}{{{labels}}} {value}", self.name);
        self
    }

    /// 1 for the word that holds and 0 for the others.
    fn one_of(&mut self, label: &str, words: &[&str], holds: &str) {
        for word in words {
            self.of([(label, word)], u8::from(*word == holds));
        }
    }

    /// What was counted of each word; what was not is zero.
    fn each<'a>(
        &mut self,
        label: &str,
        words: impl IntoIterator<Item = &'a str>,
        counts: &std::collections::BTreeMap<String, u64>,
    ) {
        for word in words {
            self.of([(label, word)], counts.get(word).copied().unwrap_or_default());
        }
    }
}
