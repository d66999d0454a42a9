use cedar_policy::{Context, Entities, Entity, RestrictedExpression};
use rap_proto::{OrganizationId, OrganizationRole, UserId, WeekHour};

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
        let name = state.users().get(member.user).map_or("", |user| user.name.as_str());
        let asked = Asked {
            principal: KINDS.user.named(name),
            action: KINDS.action.named(action),
            resource: KINDS.resource.named(resource.name.as_str()),
        };
        let entities = user(state, member, name, &asked)
            .zip(thing(state, member.organization, resource, &asked))
            .and_then(|(user, thing)| Entities::from_entities([user, thing], None).ok());
        Self { asked, entities }
    }
}

fn user(state: &State, member: Member, name: &str, asked: &Asked) -> Option<Entity> {
    let attributes = [
        ("id".to_owned(), text(&member.user.to_string())),
        ("name".to_owned(), text(name)),
        ("role".to_owned(), text(member.role.as_str())),
    ];
    let matches =
        |policy: &&crate::state::Policy| policy.spec.matches_user(member.user, member.role);
    let lists = state.policies().of(member.organization).filter(matches);
    let lists = lists.map(|policy| KINDS.users.named(policy.id.to_string()));
    let own = [
        KINDS.role.named(member.role.as_str()),
        KINDS.organization.named(member.organization.to_string()),
    ];
    Entity::new_with_tags(asked.principal.clone(), attributes, own.into_iter().chain(lists), [])
        .ok()
}

fn thing(
    state: &State,
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
    let matches =
        |policy: &&crate::state::Policy| policy.spec.matches_resource(resource.id, resource.kind);
    let lists = state.policies().of(asking).filter(matches);
    let lists = lists.map(|policy| KINDS.resources.named(policy.id.to_string()));
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
pub(super) fn groups(policy: rap_proto::PolicyId) -> [(&'static Kind, String); 2] {
    [(&KINDS.users, policy.to_string()), (&KINDS.resources, policy.to_string())]
}
