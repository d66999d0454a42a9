use std::{fmt::Write as _, sync::LazyLock};

use cedar_policy::{
    Context, Entities, Entity, EntityUid, Policy as Rule, PolicyId as RuleId, PolicySet,
    RestrictedExpression,
};
use rap_proto::{OrganizationRole, PlatformRole};

use super::{
    Answer,
    answer::{Asked, ask},
    schema::KINDS,
};
use crate::{
    authorization::{Action, Facts, Holder, Principal},
    state::State,
};

/// Whatever crosses from one organization into another is forbidden, but for the platform's roles,
/// whose own rules name what little they may, and for what is the asker's own.
const ISOLATION: &str = r#"@id("isolation")
forbid (principal, action, resource)
unless {
    context.of_platform || context.is_oneself || context.is_its_node
    || principal in context.organizations
    || principal in [Role::"platform_owner", Role::"platform_admin"]
};
"#;

/// The rules of the table, compiled.
pub(super) static BUILTIN: LazyLock<PolicySet> = LazyLock::new(|| {
    let parsed: PolicySet = builtin_rules().parse().expect("the table's rules are sound");
    let named = parsed.policies().map(|rule: &Rule| {
        let name = rule.annotation("id").unwrap_or_default();
        rule.new_id(RuleId::new(format!("builtin/{name}")))
    });
    PolicySet::from_policies(named).expect("every holder has a name of its own")
});

/// The table of actions and holders as rules in the Cedar language: one for each holder, and the
/// one that keeps organizations apart.
pub fn builtin_rules() -> String {
    let mut text = String::from(ISOLATION);
    for holder in Holder::ALL {
        let actions: Vec<String> = Action::ALL
            .iter()
            .filter(|action| action.holders().contains(holder))
            .map(|action| format!("    Action::\"{action}\""))
            .collect();
        if actions.is_empty() {
            continue;
        }
        let (scope, condition) = meaning(*holder);
        let _ = write!(
            text,
            "\n@id(\"{holder}\")\npermit (\n  {scope},\n  action in [\n{}\n  ],\n  resource\n)",
            actions.join(",\n")
        );
        if !condition.is_empty() {
            let _ = write!(text, " when {{ {condition} }}");
        }
        text.push_str(";\n");
    }
    text
}

/// What a holder is in the language: the rule's scope, and its condition.
const fn meaning(holder: Holder) -> (&'static str, &'static str) {
    const PLATFORM_OWNER: &str = r#"principal in Role::"platform_owner""#;
    const PLATFORM_ADMIN: &str = r#"principal in Role::"platform_admin""#;
    const OWNER: &str = r#"principal in Role::"organization_owner""#;
    const ADMIN: &str = r#"principal in Role::"organization_admin""#;
    const MEMBER: &str = r#"principal in [Role::"organization_owner", Role::"organization_admin", Role::"organization_user"]"#;
    match holder {
        Holder::Setup => ("principal is Setup", ""),
        Holder::PlatformOwner => (PLATFORM_OWNER, ""),
        Holder::PlatformAdmin => (PLATFORM_ADMIN, ""),
        Holder::PlatformOwnerOfItsOwn => (PLATFORM_OWNER, "context.of_platform"),
        Holder::PlatformAdminOfItsOwn => (PLATFORM_ADMIN, "context.of_platform"),
        Holder::PlatformAdminOverOthers => (PLATFORM_ADMIN, "!context.has_platform_role"),
        Holder::PlatformAdminOfNewcomers => {
            (PLATFORM_ADMIN, "context.has_no_password && !context.has_platform_role")
        }
        Holder::PlatformOwnerOfOrphans => (PLATFORM_OWNER, "context.is_ownerless"),
        Holder::PlatformAdminOfUnstaffed => (PLATFORM_ADMIN, "context.is_unstaffed"),
        Holder::OrganizationOwner => (OWNER, ""),
        Holder::OrganizationAdmin => (ADMIN, ""),
        Holder::Member => ("principal", MEMBER),
        Holder::OrganizationAdminOverUsers => (ADMIN, "context.is_over_users"),
        Holder::OrganizationOwnerOfNewcomers => (OWNER, "context.is_newcomer"),
        Holder::OrganizationAdminOfNewcomers => (ADMIN, "context.is_newcomer"),
        Holder::OrganizationOwnerOfItsNodes => (OWNER, "context.only_own_nodes"),
        Holder::Oneself => ("principal", "context.is_oneself"),
        Holder::Permitted => ("principal is User", "context.is_permitted"),
        // Named in no line of the table.
        Holder::Ruled => ("principal is User", "false"),
        Holder::ItsNode => ("principal", "context.is_its_node"),
        Holder::AnyUser => ("principal is User", ""),
    }
}

