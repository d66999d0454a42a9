//! The tests of documents, asked over the policies as they are, and as they would be.
//!
//! A test binds whoever writes or removes a policy, and whoever removes the resource that it asks
//! about. It binds nobody who takes something away from a person: what must end, ends at once.

use rap_events::policy::{PolicySpec, PolicyTest};
use rap_proto::{Name, OrganizationId, PolicyId, ResourceId, Verdict};

use crate::{
    authorization::{Action, Holder},
    rules::{Answer, Lists, Member, OrganizationRules, Question, REACH},
    state::{Policy, Resource, State},
};

/// A test of another policy, which holds now, would fail: mend that policy first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the test {test:?} of the policy {policy} expects {expect}, and {}", said(.rules))]
pub struct TestBroken {
    pub policy: Name,
    pub test: String,
    pub expect: Verdict,
    /// The rules that would decide otherwise.
    pub rules: Vec<String>,
}

/// A test asks about the resource that is to go: take the test out first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the test {test:?} of the policy {policy} asks about it")]
pub struct TestedResource {
    pub policy: Name,
    pub test: String,
}

/// Checks the lists that are about to be written as the policy `id`.
pub fn check_lists(
    state: &State,
    organization: OrganizationId,
    id: PolicyId,
    spec: &PolicySpec,
) -> Result<(), TestBroken> {
    if others(state, organization, id).next().is_none() {
        return Ok(());
    }
    let mut rules = state.policies().rules(organization).clone();
    rules.put(id, None);
    others_hold(state, organization, &Then { id, rules, lists: Lists::with(state, id, spec) })
}

/// Checks that the policy `id` can go.
pub fn check_policy_removal(
    state: &State,
    organization: OrganizationId,
    id: PolicyId,
) -> Result<(), TestBroken> {
    if others(state, organization, id).next().is_none() {
        return Ok(());
    }
    let mut rules = state.policies().rules(organization).clone();
    rules.remove(id);
    others_hold(state, organization, &Then { id, rules, lists: Lists::of(state) })
}

/// Checks that a resource can go: a test that asks about nothing would say nothing any more, and
/// nobody would be told.
pub fn check_resource_removal(
    state: &State,
    organization: OrganizationId,
    id: ResourceId,
) -> Result<(), TestedResource> {
    let Some(found) = state.resources().get(id) else { return Ok(()) };
    match tests(state, organization).find(|(_, test)| test.resource == found.name) {
        None => Ok(()),
        Some((policy, test)) => {
            Err(TestedResource { policy: policy.name.clone(), test: test.name.clone() })
        }
    }
}

/// An organization's policies after a change of one of them.
pub(super) struct Then<'a> {
    pub(super) id: PolicyId,
    pub(super) rules: OrganizationRules,
    pub(super) lists: Lists<'a>,
}

/// Whether every test of the other policies that holds now would hold then.
pub(super) fn others_hold(
    state: &State,
    organization: OrganizationId,
    then: &Then,
) -> Result<(), TestBroken> {
    let now = state.policies().rules(organization);
    for (policy, test) in others(state, organization, then.id) {
        // Whoever and whatever is gone by now is nobody's fault here.
        let Ok(before) = Trial::of(state, Lists::of(state), organization, test) else { continue };
        let Ok(after) = Trial::of(state, then.lists, organization, test) else { continue };
        if before.run(now).is_ok()
            && let Err(rules) = after.run(&then.rules)
        {
            let (policy, test, expect) = (policy.name.clone(), test.name.clone(), test.expect);
            return Err(TestBroken { policy, test, expect, rules });
        }
    }
    Ok(())
}

/// What was said instead of what a test expects.
pub(super) fn said(rules: &[String]) -> String {
    match rules {
        [] => "no rule says anything".to_owned(),
        rules => format!("these rules decide otherwise: {}", rules.join(", ")),
    }
}

/// The tests of all policies but one.
fn others(
    state: &State,
    organization: OrganizationId,
    id: PolicyId,
) -> impl Iterator<Item = (&Policy, &PolicyTest)> {
    tests(state, organization).filter(move |(policy, _)| policy.id != id)
}

fn tests(
    state: &State,
    organization: OrganizationId,
) -> impl Iterator<Item = (&Policy, &PolicyTest)> {
    let policies = state.policies().of(organization);
    policies.flat_map(|policy| {
        let tests = policy.document.iter().flat_map(|document| &document.tests);
        tests.map(move |test| (policy, test))
    })
}

/// A test whose names were found.
pub(super) struct Trial<'a> {
    test: &'a PolicyTest,
    question: Question,
    /// The action, if it is one of administration, and whether the member's role holds it.
    held: Option<bool>,
}

impl<'a> Trial<'a> {
    /// # Errors
    /// What the organization has none of by that name.
    pub(super) fn of(
        state: &State,
        lists: Lists,
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
        let question = Question::over(lists, member, &test.action, resource);
        Ok(Self { test, question, held })
    }

    /// # Errors
    /// The rules that decided otherwise.
    pub(super) fn run(&self, rules: &OrganizationRules) -> Result<(), Vec<String>> {
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
