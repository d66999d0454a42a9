use std::collections::BTreeSet;

use rap_proto::{Digest, PolicyId};
use serde::{Deserialize, Serialize};

/// The most rules that a decision names.
pub const MAX_BASIS_RULES: usize = 64;
/// The longest name of a rule, in bytes: a policy's id, a slash and a name.
pub const MAX_RULE_BYTES: usize = 128;

/// What a decision rests on: enough to decide again over the log, and to see the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// The rules that decided: `<policy>`, or `<policy>/<rule>` in a document. None when no rule
    /// spoke, which denies.
    pub rules: BTreeSet<String>,
    /// The hash of all of the organization's policies; absent in what was recorded before there
    /// was one.
    pub policy_hash: Option<Digest>,
    /// The position of the newest change of the user, the membership, the organization or the
    /// resource; absent as above.
    pub entity_version: Option<u64>,
}

impl Basis {
    /// What a grant from before decisions were recorded tells.
    pub(super) fn of_policies(policies: &BTreeSet<PolicyId>) -> Self {
        let rules = policies.iter().map(ToString::to_string).collect();
        Self { rules, ..Self::default() }
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.rules.len() <= MAX_BASIS_RULES
            && self.rules.iter().all(|rule| rule.len() <= MAX_RULE_BYTES)
    }
}
