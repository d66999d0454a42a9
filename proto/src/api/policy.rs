use super::{Reference, bodies};
use crate::{
    Digest, Name, OrganizationId, OrganizationRole, PolicyId, ResourceId, ResourceKind, UserId,
    Verdict, WeekHour,
};

bodies! {
    /// Lets somebody reach something: (a user listed, or a member with a listed role) and (a
    /// resource listed, or of a listed kind). What no policy allows is denied.
    pub struct PolicyRules {
        #[serde(default)]
        pub users: Vec<Reference>,
        #[serde(default)]
        pub roles: Vec<OrganizationRole>,
        #[serde(default)]
        pub resources: Vec<Reference>,
        #[serde(default)]
        pub kinds: Vec<ResourceKind>,
    }

    /// Rules in the Cedar language, and what they must lead to. A rule speaks of members and of the
    /// organization's own resources, by name; what any rule forbids is denied.
    pub struct PolicyDocument {
        pub text: String,
        /// A document is refused when one of them fails.
        #[serde(default)]
        pub tests: Vec<PolicyTest>,
    }

    /// One question to all of the organization's policies and the answer that they must give.
    pub struct PolicyTest {
        /// What it is about, in your words.
        pub name: String,
        /// The member who asks.
        pub user: Name,
        /// `reach`, or an action on a resource that rules can speak of.
        pub action: String,
        pub resource: Name,
        /// When; at every hour when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub at: Option<WeekHour>,
        pub expect: Verdict,
    }

    /// `POST /organizations/{organization}/policies`: with `rules` or with a `document`.
    pub struct NewPolicy {
        pub name: Name,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub rules: Option<PolicyRules>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document: Option<PolicyDocument>,
    }

    /// `PUT /organizations/{organization}/policies/{policy}`: with `rules` or with a `document`.
    pub struct ChangePolicy {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub rules: Option<PolicyRules>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document: Option<PolicyDocument>,
    }

    pub struct Policy {
        pub id: PolicyId,
        pub organization: OrganizationId,
        pub name: Name,
        pub users: Vec<NamedUser>,
        pub roles: Vec<OrganizationRole>,
        pub resources: Vec<NamedResource>,
        pub kinds: Vec<ResourceKind>,
        /// In place of the lists above, which are empty then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document: Option<PolicyDocument>,
        pub revision: u64,
    }

    pub struct NamedUser {
        pub id: UserId,
        /// Absent when the user is gone.
        pub name: Option<Name>,
    }

    pub struct NamedResource {
        pub id: ResourceId,
        /// Absent when the resource is gone.
        pub name: Option<Name>,
    }

    /// `GET …/members/{user}/reach/{resource}` and `GET …/members/{user}/may/{action}`: what the
    /// policies say, and which rules decided.
    pub struct Decided {
        pub verdict: Verdict,
        /// Why it is forbidden, where no rule says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        /// The rules that forbid it, else those that permit it; none when nothing does.
        pub rules: Vec<DecidingRule>,
        /// The hash of all of the organization's policies.
        pub policy_hash: Digest,
        /// The position of the newest change of whom and what was asked about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub entity_version: Option<u64>,
        /// The position of the log that was asked.
        pub position: u64,
    }

    pub struct DecidingRule {
        /// A policy's id, or with a slash a rule in its document, or `builtin/` and a holder.
        pub rule: String,
        /// The policy's name, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub policy: Option<Name>,
    }
}
