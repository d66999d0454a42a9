//! Frozen bytes of every event type and schema: what is in a log can be read for ever.
//!
//! `RAP_UPDATE_GOLDEN=1` writes the files anew; the difference then shows in review.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use rap_proto::{
    ApiScope, AttachmentId, Digest, Leased, MessageId, Name, NodeId, OrganizationId, PolicyId,
    PoolId, RefusalCode, ResourceId, ResourceKind, Timestamp, UserId, codec,
    paths::{DirectPaths, PathRule},
};
use serde::Serialize;

use super::samples::{
    ACME, ALICE, ENTRY, MINUTE_MS, POLICY, POOL, after, every_event, grant, name, resource_created,
    secret, seen, session_authorized,
};
use crate::{
    DomainEvent, Personal, Sensitive,
    aggregate::EventKind,
    api_token::{ApiTokenCreated, ApiTokenEvent},
    catalogue::catalogue,
    cluster::{ClusterEvent, PathsRuled},
    login::{LoginEvent, LoginOpened},
    node_report::{NodeReportEvent, UnclaimedAccessRefused},
    resource::ResourceEvent,
    session::{
        Basis, Grant, Seen, SessionAccessRefused, SessionAuthorized, SessionDenied, SessionEvent,
        SessionRefreshed, SessionStarted,
    },
    user::{UserCreated, UserEvent},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn file_name(kind: EventKind) -> String {
    format!("{}.v{}.hex", kind.event_type, kind.schema)
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// `bytes` are what the file holds, and read as `expected`.
fn check(kind: EventKind, bytes: &[u8], expected: &DomainEvent) {
    let path = folder().join(file_name(kind));
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::write(&path, to_hex(bytes)).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(to_hex(bytes), frozen, "{} changed its bytes", file_name(kind));
    let read = DomainEvent::decode(kind.event_type, kind.schema, &from_hex(&frozen));
    assert_eq!(read.as_ref(), Ok(expected), "{}", file_name(kind));
}

#[test]
fn every_event_keeps_its_bytes() {
    for event in every_event() {
        check(event.kind(), &event.encode(), &event);
    }
}

/// `resource.created` as it was written before a resource could allow local addresses.
#[derive(Serialize)]
struct ResourceCreatedV1 {
    organization: OrganizationId,
    name: Name,
    kind: ResourceKind,
    host: String,
    port: u16,
    pool: PoolId,
}

#[test]
fn resource_created_is_upcast_from_schema_1() {
    let old = ResourceCreatedV1 {
        organization: ACME,
        name: name("demo-ssh"),
        kind: ResourceKind::Ssh,
        host: "office.acme.example".to_owned(),
        port: 22,
        pool: POOL,
    };
    let kind = EventKind { event_type: "resource.created", schema: 1 };
    let upcast = ResourceEvent::Created(resource_created()).into();
    check(kind, &codec::encode(&old), &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");
}

/// The three decisions as they were written before they named what they rest on.
#[derive(Serialize)]
struct DeniedV1 {
    code: RefusalCode,
    reason: String,
}

#[derive(Serialize)]
struct AuthorizedV1 {
    resource: ResourceId,
    kind: ResourceKind,
    attachment: AttachmentId,
    grant: GrantV2,
}

#[derive(Serialize)]
struct RefreshedV1 {
    grant: GrantV2,
}

/// The grant as it was written before connections carried resources.
#[derive(Serialize)]
struct GrantV2 {
    token: MessageId,
    entries: BTreeSet<NodeId>,
    egresses: BTreeMap<NodeId, u64>,
    connect_by: Timestamp,
    expires_at: Timestamp,
    policies: BTreeSet<PolicyId>,
}

#[derive(Serialize)]
struct AuthorizedV2 {
    resource: ResourceId,
    kind: ResourceKind,
    attachment: AttachmentId,
    grant: GrantV2,
    basis: Basis,
}

#[derive(Serialize)]
struct RefreshedV2 {
    grant: GrantV2,
    basis: Basis,
}

/// The grant as it was written before rules gave lanes.
#[derive(Serialize)]
struct GrantV3 {
    token: MessageId,
    entries: BTreeSet<NodeId>,
    egresses: BTreeMap<NodeId, u64>,
    connect_by: Timestamp,
    expires_at: Timestamp,
    policies: BTreeSet<PolicyId>,
    leased: Option<Leased>,
}

#[derive(Serialize)]
struct AuthorizedV3 {
    resource: ResourceId,
    kind: ResourceKind,
    attachment: AttachmentId,
    grant: GrantV3,
    basis: Basis,
}

#[derive(Serialize)]
struct RefreshedV3 {
    grant: GrantV3,
    basis: Basis,
}

/// The sample grant in the shape of schema 2, and as that is read.
fn old_grant() -> (GrantV2, Grant) {
    let upcast = Grant { leased: None, lanes: BTreeSet::new(), ..grant() };
    let Grant { token, entries, egresses, connect_by, expires_at, policies, .. } = grant();
    (GrantV2 { token, entries, egresses, connect_by, expires_at, policies }, upcast)
}

#[test]
fn decisions_are_upcast_from_schema_1() {
    let old = |event_type| EventKind { event_type, schema: 1 };
    let (code, reason) = (RefusalCode::AccessDenied, "no policy".to_owned());
    let denied = DeniedV1 { code, reason: reason.clone() };
    let upcast = SessionEvent::from(SessionDenied { code, reason, basis: Basis::default() });
    check(old("session.denied"), &codec::encode(&denied), &upcast.into());

    // The grant named the policies, and that is all that is known of the decision.
    let basis = Basis { rules: [POLICY.to_string()].into(), ..Basis::default() };
    let SessionAuthorized { resource, kind, attachment, .. } = session_authorized();
    let authorized = AuthorizedV1 { resource, kind, attachment, grant: old_grant().0 };
    let grant = old_grant().1;
    let upcast = SessionAuthorized { resource, kind, attachment, grant, basis: basis.clone() };
    let upcast = SessionEvent::from(upcast);
    check(old("session.authorized"), &codec::encode(&authorized), &upcast.into());
    let (grant, upcast) = old_grant();
    let upcast = SessionEvent::from(SessionRefreshed { grant: upcast, basis });
    check(old("session.refreshed"), &codec::encode(&RefreshedV1 { grant }), &upcast.into());
}

#[test]
fn grants_are_upcast_from_schema_2() {
    let old = |event_type| EventKind { event_type, schema: 2 };
    let SessionAuthorized { resource, kind, attachment, basis, .. } = session_authorized();
    let (grant, upcast) = old_grant();
    let authorized = AuthorizedV2 { resource, kind, attachment, grant, basis: basis.clone() };
    let upcast = SessionAuthorized { grant: upcast, ..session_authorized() };
    let upcast = DomainEvent::from(SessionEvent::from(upcast));
    check(old("session.authorized"), &codec::encode(&authorized), &upcast);
    assert_eq!(upcast.kind().schema, 4, "what is written now is the newest schema");
    let (grant, upcast) = old_grant();
    let refreshed = RefreshedV2 { grant, basis: basis.clone() };
    let upcast = SessionEvent::from(SessionRefreshed { grant: upcast, basis });
    check(old("session.refreshed"), &codec::encode(&refreshed), &upcast.into());
}

#[test]
fn grants_are_upcast_from_schema_3() {
    let old = |event_type| EventKind { event_type, schema: 3 };
    let upcast = Grant { lanes: BTreeSet::new(), ..grant() };
    let shape = || {
        let Grant { token, entries, egresses, connect_by, expires_at, policies, leased, .. } =
            grant();
        GrantV3 { token, entries, egresses, connect_by, expires_at, policies, leased }
    };
    let SessionAuthorized { resource, kind, attachment, basis, .. } = session_authorized();
    let authorized =
        AuthorizedV3 { resource, kind, attachment, grant: shape(), basis: basis.clone() };
    let read = SessionAuthorized { grant: upcast.clone(), ..session_authorized() };
    check(old("session.authorized"), &codec::encode(&authorized), &SessionEvent::from(read).into());
    let refreshed = RefreshedV3 { grant: shape(), basis: basis.clone() };
    let read = SessionEvent::from(SessionRefreshed { grant: upcast, basis });
    check(old("session.refreshed"), &codec::encode(&refreshed), &read.into());
}

/// `session.started` as it was written before nodes said from which end they see.
#[derive(Serialize)]
struct StartedV1 {
    seen: Seen,
}

#[test]
fn session_started_is_upcast_from_schema_1() {
    let kind = EventKind { event_type: "session.started", schema: 1 };
    let seen = seen(ENTRY, 1);
    let upcast = DomainEvent::from(SessionEvent::from(SessionStarted { seen, from: None }));
    check(kind, &codec::encode(&StartedV1 { seen }), &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");
}

/// The two refusals of nodes as they were written before a channel could find nothing that serves it.
#[derive(Serialize)]
struct AccessRefusedV1 {
    seen: Seen,
    code: RefusalCode,
}

#[derive(Serialize)]
struct UnclaimedRefusedV1 {
    organization: Option<OrganizationId>,
    sequence: u64,
    observed_at: Timestamp,
    code: RefusalCode,
}

#[test]
fn refusals_of_nodes_are_upcast_from_schema_1() {
    let old = |event_type| EventKind { event_type, schema: 1 };
    let (seen, code) = (seen(ENTRY, 2), RefusalCode::TokenExpired);
    let upcast = DomainEvent::from(SessionEvent::from(SessionAccessRefused { seen, code }));
    let payload = codec::encode(&AccessRefusedV1 { seen, code });
    check(old("session.access_refused"), &payload, &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");

    let (organization, sequence, observed_at) = (Some(ACME), 17, after(MINUTE_MS));
    let code = RefusalCode::TokenUntrusted;
    let refused = UnclaimedAccessRefused { organization, sequence, observed_at, code };
    let upcast = DomainEvent::from(NodeReportEvent::from(refused));
    let refused = UnclaimedRefusedV1 { organization, sequence, observed_at, code };
    check(old("node_report.access_refused"), &codec::encode(&refused), &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");
}

/// What the release that brought schema 2 of both can read. A code that it does not know makes it
/// say that the event is damaged, where a schema that it does not know says what to do: update.
const CODES_OF_SCHEMA_2: [&str; 25] = [
    "malformed",
    "token_untrusted",
    "token_expired",
    "token_not_yet_valid",
    "token_wrong_audience",
    "token_wrong_key",
    "token_wrong_cluster",
    "session_terminated",
    "channel_not_permitted",
    "access_denied",
    "role_not_assigned",
    "peer_not_trusted",
    "node_draining",
    "snapshot_behind",
    "snapshot_stale",
    "path_unavailable",
    "worker_unavailable",
    "address_not_allowed",
    "target_unreachable",
    "target_refused",
    "limit_reached",
    "lease_superseded",
    "authority_lost",
    "lease_not_held",
    "channel_not_served",
];

#[test]
fn a_code_that_is_new_comes_with_a_schema_that_is_new() {
    let codes: Vec<_> = RefusalCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes, CODES_OF_SCHEMA_2, "raise the schema of both events, and freeze its codes");
}

#[test]
fn a_rule_for_paths_is_upcast_from_schema_1() {
    let kind = EventKind { event_type: "cluster.paths_ruled", schema: 1 };
    let ruled = PathsRuled { rule: PathRule { direct: DirectPaths::Forbidden, audited: true } };
    let payload = codec::encode(&ruled);
    let upcast = DomainEvent::from(ClusterEvent::from(ruled));
    check(kind, &payload, &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");
}

#[test]
fn a_word_on_direct_paths_that_is_new_comes_with_a_schema_that_is_new() {
    let words: Vec<_> = DirectPaths::ALL.iter().map(|word| word.as_str()).collect();
    let of_schema_2 = ["allowed", "forbidden", "when_better"];
    assert_eq!(words, of_schema_2, "raise the schema of cluster.paths_ruled, and freeze its words");
}

#[test]
fn every_schema_has_frozen_bytes_and_nothing_else_has() {
    let expected: BTreeSet<_> = catalogue().into_iter().map(file_name).collect();
    let files: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, expected);
}

/// `user.created` as it was written before there were keys of persons.
#[derive(Serialize)]
struct UserCreatedV1 {
    name: Name,
    display_name: String,
}

#[test]
fn user_created_is_upcast_from_schema_1() {
    let old = UserCreatedV1 { name: name("alice"), display_name: "Alice Ä.".to_owned() };
    let kind = EventKind { event_type: "user.created", schema: 1 };
    let display_name = Personal::Clear("Alice Ä.".to_owned());
    let upcast = UserEvent::from(UserCreated { name: name("alice"), display_name }).into();
    check(kind, &codec::encode(&old), &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");
}

/// `login.opened` as it was written while devices stood there in clear.
#[derive(Serialize)]
struct LoginOpenedV1 {
    user: UserId,
    secret: Sensitive<Digest>,
    expires_at: Timestamp,
    device: String,
}

#[test]
fn login_opened_is_upcast_from_schema_1() {
    let (user, expires_at, device) = (ALICE, after(MINUTE_MS), "laptop".to_owned());
    let old = LoginOpenedV1 { user, secret: secret("login"), expires_at, device: device.clone() };
    let kind = EventKind { event_type: "login.opened", schema: 1 };
    let device = Personal::Clear(device);
    let opened = LoginOpened { user, secret: secret("login"), expires_at, device };
    let upcast = LoginEvent::from(opened).into();
    check(kind, &codec::encode(&old), &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");
}

/// `api_token.created` as it was written while labels stood there in clear.
#[derive(Serialize)]
struct ApiTokenCreatedV1 {
    user: UserId,
    secret: Sensitive<Digest>,
    label: String,
    scopes: BTreeSet<ApiScope>,
    organization: Option<OrganizationId>,
    expires_at: Timestamp,
}

#[test]
fn api_token_created_is_upcast_from_schema_1() {
    let (user, organization, expires_at) = (ALICE, Some(ACME), after(MINUTE_MS));
    let scopes = BTreeSet::from([ApiScope::Read, ApiScope::Audit]);
    let old = ApiTokenCreatedV1 {
        user,
        secret: secret("api"),
        label: "backup".to_owned(),
        scopes: scopes.clone(),
        organization,
        expires_at,
    };
    let (secret, label) = (secret("api"), Personal::Clear("backup".to_owned()));
    let created = ApiTokenCreated { user, secret, label, scopes, organization, expires_at };
    let kind = EventKind { event_type: "api_token.created", schema: 1 };
    let upcast = ApiTokenEvent::from(created).into();
    check(kind, &codec::encode(&old), &upcast);
    assert_eq!(upcast.kind().schema, 2, "what is written now is the newest schema");
}
