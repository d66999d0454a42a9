use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema, Validator};

/// What an organization's rules can see and speak of. Users and resources are called by their
/// names; `id` is what does not change hands. Hours are UTC, weekdays run from 1, Monday.
pub(super) const SCHEMA: &str = r#"
entity Role;
entity Organization;
entity User in [Role, Organization] { id: String, name: String, role: String };
entity Resource in [Organization] {
    id: String, name: String, kind: String, organization: Organization
} tags String;
action "reach" appliesTo {
    principal: [User], resource: [Resource], context: { weekday: Long, hour: Long }
};
action "resource.read", "resource.change", "resource.remove" appliesTo {
    principal: [User], resource: [Resource], context: {}
};
"#;

/// The lists of one policy as groups: the template says that those of one group may reach those of
/// the other, and each question says which groups its user and its resource are in.
pub(super) const LISTS_TEMPLATE: &str =
    r#"permit(principal in ?principal, action == Action::"reach", resource in ?resource);"#;

/// Nothing of another organization is reached or changed, whatever the organization's rules say.
pub(super) const ISOLATION: &str =
    r#"forbid(principal, action, resource) unless { principal in resource.organization };"#;

/// Makes the names of entities of one type.
pub(super) struct Kind(EntityTypeName);

impl Kind {
    fn new(name: &str) -> Self {
        Self(name.parse().expect("a word is a type's name"))
    }

    pub(super) fn named(&self, id: impl AsRef<str>) -> EntityUid {
        EntityUid::from_type_name_and_id(self.0.clone(), EntityId::new(id))
    }

    pub(super) fn is_of(&self, entity: &EntityUid) -> bool {
        *entity.type_name() == self.0
    }
}

pub(super) struct Kinds {
    pub(super) action: Kind,
    pub(super) node: Kind,
    pub(super) organization: Kind,
    pub(super) resource: Kind,
    pub(super) resources: Kind,
    pub(super) role: Kind,
    pub(super) setup: Kind,
    pub(super) target: Kind,
    pub(super) user: Kind,
    pub(super) users: Kind,
}

/// Parsed once: parsing a name costs more than asking a question.
pub(super) static KINDS: LazyLock<Kinds> = LazyLock::new(|| Kinds {
    action: Kind::new("Action"),
    node: Kind::new("Node"),
    organization: Kind::new("Organization"),
    resource: Kind::new("Resource"),
    resources: Kind::new("Resources"),
    role: Kind::new("Role"),
    setup: Kind::new("Setup"),
    target: Kind::new("Target"),
    user: Kind::new("User"),
    users: Kind::new("Users"),
});

pub(super) static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the schema is sound");
    Validator::new(schema)
});
