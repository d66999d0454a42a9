use cedar_policy::{Context, Entities, Entity, RestrictedExpression};
use rap_events::policy::PolicySpec;
use rap_proto::{OrganizationId, OrganizationRole, PolicyId, UserId, WeekHour};

use super::{
    REACH,
    answer::Asked,
    schema::{KINDS, Kind},
};
use crate::state::{Resource, State};

/// Somebody within one organization, as its rules see them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) organization: OrganizationId,
    pub(crate) user: UserId,
    pub(crate) role: OrganizationRole,
}

/// The lists that name members and resources: those of the state, one of them perhaps as it would be.
#[derive(Clone, Copy)]
pub(crate) struct Lists<'a> {
    state: &'a State,
    instead: Option<(PolicyId, &'a PolicySpec)>,
}

impl<'a> Lists<'a> {
    pub(crate) fn of(state: &'a State) -> Self {
        Self { state, instead: None }
    }

    /// With `spec` as the lists of the policy `id`, which may be a new one.
    pub(crate) fn with(state: &'a State, id: PolicyId, spec: &'a PolicySpec) -> Self {
        Self { state, instead: Some((id, spec)) }
    }

    fn each(
        self,
        organization: OrganizationId,
    ) -> impl Iterator<Item = (PolicyId, &'a PolicySpec)> {
        let policies = self.state.policies().of(organization);
        let replaced = self.instead.map(|(id, _)| id);
        let others = policies.filter(move |policy| Some(policy.id) != replaced);
        others.map(|policy| (policy.id, &policy.spec)).chain(self.instead)
    }
}

/// One member and one resource, made ready to be asked about: at several hours if need be.
pub(crate) struct Question {
    pub(super) asked: Asked,
    pub(super) entities: Option<Entities>,
}

impl Question {
    /// Whether the member may reach the resource.
    pub(crate) fn reach(state: &State, member: Member, resource: &Resource) -> Self {
        Self::about(state, member, REACH, resource)
    }

    /// Whether the member may do what `action` names to the resource.
    pub(crate) fn about(state: &State, member: Member, action: &str, resource: &Resource) -> Self {
        Self::over(Lists::of(state), member, action, resource)
    }

    /// The same over other lists than those of the state.
    pub(crate) fn over(lists: Lists, member: Member, action: &str, resource: &Resource) -> Self {
        let name = lists.state.users().get(member.user).map_or("", |user| user.name.as_str());
        let asked = Asked {
            principal: KINDS.user.named(name),
            action: KINDS.action.named(action),
            resource: KINDS.resource.named(resource.name.as_str()),
        };
        let entities = user(lists, member, name, &asked)
            .zip(thing(lists, member.organization, resource, &asked))
            .and_then(|(user, thing)| Entities::from_entities([user, thing], None).ok());
        Self { asked, entities }
    }
}

fn user(lists: Lists, member: Member, name: &str, asked: &Asked) -> Option<Entity> {
    let attributes = [
        ("id".to_owned(), text(&member.user.to_string())),
        ("name".to_owned(), text(name)),
        ("role".to_owned(), text(member.role.as_str())),
    ];
    let lists = lists.each(member.organization);
    let lists = lists.filter(|(_, spec)| spec.matches_user(member.user, member.role));
    let lists = lists.map(|(policy, _)| KINDS.users.named(policy.to_string()));
    let own = [
        KINDS.role.named(member.role.as_str()),
        KINDS.organization.named(member.organization.to_string()),
    ];
    Entity::new_with_tags(asked.principal.clone(), attributes, own.into_iter().chain(lists), [])
        .ok()
}

fn thing(
    lists: Lists,
    asking: OrganizationId,
    resource: &Resource,
    asked: &Asked,
) -> Option<Entity> {
    let organization = KINDS.organization.named(resource.organization.to_string());
    let attributes = [
        ("id".to_owned(), text(&resource.id.to_string())),
        ("name".to_owned(), text(resource.name.as_str())),
        ("kind".to_owned(), text(resource.kind.as_str())),
        ("organization".to_owned(), RestrictedExpression::new_entity_uid(organization.clone())),
    ];
    let lists = lists.each(asking);
    let lists = lists.filter(|(_, spec)| spec.matches_resource(resource.id, resource.kind));
    let lists = lists.map(|(policy, _)| KINDS.resources.named(policy.to_string()));
    let parents = std::iter::once(organization).chain(lists);
    let labels = resource.labels.iter();
    let tags = labels.map(|(key, value)| (key.to_string(), text(value.as_str())));
    Entity::new_with_tags(asked.resource.clone(), attributes, parents, tags).ok()
}

/// What a rule can ask of time.
pub(super) fn context(at: WeekHour) -> Context {
    let number = |number: u8| RestrictedExpression::new_long(i64::from(number));
    let pairs =
        [("weekday".to_owned(), number(at.weekday())), ("hour".to_owned(), number(at.hour()))];
    Context::from_pairs(pairs).unwrap_or_else(|_| Context::empty())
}

pub(super) fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// The two groups that a policy's lists stand for.
pub(super) fn groups(policy: PolicyId) -> [(&'static Kind, String); 2] {
    [(&KINDS.users, policy.to_string()), (&KINDS.resources, policy.to_string())]
}
