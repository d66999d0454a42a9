//! What follows for one connection from what is known of it.

use std::time::Duration;

use rap_proto::{Generation, Moment, NodeId, Timestamp, VpnConnectionId};

use super::{Desired, Hold, Nodes, Reason, Row, Watch};

/// All that a decision follows from.
pub(super) struct Facts<'a> {
    pub(super) now: Moment,
    pub(super) connection: VpnConnectionId,
    /// None when the connection was removed.
    pub(super) desired: Option<&'a Desired>,
    pub(super) row: Option<Row>,
    /// When the database answered, by its clock.
    pub(super) read_at: Timestamp,
    pub(super) watch: &'a Watch,
    pub(super) nodes: &'a Nodes,
    /// The generation whose holder was asked to release it.
    pub(super) asked: Option<Generation>,
    pub(super) patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Grant { node: NodeId },
    Fence(Row),
    AskRelease(Row),
    Offer(Row),
}

impl Facts<'_> {
    pub(super) fn decide(&self) -> (Step, Reason) {
        match self.row {
            None => self.vacant(Reason::NeverGranted),
            Some(Row { hold: Hold::Ended, generation, .. }) => {
                let asked = self.asked == Some(generation);
                self.vacant(if asked { Reason::HandedOver } else { Reason::Released })
            }
            Some(row) => {
                let by_the_database = row.is_over(self.read_at);
                let by_this_clock =
                    self.now.since(self.watch.quiet_since(self.connection)) >= self.patience;
                match (by_the_database, by_this_clock) {
                    (true, true) => self.ran_out(row),
                    (false, false) => self.working(row),
                    _ => (Step::Wait, Reason::RunningOut),
                }
            }
        }
    }

    fn enabled(&self) -> Option<&Desired> {
        self.desired.filter(|desired| desired.enabled)
    }

    fn holds_off(&self) -> bool {
        self.now.since(self.watch.hold_from()) < self.patience
    }

    /// A holder that is not in question.
    fn working(&self, row: Row) -> (Step, Reason) {
        let Some(desired) = self.enabled() else {
            return (Step::AskRelease(row), Reason::Disabled);
        };
        if !desired.nodes.contains(&row.holder) {
            return (Step::AskRelease(row), Reason::HolderNotAllowed);
        }
        let asked = desired.drain == Some(row.generation);
        if asked || self.nodes.drains(row.holder) {
            // It goes on until somebody can follow at once.
            let other = self.candidate(desired, Some(row.holder));
            return match other.filter(|node| *node != row.holder) {
                Some(_) if self.holds_off() => (Step::Wait, Reason::HoldingOff),
                Some(_) => (Step::AskRelease(row), Reason::HolderDrains),
                None => (Step::Wait, Reason::NobodyReady),
            };
        }
        if self.nodes.holds(row.holder, self.connection, row.generation) {
            return (Step::Wait, Reason::HolderWorks);
        }
        (Step::Offer(row), Reason::HolderNotHeard)
    }

    fn ran_out(&self, row: Row) -> (Step, Reason) {
        let Some(_) = self.enabled() else { return (Step::Fence(row), Reason::Disabled) };
        match self.vacant(Reason::RanOut) {
            (Step::Wait, Reason::NobodyReady) => (Step::Fence(row), Reason::NobodyReady),
            other => other,
        }
    }

    /// Nobody can be active any more; `reason` says why a grant would follow.
    fn vacant(&self, reason: Reason) -> (Step, Reason) {
        let wait = |reason| (Step::Wait, reason);
        let Some(desired) = self.enabled() else { return wait(Reason::Disabled) };
        if self.watch.went_back(self.connection) {
            return wait(Reason::TableWentBack);
        }
        if self.holds_off() {
            return wait(Reason::HoldingOff);
        }
        let unplanned = reason.is_a_loss();
        let damped = self.watch.damped_until(self.connection);
        if unplanned && damped.is_some_and(|until| self.now < until) {
            return wait(Reason::Damped);
        }
        // Whoever was asked to hand over is not the one to take it again.
        let leaves = unplanned || reason == Reason::HandedOver;
        let avoid = self.row.filter(|_| leaves).map(|row| row.holder);
        match self.candidate(desired, avoid) {
            Some(node) => (Step::Grant { node }, reason),
            None => wait(Reason::NobodyReady),
        }
    }

    /// The most preferred node that is ready; one that lost this connection lately only when there
    /// is no other, and the one to be avoided only when there is not even such a one.
    fn candidate(&self, desired: &Desired, avoid: Option<NodeId>) -> Option<NodeId> {
        let ready = |node: &NodeId| self.nodes.is_ready(self.now, *node, self.connection);
        let lost_lately = |node| self.watch.lost_lately(self.now, self.connection, node);
        let ready = desired.nodes.iter().copied().filter(ready);
        ready.min_by_key(|node| (avoid == Some(*node), lost_lately(*node)))
    }
}
