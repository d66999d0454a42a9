use std::collections::BTreeSet;

use super::{Reference, SecretText, bodies};
use crate::{
    ApiScope, ApiTokenId, ClusterId, Digest, LoginId, Name, OrganizationId, OrganizationRole,
    PlatformRole, Timestamp, UserId, term::terms,
};

/// The shortest password, in characters.
pub const MIN_PASSWORD_CHARS: usize = 12;
/// The longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 256;
/// The longest label of a login or a token, in characters.
pub const MAX_LABEL_CHARS: usize = 64;
/// How long an API token may live: 366 days, which every year fits into.
pub const MAX_API_TOKEN_SECONDS: u64 = 366 * 24 * 3_600;

terms! {
    /// Whether more than half of the control plane's replicas agree that nothing was lost.
    AuthorityState, "authority state":
    Quorum = "quorum",
    /// There is one replica: nobody would notice what it lost.
    NoQuorum = "no_quorum",
    /// Too few replicas see the database: only what takes authority away is done.
    Frozen = "frozen",
}

bodies! {
    /// `POST /setup`: the installation's first platform owner.
    pub struct Setup {
        /// What the server printed at its first start (`rapsetup_…`).
        pub setup_code: SecretText,
        pub name: Name,
        pub password: SecretText,
    }

    /// `POST /logins`.
    pub struct NewLogin {
        pub name: Name,
        pub password: SecretText,
        /// What the login is called in lists, such as a host name.
        #[serde(default)]
        pub device: Option<String>,
    }

    /// The reply to `POST /setup`, `POST /logins` and `POST /invitations/accept`.
    pub struct LoggedIn {
        pub login: LoginId,
        pub user: UserId,
        pub name: Name,
        /// The bearer token (`raps_…`), shown this once.
        pub secret: SecretText,
        pub expires_at: Timestamp,
        /// Where the servers of control are reached, as the platform configured them, each `https://HOST:PORT`; at
        /// most 16. Any of them answers anything.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub servers: Vec<String>,
    }

    /// `POST /invitations/accept`: a new user chooses the first password.
    pub struct AcceptInvitation {
        /// The invitation's secret (`rapi_…`).
        pub invitation: SecretText,
        pub password: SecretText,
    }

    /// `GET /me`: who the caller is.
    pub struct Me {
        pub user: UserId,
        pub name: Name,
        pub cluster: ClusterId,
        pub platform_roles: BTreeSet<PlatformRole>,
        pub organizations: Vec<MyOrganization>,
        /// What an API token is limited to; absent for a login.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub scopes: Option<BTreeSet<ApiScope>>,
        /// When the caller's credential ends.
        pub expires_at: Option<Timestamp>,
    }

    /// An item of `GET /me/logins`.
    pub struct MyLogin {
        pub id: LoginId,
        /// What the client called itself; empty where it said nothing, and `sealed` where `sealed`
        /// is set.
        pub device: String,
        /// Whether the device cannot be shown: the person's key was wrapped with another state
        /// directory than this server's.
        #[serde(default)]
        pub sealed: bool,
        pub opened_at: Timestamp,
        pub expires_at: Timestamp,
    }

    pub struct MyOrganization {
        pub id: OrganizationId,
        pub name: Name,
        pub role: OrganizationRole,
    }

    /// `GET /cluster`: what every logged-in caller may know of it.
    pub struct Cluster {
        pub id: ClusterId,
        /// The SHA-256 of the CA certificate, which join lines carry.
        pub ca_fingerprint: Digest,
        /// The CA certificate, PEM.
        pub authorities: String,
        pub version: String,
        /// The last log position that the server has folded.
        pub position: u64,
        pub authority: AuthorityState,
    }

    /// `POST /users`.
    pub struct NewUser {
        pub name: Name,
        /// What others see.
        #[serde(default)]
        pub display_name: String,
        /// Makes the user a member from the start; what an organization's admins must say.
        #[serde(default)]
        pub organization: Option<Reference>,
        /// The role in `organization`; `organization_user` when absent.
        #[serde(default)]
        pub role: Option<OrganizationRole>,
        /// When absent, the reply holds an invitation for the user to choose one.
        #[serde(default)]
        pub password: Option<SecretText>,
    }

    pub struct UserCreated {
        pub user: User,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub invitation: Option<SecretText>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub invitation_expires_at: Option<Timestamp>,
    }

    pub struct User {
        pub id: UserId,
        pub name: Name,
        /// What others see; may be empty, is `erased` once the person was erased, and `sealed`
        /// where `sealed` is set.
        pub display_name: String,
        /// Whether the display name cannot be shown, though nobody erased it: the person's key was
        /// wrapped with another state directory than this server's, or what is stored is damaged.
        #[serde(default)]
        pub sealed: bool,
        pub platform_roles: BTreeSet<PlatformRole>,
        pub disabled: bool,
        /// Whether what was known of the person is gone. Such an account stays disabled.
        #[serde(default)]
        pub erased: bool,
        /// Whether a password was chosen.
        pub active: bool,
        pub created_at: Timestamp,
        pub revision: u64,
    }

    /// `POST /users/{user}/disable` and `POST /organizations/{organization}/suspend`.
    pub struct Because {
        /// For the auditor.
        #[serde(default)]
        pub reason: String,
    }

    /// The reply to `POST /users/{user}/invite`.
    pub struct Invited {
        /// `rapi_…`, shown this once; the one before it is worthless from now.
        pub invitation: SecretText,
        pub expires_at: Timestamp,
        pub revision: u64,
    }

    /// `PUT /me/password`: ends every other login of the caller.
    pub struct ChangePassword {
        pub current: SecretText,
        pub new: SecretText,
    }

    /// `POST /api-tokens`.
    pub struct NewApiToken {
        /// What it is for.
        pub label: String,
        /// The one organization that it works in; absent for all of its user's.
        #[serde(default)]
        pub organization: Option<Reference>,
        pub scopes: BTreeSet<ApiScope>,
        /// Lifetime in seconds; at most [`MAX_API_TOKEN_SECONDS`].
        #[cfg_attr(feature = "openapi", schema(schema_with = api_token_life))]
        #[serde(deserialize_with = "super::whole::deserialize")]
        pub ttl_seconds: u64,
    }

    pub struct ApiTokenCreated {
        pub token: ApiToken,
        /// The bearer token (`rapa_…`), shown this once.
        pub secret: SecretText,
    }

    pub struct ApiToken {
        pub id: ApiTokenId,
        /// What it is for, in its user's words; may be empty, is `erased` once the user was erased,
        /// and `sealed` where `sealed` is set.
        pub label: String,
        /// Whether the label cannot be shown, though nobody erased it: the user's key was wrapped
        /// with another state directory than this server's, or what is stored is damaged.
        #[serde(default)]
        pub sealed: bool,
        pub organization: Option<OrganizationId>,
        pub user: UserId,
        pub scopes: BTreeSet<ApiScope>,
        pub created_at: Timestamp,
        pub expires_at: Timestamp,
        pub revoked: bool,
        pub revision: u64,
    }
}

#[cfg(feature = "openapi")]
fn api_token_life() -> utoipa::openapi::schema::Object {
    use utoipa::openapi::schema::{ObjectBuilder, Type};

    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .description(Some("Lifetime in seconds."))
        .minimum(Some(1))
        .maximum(Some(MAX_API_TOKEN_SECONDS))
        .build()
}
