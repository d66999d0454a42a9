#![allow(clippy::unwrap_used)]

mod agreement;
mod documents;
mod lasting;
mod writing;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rap_events::{
    Personal,
    keys::membership_id,
    membership::{Membership, MembershipCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicyDocument, PolicySpec, PolicyTest},
    resource::{Resource, ResourceCommand},
    user::{User, UserCommand},
};
use rap_proto::{
    NodeRole, OrganizationId, OrganizationRole, PolicyId, ResourceKind, UserId, Verdict, WeekHour,
    snapshot::RoleScope,
};

use super::*;
use crate::{
    State,
    access::{
        DocumentRefused, MAX_DOCUMENTS, TestBroken, TestedResource, check_document, check_lists,
        check_policy_removal, check_resource_removal, explain, permits, reachable,
    },
    authorization::{
        Action, Decision, Facts, Principal, Refusal, Rule, Target, authorize, explain_action,
    },
    process::{Clock, due},
    rules::{administer, builtin_rules},
    snapshot::compile,
    world::{Platform, Tenant, check_golden, login_id, name, person, token_id, uuid},
};

const PERMIT_ALL: &str = "permit(principal, action, resource);";

fn document(text: &str) -> PolicyDocument {
    PolicyDocument { text: text.to_owned(), tests: Vec::new() }
}

fn test(user: &str, action: &str, resource: &str, at: &str, expect: Verdict) -> PolicyTest {
    PolicyTest {
        name: format!("{user} {action}"),
        user: name(user),
        action: action.to_owned(),
        resource: name(resource),
        at: at.parse().ok(),
        expect,
    }
}

/// Puts a document in place of the tenant's only policy.
fn rule(platform: &mut Platform, tenant: Tenant, text: &str) {
    check_document(platform.state(), tenant.id, tenant.policy, &document(text)).unwrap();
    let rewrite = PolicyCommand::Rewrite { document: document(text) };
    platform.must::<Policy>(tenant.policy.uuid(), rewrite);
}

fn may(platform: &Platform, tenant: Tenant, user: UserId, at: &str) -> bool {
    let at: WeekHour = at.parse().unwrap();
    let state = platform.state();
    let explained = explain(state, tenant.id, user, tenant.resource, at).is_permitted();
    assert_eq!(permits(state, tenant.id, user, tenant.resource, Some(at)), explained);
    explained
}

fn label(platform: &mut Platform, tenant: Tenant, key: &str, value: &str) {
    let labels = BTreeMap::from([(name(key), name(value))]);
    platform.must::<Resource>(tenant.resource.uuid(), ResourceCommand::Label { labels });
}
