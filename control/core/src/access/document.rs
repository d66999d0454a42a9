//! Whether a policy document may be written: it must be sound, speak of what the organization has,
//! and lead to what its tests say.

use rap_events::policy::PolicyDocument;
use rap_proto::{OrganizationId, PolicyId, Verdict};

use super::{
    TestBroken,
    trial::{Then, Trial, others_hold, said},
};
use crate::{
    rules::{Flaw, Lists, compile_document, unknown_lane, unknown_literal},
    state::State,
};

/// The most documents of one organization.
pub const MAX_DOCUMENTS: usize = 32;

/// Why a document may not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentRefused {
    /// It is not understood, or speaks of what is not there: mend the text.
    #[error("{0}")]
    Flaw(Flaw),
    /// A test asks something that has no answer: mend the test.
    #[error("the test {test:?} names no {what} of the organization's")]
    TestUnclear { at: usize, test: String, what: &'static str },
    /// Mend the rules, or the test.
    #[error("the test {test:?} expects {expect}, and {}", said(.rules))]
    TestFailed { at: usize, test: String, expect: Verdict, rules: Vec<String> },
    /// Mend the rules, or that document.
    #[error(transparent)]
    OtherTestFailed(TestBroken),
    #[error("an organization has at most {MAX_DOCUMENTS} policies that are documents")]
    TooManyDocuments,
}

/// Checks the document that is about to be written as the policy `id`, over the organization as it
/// is. Every test of it must pass; and no test of another document may begin to fail.
pub fn check_document(
    state: &State,
    organization: OrganizationId,
    id: PolicyId,
    document: &PolicyDocument,
) -> Result<(), DocumentRefused> {
    let others = state.policies().of(organization).filter(|policy| policy.id != id);
    if others.filter(|policy| policy.document.is_some()).count() >= MAX_DOCUMENTS {
        return Err(DocumentRefused::TooManyDocuments);
    }
    let compiled = compile_document(id, &document.text).map_err(DocumentRefused::Flaw)?;
    let flaw = unknown_literal(state, organization, &compiled).or_else(|| unknown_lane(&compiled));
    if let Some(flaw) = flaw {
        return Err(DocumentRefused::Flaw(flaw));
    }
    let (mut rules, lists) = (state.policies().rules(organization).clone(), Lists::of(state));
    rules.put(id, Some(document));
    for (at, test) in document.tests.iter().enumerate() {
        let unclear = |what| DocumentRefused::TestUnclear { at, test: test.name.clone(), what };
        let trial = Trial::of(state, lists, organization, test).map_err(unclear)?;
        trial.run(&rules).map_err(|rules| DocumentRefused::TestFailed {
            at,
            test: test.name.clone(),
            expect: test.expect,
            rules,
        })?;
    }
    let then = Then { id, rules, lists };
    others_hold(state, organization, &then).map_err(DocumentRefused::OtherTestFailed)
}
