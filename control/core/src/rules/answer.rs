use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};

/// What rules say to one question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The rules that permit it; looked at only where none forbids it.
    pub permits: BTreeSet<String>,
    pub forbids: BTreeSet<String>,
    /// Whether some rule could not be evaluated, which forbids.
    pub failed: bool,
}

impl Answer {
    pub fn is_permitted(&self) -> bool {
        !self.is_forbidden() && !self.permits.is_empty()
    }

    pub fn is_forbidden(&self) -> bool {
        self.failed || !self.forbids.is_empty()
    }

    /// The rules that decided: those that forbid, else those that permit.
    pub fn deciding(&self) -> &BTreeSet<String> {
        if self.is_forbidden() { &self.forbids } else { &self.permits }
    }

    /// What two sets of rules say together.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.permits.extend(other.permits);
        self.forbids.extend(other.forbids);
        self.failed |= other.failed;
        self
    }
}

/// Who, what and about which: names of entities.
pub(super) struct Asked {
    pub(super) principal: EntityUid,
    pub(super) action: EntityUid,
    pub(super) resource: EntityUid,
}

pub(super) fn ask(
    rules: &PolicySet,
    asked: &Asked,
    context: Context,
    entities: &Entities,
) -> Answer {
    let Asked { principal, action, resource } = asked;
    let request = Request::new(principal.clone(), action.clone(), resource.clone(), context, None);
    let Ok(request) = request else { return Answer { failed: true, ..Answer::default() } };
    let response = Authorizer::new().is_authorized(&request, rules, entities);
    let diagnostics = response.diagnostics();
    let deciding = diagnostics.reason().map(ToString::to_string).collect();
    let failed = diagnostics.errors().next().is_some();
    match response.decision() {
        Decision::Allow => Answer { permits: deciding, forbids: BTreeSet::new(), failed },
        Decision::Deny => Answer { permits: BTreeSet::new(), forbids: deciding, failed },
    }
}
