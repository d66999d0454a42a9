//! Whether a policy document may be written: it must be sound, speak of what the organization has,
//! and lead to what its tests say.

use rap_events::policy::{PolicyDocument, PolicyTest};
use rap_proto::{Name, OrganizationId, PolicyId, Verdict};

use crate::{
    authorization::{Action, Holder},
    rules::{
        Answer, Flaw, Member, OrganizationRules, Question, REACH, compile_document, unknown_literal,
    },
    state::{Resource, State},
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
    /// A test of another document, which holds now, would fail: mend the rules, or that document.
    #[error("the test {test:?} of the policy {policy} expects {expect}, and {}", said(.rules))]
    OtherTestFailed { policy: Name, test: String, expect: Verdict, rules: Vec<String> },
    #[error("an organization has at most {MAX_DOCUMENTS} policies that are documents")]
    TooManyDocuments,
}

fn said(rules: &[String]) -> String {
    match rules {
        [] => "no rule says anything".to_owned(),
        rules => format!("these rules decide otherwise: {}", rules.join(", ")),
    }
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
    let others: Vec<_> =
        others.filter_map(|policy| Some((policy, policy.document.as_ref()?))).collect();
    if others.len() >= MAX_DOCUMENTS {
        return Err(DocumentRefused::TooManyDocuments);
    }
    let compiled = compile_document(id, &document.text).map_err(DocumentRefused::Flaw)?;
    if let Some(flaw) = unknown_literal(state, organization, &compiled) {
        return Err(DocumentRefused::Flaw(flaw));
    }
    let now = state.policies().rules(organization);
    let mut then = now.clone();
    then.put(id, Some(document));
    for (at, test) in document.tests.iter().enumerate() {
        let unclear = |what| DocumentRefused::TestUnclear { at, test: test.name.clone(), what };
        let trial = Trial::of(state, organization, test).map_err(unclear)?;
        trial.run(&then).map_err(|rules| DocumentRefused::TestFailed {
            at,
            test: test.name.clone(),
            expect: test.expect,
            rules,
        })?;
    }
    let tests = others
        .iter()
        .flat_map(|(policy, other)| other.tests.iter().map(move |test| (&policy.name, test)));
    for (policy, test) in tests {
        // Whoever and whatever is gone by now is nobody's fault here.
        let Ok(trial) = Trial::of(state, organization, test) else { continue };
        if trial.run(now).is_ok()
            && let Err(rules) = trial.run(&then)
        {
            let (policy, expect) = (policy.clone(), test.expect);
            let test = test.name.clone();
            return Err(DocumentRefused::OtherTestFailed { policy, test, expect, rules });
        }
    }
    Ok(())
}

/// A test whose names were found.
struct Trial<'a> {
    test: &'a PolicyTest,
    question: Question,
    /// The action, if it is one of administration, and whether the member's role holds it.
    held: Option<bool>,
}

impl<'a> Trial<'a> {
    /// # Errors
    /// What the organization has none of by that name.
    fn of(
        state: &State,
        organization: OrganizationId,
        test: &'a PolicyTest,
    ) -> Result<Self, &'static str> {
        let user = state.users().named(&test.user).ok_or("member")?.id;
        let role = state.users().role(organization, user).ok_or("member")?;
        let resource: &Resource =
            state.resources().named(organization, &test.resource).ok_or("resource")?;
        let held = if test.action == REACH {
            None
        } else {
            let ruled = |action: &&Action| action.is_ruled() && action.as_str() == test.action;
            let action = Action::ALL.iter().find(ruled).ok_or("action on a resource")?;
            Some(action.holders().contains(&Holder::of_role(role)))
        };
        let member = Member { organization, user, role };
        let question = Question::about(state, member, &test.action, resource);
        Ok(Self { test, question, held })
    }

    /// # Errors
    /// The rules that decided otherwise.
    fn run(&self, rules: &OrganizationRules) -> Result<(), Vec<String>> {
        let permit = self.test.expect == Verdict::Permit;
        let answers: Vec<Answer> = match (self.held, self.test.at) {
            (Some(_), _) => vec![rules.administer(&self.question)],
            (None, Some(at)) => vec![rules.reach(&self.question, at)],
            (None, None) => rules.reach_each_hour(&self.question),
        };
        let is_permitted = |answer: &Answer| {
            answer.is_permitted() || (self.held == Some(true) && !answer.is_forbidden())
        };
        match answers.iter().find(|answer| is_permitted(answer) != permit) {
            None => Ok(()),
            Some(answer) => Err(answer.deciding().iter().cloned().collect()),
        }
    }
}
