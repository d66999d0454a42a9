//! The bodies of the REST API under `/api/v1`: JSON, camelCase, RFC 3339 times.
//!
//! The server and every client share these types, so a field has one name and one meaning. Lists
//! are pages ([`Page`]), failures are problem documents ([`Problem`]), and whatever can be changed
//! carries the `revision` that its `ETag` repeats. Commands carry an `Idempotency-Key`, changes of
//! existing objects an `If-Match`; replies carry the log position that they reflect in
//! `Rap-Position`.
//!
//! In a path or a body, a [`Reference`] names a thing by its id or by its name.
//!
//! Below, `o` is `/organizations/{organization}`; "+" marks what needs `If-Match`, the revision in
//! quotes. Creating answers 201, deleting 204, every other change [`Changed`].
//!
//! | Route | Body | Answer |
//! |---|---|---|
//! | `POST /setup` | [`Setup`] | [`LoggedIn`] |
//! | `POST /logins`, `DELETE /logins/current` | [`NewLogin`] | [`LoggedIn`] |
//! | `GET /me/logins` | | [`Page`] of [`MyLogin`] |
//! | `POST /invitations/accept` | [`AcceptInvitation`] | [`LoggedIn`] |
//! | `GET /me`, `PUT /me/password` | [`ChangePassword`] | [`Me`] |
//! | `GET /cluster` | | [`Cluster`] |
//! | `GET`, `POST /users`, `GET /users/{user}` | [`NewUser`] | [`User`], [`UserCreated`] |
//! | `POST /users/{user}/invite`+ | | [`Invited`] |
//! | `POST /users/{user}/disable`+, `POST /users/{user}/enable`+ | [`Because`] | |
//! | `PUT`+, `DELETE /users/{user}/platform-roles/{role}`+ | | |
//! | `GET`, `POST /organizations`, `GET`, `PATCH`+, `DELETE o`+ | [`NewOrganization`], [`RenameOrganization`] | [`Organization`] |
//! | `GET o/quotas`, `PUT o/quotas`+ | [`SetQuotas`] | [`Quotas`] |
//! | `GET o/bandwidth`, `PUT o/bandwidth`+, `PUT o/bandwidth/grant`+ | [`SetBandwidth`], [`GrantBandwidth`] | [`Bandwidth`] |
//! | `GET o/carriers`, `PUT o/carriers`+ | [`SetCarriers`] | [`Carriers`] |
//! | `GET /platform/carriers`, `PUT /platform/carriers`+ | [`SetCarriers`] | [`PlatformCarriers`] |
//! | `GET /platform/paths`, `PUT /platform/paths`+ | [`SetPlatformPaths`] | [`PlatformPaths`] |
//! | `GET /platform/stale`, `PUT /platform/stale`+ | [`SetPlatformStale`] | [`PlatformStale`] |
//! | `GET /platform/mesh`, `PUT /platform/mesh`+ | [`SetPlatformMesh`] | [`PlatformMesh`] |
//! | `PUT /nodes/{node}/bandwidth`+ | [`CapNodeBandwidth`] | |
//! | `GET o/members/{user}/reach/{resource}`, `GET o/members/{user}/may/{action}` | | [`Decided`] |
//! | `POST o/suspend`+, `POST o/resume`+ | [`Because`] | |
//! | `GET o/members`, `GET`, `PUT`, `DELETE o/members/{user}`+ | [`SetMember`] | [`Member`] |
//! | `GET`, `POST o/pools`, `GET`, `DELETE o/pools/{pool}`+ | [`NewPool`] | [`Pool`] |
//! | `GET`, `POST o/resources`, `GET`, `PATCH`+, `DELETE o/resources/{resource}`+ | [`NewResource`], [`ChangeResource`] | [`Resource`] |
//! | `PUT o/resources/{resource}/connection`+ | [`SetResourceConnection`] | |
//! | `GET`, `POST o/policies`, `GET`, `PUT`+, `DELETE o/policies/{policy}`+ | [`NewPolicy`], [`ChangePolicy`] | [`Policy`] |
//! | `GET`, `POST o/vpn-connections`, `GET`, `DELETE o/vpn-connections/{connection}`+ | [`NewVpnConnection`] | [`VpnConnection`] |
//! | `PUT o/vpn-connections/{connection}/nodes`+, `POST …/enable`+, `…/disable`+, `…/drain`+ | [`SetVpnConnectionNodes`] | |
//! | `GET /resources` | | [`Reachable`]: what the caller may connect to |
//! | `GET`, `POST /sessions`, `GET`, `DELETE /sessions/{session}` | [`RequestAccess`] | [`Session`], [`Access`] |
//! | `GET /nodes`, `GET /nodes/{node}` | | [`Node`] |
//! | `POST /nodes/{node}/approve`+, `/reject`+, `/revoke`+, `/drain`+, `/undrain`+ | [`ApproveNode`], [`Because`] | |
//! | `PUT /nodes/{node}/roles`+, `PUT /nodes/{node}/pools`+ | [`SetNodeRoles`], [`SetNodePools`] | |
//! | `PUT /nodes/{node}/place`+ | [`PlaceNode`] | |
//! | `GET /nodes/{node}/why/{other}` | | [`Explained`] |
//! | `POST /snapshots/renew` | | |
//! | `GET /leases`, `POST /leases/accept-loss`+ | [`AcceptLoss`] | [`Leases`] |
//! | `GET`, `POST /join-tokens`, `DELETE /join-tokens/{token}`+ | [`NewJoinToken`] | [`JoinToken`], [`JoinTokenCreated`] |
//! | `GET`, `POST /api-tokens`, `DELETE /api-tokens/{token}`+ | [`NewApiToken`] | [`ApiToken`], [`ApiTokenCreated`] |
//! | `GET /audit`, `GET /audit/replay` | | [`AuditEvent`], [`Replay`] |
//! | `GET`, `POST /projections/rebuild` | | [`Rebuild`]: of the replica that answers |
//! | `GET /log/keys`, `GET /log/heads`, `GET /log/proof/{position}` | | [`LogKeys`], [`SealedHead`], [`Inclusion`] |
//! | `GET /log/checkpoint`, `GET /log/tile/{tile}`, `GET /log/payloads/{tile}` | | C2SP `tlog-tiles`, and bundles of payloads |
//! | `GET /events` | | server-sent [`AuditEvent`]s with an [`EventId`], and [`AvailabilityChanged`] |
//! | `GET /openapi.json` | | this, as OpenAPI 3.1 |
//!
//! Lists take [`PageQuery`]; `GET /sessions` and `GET /audit` also `organization`, and `GET /audit`
//! the times `since` and `until`. `PUT o/members/{user}` creates without and changes with
//! `If-Match`. Every `GET` takes `min_position`.