/// What the table's rules say to an action.
pub(crate) fn administer(
    state: &State,
    principal: &Principal,
    action: Action,
    facts: &Facts,
) -> Answer {
    let asked = Asked {
        principal: name_of(principal),
        action: KINDS.action.named(action.as_str()),
        resource: KINDS.target.named("target"),
    };
    let parents = parents_of(state, principal, facts);
    let entities = Entity::new_with_tags(asked.principal.clone(), [], parents, [])
        .ok()
        .and_then(|who| Entities::from_entities([who], None).ok());
    match (entities, context(state, principal, action, facts)) {
        (Some(entities), Some(context)) => ask(&BUILTIN, &asked, context, &entities),
        _ => Answer { failed: true, ..Answer::default() },
    }
}

fn name_of(principal: &Principal) -> EntityUid {
    match principal {
        Principal::Setup => KINDS.setup.named("setup"),
        Principal::User { user, .. } | Principal::ApiToken { user, .. } => {
            KINDS.user.named(user.to_string())
        }
        Principal::Node(node) => KINDS.node.named(node.to_string()),
    }
}

/// The roles that the principal acts with towards the target, and the target's organizations in
/// which it acts.
fn parents_of(state: &State, principal: &Principal, facts: &Facts) -> Vec<EntityUid> {
    let platform = PlatformRole::ALL.iter().copied();
    let platform = platform.filter(|role| principal.has_platform_role(state, *role));
    let mut parents: Vec<EntityUid> =
        platform.map(|role| KINDS.role.named(role.as_str())).collect();
    for organization in &facts.organizations {
        if let Some(role) = principal.role_in(state, *organization) {
            parents.push(KINDS.role.named(role.as_str()));
            parents.push(KINDS.organization.named(organization.to_string()));
        }
    }
    parents
}

fn context(state: &State, principal: &Principal, action: Action, facts: &Facts) -> Option<Context> {
    let truth = RestrictedExpression::new_bool;
    let is_permitted = action.holders().contains(&Holder::Permitted)
        && Holder::Permitted.is(state, principal, facts);
    let organizations = facts.organizations.iter().map(|organization| {
        RestrictedExpression::new_entity_uid(KINDS.organization.named(organization.to_string()))
    });
    let truths = [
        ("of_platform", facts.of_platform),
        ("has_platform_role", facts.has_platform_role),
        ("has_no_password", facts.has_no_password),
        ("is_newcomer", facts.is_newcomer),
        ("is_ownerless", facts.is_ownerless),
        ("is_unstaffed", facts.is_unstaffed),
        ("only_own_nodes", facts.only_own_nodes),
        ("is_over_users", matches!(facts.membership, None | Some(OrganizationRole::User))),
        ("is_oneself", Holder::Oneself.is(state, principal, facts)),
        ("is_its_node", Holder::ItsNode.is(state, principal, facts)),
        ("is_permitted", is_permitted),
    ];
    let truths = truths.into_iter().map(|(name, is)| (name.to_owned(), truth(is)));
    let organizations = RestrictedExpression::new_set(organizations);
    Context::from_pairs(truths.chain([("organizations".to_owned(), organizations)])).ok()
}
