use std::time::Duration;

use rap_proto::{OrganizationId, Timestamp};

use super::{
    AuthorityChanged, LogRefused, NodeReport, NodeReportCommand, NodeReportEvent,
    NodeReportRejection, PathChanged, Report, SnapshotRefused, UnclaimedAccessRefused,
    WorkerExited, state::News,
};
use crate::{Aggregate, aggregate::is_plain_text, session::MAX_SEEN_SKEW_MS};

impl Aggregate for NodeReport {
    const CATEGORY: &'static str = "node_report";
    type Command = NodeReportCommand;
    type Event = NodeReportEvent;
    type Rejection = NodeReportRejection;

    fn decide(
        &self,
        command: NodeReportCommand,
        now: Timestamp,
    ) -> Result<Vec<NodeReportEvent>, NodeReportRejection> {
        let NodeReportCommand::Record { organization, sequence, observed_at, report } = command;
        if sequence <= self.through {
            return Ok(Vec::new());
        }
        let observed_at = bounded(observed_at, now);
        let event = match report {
            Report::AccessRefused { code } => {
                UnclaimedAccessRefused { organization, sequence, observed_at, code }.into()
            }
            Report::SnapshotRefused { version, code } => {
                SnapshotRefused { organization, sequence, observed_at, version, code }.into()
            }
            Report::LogRefused { size, known, code } => {
                LogRefused { organization, sequence, observed_at, size, known, code }.into()
            }
            Report::WorkerExited { kind, sessions } => {
                if !is_plain_text(&kind) {
                    return Err(NodeReportRejection::TextNotPlain);
                }
                WorkerExited { organization, sequence, observed_at, kind, sessions }.into()
            }
            Report::PathChanged { change } => PathChanged { sequence, observed_at, change }.into(),
            Report::AuthorityChanged { change } => {
                if self.lapses.news(&change, observed_at) != News::Fresh {
                    return Ok(Vec::new());
                }
                AuthorityChanged { sequence, observed_at, change }.into()
            }
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &NodeReportEvent) {
        let (organization, sequence) = match event {
            NodeReportEvent::AccessRefused(refused) => (refused.organization, refused.sequence),
            NodeReportEvent::SnapshotRefused(refused) => (refused.organization, refused.sequence),
            NodeReportEvent::LogRefused(refused) => (refused.organization, refused.sequence),
            NodeReportEvent::WorkerExited(exited) => (exited.organization, exited.sequence),
            NodeReportEvent::PathChanged(changed) => (None, changed.sequence),
            NodeReportEvent::AuthorityChanged(changed) => {
                self.lapses.record(&changed.change, changed.observed_at);
                (None, changed.sequence)
            }
        };
        self.organization = organization;
        self.through = self.through.max(sequence);
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }
}

impl NodeReport {
    /// Whether nothing follows of the command only because the hour has its lapses.
    pub fn leaves_out(&self, command: &NodeReportCommand, now: Timestamp) -> bool {
        let NodeReportCommand::Record { sequence, observed_at, report, .. } = command;
        let Report::AuthorityChanged { change } = report else { return false };
        let at = bounded(*observed_at, now);
        *sequence > self.through && self.lapses.news(change, at) == News::TooMany
    }
}

/// A clock far ahead would begin an hour of lapses that lasts until that time comes.
fn bounded(observed_at: Timestamp, now: Timestamp) -> Timestamp {
    let is_ahead = observed_at > now + Duration::from_millis(MAX_SEEN_SKEW_MS);
    if is_ahead { now } else { observed_at }
}
