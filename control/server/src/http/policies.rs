//! Access policies: who may reach what. What no policy permits is denied.

use std::collections::BTreeSet;

use rap_control_core::{
    Action, Target,
    access::{DocumentRefused, TestBroken, check_document, check_lists, check_policy_removal},
    state::Policy as Found,
};
use rap_events::{
    keys,
    policy::{self, PolicyCommand, PolicySpec},
};
use rap_proto::{
    OrganizationId, PolicyId,
    api::{
        ChangePolicy, Changed, NamedResource, NamedUser, NewPolicy, Page, Policy, PolicyDocument,
        PolicyRules, PolicyTest, Problem, ProblemCode,
    },
};

use super::{
    answer::Done,
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, invalid, not_found},
    page,
    reference::{self, organization_of},
};

/// A test of another policy stands against what is asked for.
const OTHER_TEST_FAILED: &str = "policy.other_test_failed";

pub(super) async fn list(call: Call) -> Result<Page<Policy>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::ReadPolicy, Target::Organization(organization))?;
    let policies = call.state.within(organization).policies().iter();
    page::of(&call, policies, |policy| policy.name.clone(), |policy| show(&call, policy))
}

pub(super) async fn get(call: Call) -> Result<Policy, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ReadPolicy, Target::Policy(id))?;
    let found = call.state.within(organization).policies().get(id);
    found.map(|p| show(&call, p)).ok_or_else(|| not_found().into())
}

pub(super) async fn create(call: Call, body: NewPolicy) -> Result<Done<Policy>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::CreatePolicy, Target::Organization(organization))?;
    reference::check_name(&body.name)?;
    let id = call.fresh(PolicyId::new);
    let said = said(&call, organization, id, body.rules.as_ref(), body.document)?;
    let mut work = call.work();
    let mut loaded = work.load::<policy::Policy>(id.uuid()).await?;
    let name = body.name.clone();
    let command = match said.clone() {
        Said::Lists(spec) => PolicyCommand::Create { organization, name, spec },
        Said::Document(document) => PolicyCommand::Write { organization, name, document },
    };
    work.decide(&mut loaded, command)?;
    work.claim(keys::policy_name(organization, &body.name));
    let (spec, document) = said.parts();
    let found = (spec, document.as_ref());
    let answer = shown(&call, (id, organization), body.name, found, loaded.revision);
    call.commit(work, answer).await
}

