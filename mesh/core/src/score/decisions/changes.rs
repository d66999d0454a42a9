//! What relays are worth since other measurements of them came.

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{NodeId, OrganizationId};

use crate::score::{
    ChannelClass,
    relays::{Rescored, Use},
};

/// A relay that is worth something else. `None` is one that is ruled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub node: NodeId,
    pub before: Option<u16>,
    pub after: Option<u16>,
}

/// By question, all changes of what was kept for it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    measured: BTreeSet<NodeId>,
    by_question: BTreeMap<(OrganizationId, ChannelClass, Use), Vec<Change>>,
}

impl Changes {
    pub(super) fn among(measured: &BTreeSet<NodeId>) -> Self {
        Self { measured: measured.clone(), by_question: BTreeMap::new() }
    }

    pub(super) fn compare(
        &mut self,
        question: (OrganizationId, ChannelClass, Use),
        Rescored { before, after }: &Rescored,
    ) {
        let change = |node: &NodeId| Change {
            node: *node,
            before: before.get(node).copied(),
            after: after.get(node).copied(),
        };
        let changes = self.measured.iter().map(change);
        let others = changes.filter(|change| change.before != change.after).collect();
        self.by_question.insert(question, others);
    }

    /// Whether no relay was measured anew.
    pub fn is_empty(&self) -> bool {
        self.measured.is_empty()
    }

    /// The relays that are worth something else to what runs; `None` where that was not kept.
    pub fn of_running(
        &self,
        (organization, class): (OrganizationId, ChannelClass),
    ) -> Option<&[Change]> {
        self.of((organization, class, Use::Running))
    }

    pub(super) fn of(&self, question: (OrganizationId, ChannelClass, Use)) -> Option<&[Change]> {
        self.by_question.get(&question).map(Vec::as_slice)
    }
}