mod account;
mod audit;
mod bandwidth;
mod carriers;
mod event_id;
mod explained;
mod leases;
mod mesh;
mod node;
mod organization;
mod page;
mod paths;
mod policy;
mod problem;
mod rebuild;
mod reference;
mod resource;
mod secret_text;
mod session;
mod stale;
mod vpn_connection;
mod whole;

pub use account::*;
pub use audit::*;
pub use bandwidth::*;
pub use carriers::*;
pub use event_id::*;
pub use explained::*;
pub use leases::*;
pub use mesh::*;
pub use node::*;
pub use organization::*;
pub use page::*;
pub use paths::*;
pub use policy::*;
pub use problem::*;
pub use rebuild::*;
pub use reference::*;
pub use resource::*;
pub use secret_text::SecretText;
pub use session::*;
pub use stale::*;
pub use vpn_connection::*;

/// Where the API lives on the control server.
pub const API_PREFIX: &str = "/api/v1";
/// Chosen by the client, one per command; repeating it repeats nothing.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";
/// The log position that a reply reflects; hand it back as `min_position` to read what you wrote.
pub const POSITION_HEADER: &str = "rap-position";
/// Ties a reply to the server's log lines.
pub const REQUEST_ID_HEADER: &str = "rap-request-id";
/// The longest `Idempotency-Key`, in characters; printable ASCII.
pub const MAX_IDEMPOTENCY_KEY: usize = 128;
/// The largest request body, in bytes.
pub const MAX_API_BODY_BYTES: usize = 64 * 1024;
/// Items in a page when the client does not say.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// The most items in a page, whatever the client says.
pub const MAX_PAGE_SIZE: usize = 500;
/// The longest that a read waits for `min_position`, in milliseconds.
pub const MAX_POSITION_WAIT_MS: u64 = 5_000;

/// Derives what every body has in common.
macro_rules! bodies {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident : $type:ty),* $(,)? })*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name { $($(#[$field_meta])* pub $field: $type),* }
    )*};
}
pub(crate) use bodies;

#[cfg(test)]
mod tests;