pub(super) async fn change(call: Call, body: ChangePolicy) -> Result<Done<Changed>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ChangePolicy, Target::Policy(id))?;
    let command = match said(&call, organization, id, body.rules.as_ref(), body.document)? {
        Said::Lists(spec) => PolicyCommand::Change { spec },
        Said::Document(document) => PolicyCommand::Rewrite { document },
    };
    let mut work = call.work();
    let mut loaded = work.load::<policy::Policy>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, command)?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn remove(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::RemovePolicy, Target::Policy(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<policy::Policy>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    check_policy_removal(&call.state, organization, id).map_err(kept)?;
    let name = loaded.state.name.clone();
    work.decide(&mut loaded, PolicyCommand::Remove)?;
    if let Some(name) = name {
        work.release(keys::policy_name(organization, &name));
    }
    call.commit(work, Gone {}).await
}

/// What a body says: lists, or a document that may be written.
#[derive(Clone)]
enum Said {
    Lists(PolicySpec),
    Document(policy::PolicyDocument),
}

impl Said {
    fn parts(&self) -> (PolicySpec, Option<policy::PolicyDocument>) {
        match self {
            Self::Lists(spec) => (spec.clone(), None),
            Self::Document(document) => (PolicySpec::default(), Some(document.clone())),
        }
    }
}

fn said(
    call: &Call,
    organization: OrganizationId,
    id: PolicyId,
    rules: Option<&PolicyRules>,
    document: Option<PolicyDocument>,
) -> Result<Said, Failure> {
    match (rules, document) {
        (Some(rules), None) => {
            let spec = spec(call, organization, rules)?;
            check_lists(&call.state, organization, id, &spec)
                .map_err(|why| invalid("rules", OTHER_TEST_FAILED, why.to_string()))?;
            Ok(Said::Lists(spec))
        }
        (None, Some(document)) => {
            let document = read(document);
            check_document(&call.state, organization, id, &document)
                .map_err(|why| refused(&why))?;
            Ok(Said::Document(document))
        }
        _ => Err(invalid("rules", "rules_or_document", "say either rules or a document")),
    }
}

fn kept(why: TestBroken) -> Failure {
    Problem::new(ProblemCode::Rejected, why.to_string()).rule(OTHER_TEST_FAILED).into()
}

fn refused(why: &DocumentRefused) -> Failure {
    let (field, rule) = match why {
        DocumentRefused::Flaw(_) => ("document.text".to_owned(), "policy.flaw"),
        DocumentRefused::TestUnclear { at, .. } => {
            (format!("document.tests[{at}]"), "policy.test_unclear")
        }
        DocumentRefused::TestFailed { at, .. } => {
            (format!("document.tests[{at}]"), "policy.test_failed")
        }
        DocumentRefused::OtherTestFailed(_) => ("document".to_owned(), OTHER_TEST_FAILED),
        DocumentRefused::TooManyDocuments => {
            let problem = Problem::new(ProblemCode::LimitReached, why.to_string());
            return problem.rule("max_documents").into();
        }
    };
    invalid(&field, rule, why.to_string())
}

fn read(document: PolicyDocument) -> policy::PolicyDocument {
    let test = |test: PolicyTest| {
        let PolicyTest { name, user, action, resource, at, expect } = test;
        policy::PolicyTest { name, user, action, resource, at, expect }
    };
    let PolicyDocument { text, tests } = document;
    policy::PolicyDocument { text, tests: tests.into_iter().map(test).collect() }
}

fn written(document: &policy::PolicyDocument) -> PolicyDocument {
    let test = |test: &policy::PolicyTest| {
        let policy::PolicyTest { name, user, action, resource, at, expect } = test.clone();
        PolicyTest { name, user, action, resource, at, expect }
    };
    PolicyDocument { text: document.text.clone(), tests: document.tests.iter().map(test).collect() }
}

/// Users are members and resources are the organization's own: nothing else can be named, and
/// nobody learns whether there is anything else.
fn spec(
    call: &Call,
    organization: OrganizationId,
    rules: &PolicyRules,
) -> Result<PolicySpec, Failure> {
    let mut spec = PolicySpec {
        roles: rules.roles.iter().copied().collect(),
        kinds: rules.kinds.iter().copied().collect(),
        ..PolicySpec::default()
    };
    for (at, named) in rules.users.iter().enumerate() {
        let member = reference::user(&call.state, named)
            .filter(|user| call.state.users().role(organization, user.id).is_some())
            .ok_or_else(|| {
                invalid(&format!("rules.users[{at}]"), "user_is_member", "no such member")
            })?;
        spec.users.insert(member.id);
    }
    for (at, named) in rules.resources.iter().enumerate() {
        let found = reference::resource(&call.state, organization, named).ok_or_else(|| {
            let field = format!("rules.resources[{at}]");
            invalid(&field, "resource_exists", "no such resource")
        })?;
        spec.resources.insert(found.id);
    }
    Ok(spec)
}

fn target(call: &Call) -> Result<(OrganizationId, PolicyId), Failure> {
    let organization = organization_of(call)?;
    let named = call.reference("policy")?;
    let found = reference::policy(&call.state, organization, &named).ok_or_else(not_found)?;
    Ok((organization, found.id))
}

fn show(call: &Call, policy: &Found) -> Policy {
    let ids = (policy.id, policy.organization);
    let found = (policy.spec.clone(), policy.document.as_ref());
    shown(call, ids, policy.name.clone(), found, policy.stamp.revision)
}

fn shown(
    call: &Call,
    (id, organization): (PolicyId, OrganizationId),
    name: rap_proto::Name,
    (spec, document): (PolicySpec, Option<&policy::PolicyDocument>),
    revision: u64,
) -> Policy {
    let user_name = |id| {
        let member = call.state.users().role(organization, id).is_some();
        call.state.users().get(id).filter(|_| member).map(|user| user.name.clone())
    };
    let resources = call.state.within(organization).resources();
    let resource_name = |id| resources.get(id).map(|found| found.name.clone());
    let sorted = |kinds: &BTreeSet<_>| kinds.iter().copied().collect();
    Policy {
        id,
        organization,
        name,
        users: spec.users.iter().map(|id| NamedUser { id: *id, name: user_name(*id) }).collect(),
        roles: spec.roles.iter().copied().collect(),
        resources: spec
            .resources
            .iter()
            .map(|id| NamedResource { id: *id, name: resource_name(*id) })
            .collect(),
        kinds: sorted(&spec.kinds),
        document: document.map(written),
        revision,
    }
}
