//! One sample of every event, with every optional part present.

use rap_proto::{
    ApiScope, AttachmentId, BitRate, Capability, ClusterId, Digest, Duty, Generation, JoinTokenId,
    Lane, LeaseClass, Leased, MessageId, Name, NodeId, NodeRole, OrganizationId, OrganizationRole,
    PlatformRole, PolicyId, PoolId, Preference, PublicKey, RefusalCode, ReplicaId, ResourceId,
    ResourceKind, Signer, Timestamp, UserId, Verdict, VpnConnectionId,
    authority::{AuthorityChange, AuthorityStanding},
    bandwidth::{Allowance, BandwidthRule, Each, Traffic},
    beat::EpochStatement,
    carriers::{CarrierRule, CarrierRules},
    key::LocalKey,
    mesh::{ChannelClass, MeshRule, Part, PeerCounts, PeerKind},
    observation::{EndReason, LogRefusal, SnapshotRefusal, Vantage},
    paths::{DirectPaths, PathCarrier, PathChange, PathKind, PathRule},
    snapshot::{RoleScope, StalePolicy, Target},
};
use serde_bytes::ByteBuf;

use super::given::NOW;
use crate::{
    DomainEvent, Personal, Sensitive, api_token::*, authority::*, cluster::*, guessing::*,
    join_token::*, leadership::*, login::*, membership::*, node::*, node_report::*,
    organization::*, policy::*, pool::*, resource::*, session::*, user::*, vpn_connection::*,
};

pub(crate) const CLUSTER: ClusterId = ClusterId::from_u128(1);
pub(crate) const ACME: OrganizationId = OrganizationId::from_u128(2);
pub(crate) const GLOBEX: OrganizationId = OrganizationId::from_u128(3);
pub(crate) const ALICE: UserId = UserId::from_u128(4);
pub(crate) const BOB: UserId = UserId::from_u128(5);
pub(crate) const ENTRY: NodeId = NodeId::from_u128(6);
pub(crate) const EGRESS: NodeId = NodeId::from_u128(7);
pub(crate) const POOL: PoolId = PoolId::from_u128(8);
pub(crate) const SSH: ResourceId = ResourceId::from_u128(9);
pub(crate) const POLICY: PolicyId = PolicyId::from_u128(10);
pub(crate) const TOKEN: JoinTokenId = JoinTokenId::from_u128(11);

pub(crate) const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(13);
pub(crate) const REPLICA: ReplicaId = ReplicaId::from_u128(12);

pub(crate) const MINUTE_MS: i64 = 60_000;

pub(crate) fn after(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(NOW.unix_millis() + millis)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn key(seed: u8) -> PublicKey {
    LocalKey::from_random(&[seed; 32]).unwrap().public_key()
}

pub(crate) fn secret(text: &str) -> Sensitive<Digest> {
    Sensitive::new(Digest::of(text.as_bytes()))
}

pub(crate) fn verifier() -> Sensitive<String> {
    Sensitive::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g".to_owned())
}

pub(crate) fn role(role: NodeRole, organizations: &[OrganizationId]) -> RoleScope {
    RoleScope { role, organizations: Some(organizations.iter().copied().collect()) }
}

pub(crate) fn offer() -> Offer {
    Offer {
        organization: Some(ACME),
        roles: vec![role(NodeRole::StreamWorker, &[ACME])],
        pools: [POOL].into(),
        auto_approve: false,
    }
}

pub(crate) fn target() -> Target {
    Target { host: "office.acme.example".to_owned(), port: 22, allow_local: false }
}

pub(crate) fn spec() -> PolicySpec {
    PolicySpec {
        users: [ALICE].into(),
        roles: [OrganizationRole::Admin].into(),
        resources: [SSH].into(),
        kinds: [ResourceKind::Web].into(),
    }
}

pub(crate) fn grant() -> Grant {
    Grant {
        token: MessageId::from_u128(20),
        entries: [ENTRY].into(),
        egresses: [(EGRESS, 42)].into(),
        connect_by: after(2 * MINUTE_MS),
        expires_at: after(10 * MINUTE_MS),
        policies: [POLICY].into(),
        leased: Some(Leased { connection: CONNECTION, generation: Generation::new(7) }),
        lanes: [Lane::Media].into(),
    }
}

pub(crate) fn basis() -> Basis {
    let rule = "closed-at-night";
    Basis {
        rules: [POLICY.to_string(), format!("{POLICY}/{rule}")].into(),
        policy_hash: Some(Digest::of(b"policies")),
        entity_version: Some(41),
    }
}

pub(crate) fn document() -> PolicyDocument {
    let text = "permit(principal, action == Action::\"reach\", resource);\n".to_owned();
    let test = PolicyTest {
        name: "alice works".to_owned(),
        user: name("alice"),
        action: "reach".to_owned(),
        resource: name("demo-ssh"),
        at: Some("mon-09".parse().unwrap()),
        expect: Verdict::Permit,
    };
    PolicyDocument { text, tests: vec![test] }
}

pub(crate) fn quotas() -> Quotas {
    Quotas { nodes: 3, sessions: 20, events_per_second: 5 }
}

pub(crate) fn rate(text: &str) -> BitRate {
    text.parse().unwrap()
}

pub(crate) fn allowance() -> Allowance {
    Allowance { cap: Some(rate("20mbit")), reserved: Some(rate("5mbit")) }
}

pub(crate) fn path_rule() -> PathRule {
    PathRule { direct: DirectPaths::WhenBetter, audited: true }
}

pub(crate) fn mesh_rule() -> MeshRule {
    let counts = PeerCounts { least: 4, most: 8, warm: 12 };
    let weights = [(Part::Latency, 10), (Part::Bandwidth, 1_000)];
    MeshRule {
        peers: [(PeerKind::Normal, counts)].into(),
        weights: [(ChannelClass::VpnPackets, weights.into())].into(),
    }
}

pub(crate) fn path_change() -> PathChange {
    PathChange {
        egress: EGRESS,
        organization: ACME,
        lane: Lane::Bulk,
        carrier: PathCarrier::Tcp,
        from: Some(PathKind::Relayed),
        to: Some(PathKind::Direct),
        left_out: 3,
    }
}

pub(crate) fn authority_change() -> AuthorityChange {
    AuthorityChange {
        standing: AuthorityStanding::Isolated,
        epoch: 1,
        sequence: 42,
        without_ms: 300_000,
        restarted: true,
        left_out: 3,
    }
}

pub(crate) const fn carrier_rules() -> CarrierRules {
    CarrierRules { interactive: None, media: None, bulk: Some(CarrierRule::TcpOnly) }
}

pub(crate) fn bandwidth_rule() -> BandwidthRule {
    let traffic = Traffic {
        connection: Some(CONNECTION),
        resource: Some(SSH),
        kind: Some(ResourceKind::Ssh),
        user: Some(ALICE),
        lane: Some(Lane::Bulk),
        each: Some(Each::Session),
        while_interactive: true,
    };
    BandwidthRule { traffic, allowance: Allowance { reserved: None, ..allowance() } }
}

pub(crate) fn seen(node: NodeId, sequence: u64) -> Seen {
    Seen { node, sequence, at: after(MINUTE_MS) }
}

pub(crate) fn bootstrapped() -> ClusterBootstrapped {
    ClusterBootstrapped {
        cluster: CLUSTER,
        ca_certificate: ByteBuf::from([0x30, 0x82]),
        control_keys: vec![key(1)],
        setup_code: secret("setup"),
    }
}

pub(crate) fn join_token_created() -> JoinTokenCreated {
    let Offer { organization, roles, pools, auto_approve } = offer();
    JoinTokenCreated {
        secret: secret("join"),
        roles,
        pools,
        organization,
        host_name: Some(name("egress-1")),
        expires_at: after(60 * MINUTE_MS),
        auto_approve,
    }
}

pub(crate) fn node_requested() -> NodeRequested {
    NodeRequested {
        name: name("egress-1"),
        key: key(2),
        addresses: vec!["192.0.2.7:4433".parse().unwrap(), "[2001:db8::7]:4433".parse().unwrap()],
        capabilities: [Capability::RouteMesh, Capability::EgressPrivateNetwork].into(),
        bus_key: "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4".to_owned(),
        agent_version: "0.1.0".to_owned(),
        join_token: TOKEN,
        offer: offer(),
    }
}

pub(crate) fn certificate(renewal: u64) -> CertificateIssued {
    let expires_at = after(24 * 60 * MINUTE_MS);
    CertificateIssued { renewal, serial: [7; 16], issued_at: NOW, expires_at }
}

pub(crate) fn resource_created() -> ResourceCreated {
    ResourceCreated {
        organization: ACME,
        name: name("demo-ssh"),
        kind: ResourceKind::Ssh,
        target: target(),
        pool: POOL,
    }
}

pub(crate) fn session_requested() -> SessionRequested {
    SessionRequested {
        organization: ACME,
        user: ALICE,
        asked: "demo-ssh".to_owned(),
        resource: Some(SSH),
        client_key: key(3),
    }
}

pub(crate) fn session_authorized() -> SessionAuthorized {
    SessionAuthorized {
        resource: SSH,
        kind: ResourceKind::Ssh,
        attachment: AttachmentId::from_u128(21),
        grant: grant(),
        basis: basis(),
    }
}

/// One event of every type, in the order of the catalogue.
pub(crate) fn every_event() -> Vec<DomainEvent> {
    let later = [leases(), guesses(), authority()].concat();
    [cluster(), people(), nodes(), reports(), things(), sessions(), later].concat()
}

pub(crate) fn authority_stated() -> AuthorityStated {
    let statement = EpochStatement {
        cluster: CLUSTER,
        epoch: 1,
        revision: 1,
        replicas: vec![key(1), key(2), key(3)],
        threshold: 2,
        previous: Some(Digest::of(b"the statement before")),
    };
    AuthorityStated { statement, signed: b"signed".to_vec().into() }
}

fn authority() -> Vec<DomainEvent> {
    vec![
        AuthorityEvent::from(authority_stated()).into(),
        AuthorityEvent::from(LossAccepted { timeline: 2 }).into(),
    ]
}

fn guesses() -> Vec<DomainEvent> {
    let accounts = [(ALICE, 5), (BOB, 300)].into();
    let noticed: GuessingEvent = GuessingNoticed { accounts, unnamed: 7, noticed_at: NOW }.into();
    vec![noticed.into()]
}

fn cluster() -> Vec<DomainEvent> {
    let cluster: [ClusterEvent; 9] = [
        bootstrapped().into(),
        SetupCodeReplaced { setup_code: secret("another setup") }.into(),
        SetupCompleted { owner: ALICE }.into(),
        ControlKeyAdded { key: key(4) }.into(),
        SnapshotsRenewed {}.into(),
        ClusterCarriersRuled { carriers: carrier_rules() }.into(),
        PathsRuled { rule: path_rule() }.into(),
        MeshRuled { rule: mesh_rule() }.into(),
        StaleRuled { policy: StalePolicy::Stop }.into(),
    ];
    let organization: [OrganizationEvent; 9] = [
        OrganizationCreated { organization: ACME, name: name("acme") }.into(),
        OrganizationRenamed { name: name("acme-ltd") }.into(),
        OrganizationSuspended { reason: "unpaid".to_owned() }.into(),
        OrganizationResumed {}.into(),
        OrganizationRemoved {}.into(),
        OrganizationQuotasSet { quotas: quotas() }.into(),
        OrganizationBandwidthGranted { granted: allowance() }.into(),
        OrganizationBandwidthRuled { rules: vec![bandwidth_rule()] }.into(),
        OrganizationCarriersRuled { carriers: carrier_rules() }.into(),
    ];
    cluster.into_iter().map(Into::into).chain(organization.into_iter().map(Into::into)).collect()
}

/// As if it were sealed.
pub(crate) fn sealed(text: &str) -> Personal<String> {
    Personal::Sealed(ByteBuf::from(text.as_bytes().to_vec()))
}

fn people() -> Vec<DomainEvent> {
    let role = OrganizationRole::Admin;
    let expires_at = after(MINUTE_MS);
    let user: [UserEvent; 9] = [
        UserCreated { name: name("alice"), display_name: sealed("Alice Ä.") }.into(),
        UserInvited { secret: secret("invite"), expires_at }.into(),
        PasswordChanged { verifier: verifier(), by_invitation: true }.into(),
        PlatformRoleGranted { role: PlatformRole::Owner }.into(),
        PlatformRoleRevoked { role: PlatformRole::Owner }.into(),
        UserDisabled { reason: "left".to_owned() }.into(),
        UserEnabled {}.into(),
        UserAccessRefused { action: RefusedAction::RequestSession, refused_at: NOW }.into(),
        UserErased {}.into(),
    ];
    let membership: [MembershipEvent; 3] = [
        MembershipGranted { organization: ACME, user: ALICE, role }.into(),
        MembershipChanged { organization: ACME, user: ALICE, role }.into(),
        MembershipRevoked { organization: ACME, user: ALICE }.into(),
    ];
    let device = sealed("Alice's laptop");
    let login: [LoginEvent; 2] = [
        LoginOpened { user: ALICE, secret: secret("login"), expires_at, device }.into(),
        LoginClosed { reason: LoginCloseReason::SignedOut }.into(),
    ];
    let api_token: [ApiTokenEvent; 2] = [
        ApiTokenCreated {
            user: ALICE,
            secret: secret("api"),
            label: sealed("Alice's backup"),
            scopes: [ApiScope::Read, ApiScope::Audit].into(),
            organization: Some(ACME),
            expires_at,
        }
        .into(),
        ApiTokenRevoked {}.into(),
    ];
    let user = user.into_iter().map(DomainEvent::from);
    user.chain(membership.into_iter().map(Into::into))
        .chain(login.into_iter().map(Into::into))
        .chain(api_token.into_iter().map(Into::into))
        .collect()
}

fn nodes() -> Vec<DomainEvent> {
    let join_token: [JoinTokenEvent; 4] = [
        join_token_created().into(),
        JoinTokenUsed { node: EGRESS }.into(),
        JoinTokenRevoked {}.into(),
        JoinTokenUseRefused { reason: UseRefusal::Used, name: name("egress-2") }.into(),
    ];
    let node: [NodeEvent; 14] = [
        node_requested().into(),
        NodeApproved { automatic: true }.into(),
        NodeRejected { reason: "unknown host".to_owned() }.into(),
        certificate(1).into(),
        RolesAssigned { roles: offer().roles }.into(),
        PoolsAssigned { pools: [POOL].into() }.into(),
        CapabilitiesReported {
            capabilities: [Capability::RouteMesh].into(),
            agent_version: "0.1.1".to_owned(),
        }
        .into(),
        AddressesChanged { addresses: vec!["192.0.2.8:4433".parse().unwrap()] }.into(),
        DrainingStarted {}.into(),
        DrainingEnded {}.into(),
        NodeRevoked { reason: RevocationReason::IdentityCopied, note: "twice".to_owned() }.into(),
        WitnessKeyRecorded { key: [7; 32] }.into(),
        NodeBandwidthCapped { cap: Some(rate("1gbit")) }.into(),
        NodePlaced { region: Some(name("eu-west")), preference: Preference::Avoided }.into(),
    ];
    join_token.into_iter().map(Into::into).chain(node.into_iter().map(Into::into)).collect()
}

fn reports() -> Vec<DomainEvent> {
    let (organization, sequence, observed_at) = (Some(ACME), 17, after(MINUTE_MS));
    let report: [NodeReportEvent; 6] = [
        UnclaimedAccessRefused {
            organization,
            sequence,
            observed_at,
            code: RefusalCode::ChannelNotServed,
        }
        .into(),
        SnapshotRefused {
            organization,
            sequence,
            observed_at,
            version: 41,
            code: SnapshotRefusal::Rollback,
        }
        .into(),
        LogRefused {
            organization,
            sequence,
            observed_at,
            size: 40,
            known: 41,
            code: LogRefusal::Shorter,
        }
        .into(),
        WorkerExited {
            organization,
            sequence,
            observed_at,
            kind: "stream".to_owned(),
            sessions: 2,
        }
        .into(),
        PathChanged { sequence, observed_at, change: path_change() }.into(),
        AuthorityChanged { sequence, observed_at, change: authority_change() }.into(),
    ];
    report.into_iter().map(Into::into).collect()
}

fn things() -> Vec<DomainEvent> {
    let pool: [PoolEvent; 2] =
        [PoolCreated { organization: ACME, name: name("office") }.into(), PoolRemoved {}.into()];
    let resource: [ResourceEvent; 5] = [
        resource_created().into(),
        ResourceChanged { kind: ResourceKind::Tcp, target: target(), pool: POOL }.into(),
        ResourceRemoved {}.into(),
        ResourceLabelled { labels: [(name("env"), name("prod"))].into() }.into(),
        ResourceCarried { connection: Some(CONNECTION) }.into(),
    ];
    let policy: [PolicyEvent; 5] = [
        PolicyCreated { organization: ACME, name: name("admins"), spec: spec() }.into(),
        PolicyChanged { spec: spec() }.into(),
        PolicyRemoved {}.into(),
        PolicyWritten { organization: ACME, name: name("rules"), document: document() }.into(),
        PolicyRewritten { document: document() }.into(),
    ];
    let pool = pool.into_iter().map(DomainEvent::from);
    pool.chain(resource.into_iter().map(Into::into))
        .chain(policy.into_iter().map(Into::into))
        .collect()
}

fn sessions() -> Vec<DomainEvent> {
    let code = RefusalCode::ChannelNotServed;
    let session: [SessionEvent; 8] = [
        session_requested().into(),
        SessionDenied {
            code: RefusalCode::AccessDenied,
            reason: "no policy".to_owned(),
            basis: Basis { rules: [].into(), ..basis() },
        }
        .into(),
        session_authorized().into(),
        SessionRefreshed { grant: grant(), basis: basis() }.into(),
        SessionStarted { seen: seen(ENTRY, 1), from: Some(Vantage::Entry) }.into(),
        SessionAccessRefused { seen: seen(ENTRY, 2), code }.into(),
        SessionTerminated { cause: TerminationCause::AccessWithdrawn }.into(),
        SessionEnded {
            reason: EndReason::ClientClosed,
            bytes_up: 300,
            bytes_down: 70_000,
            seen: Some(seen(ENTRY, 3)),
        }
        .into(),
    ];
    session.into_iter().map(Into::into).collect()
}

pub(crate) fn vpn_connection_created() -> VpnConnectionCreated {
    VpnConnectionCreated {
        organization: ACME,
        name: name("office"),
        class: LeaseClass::Fast,
        nodes: [EGRESS].into(),
        enabled: true,
    }
}

pub(crate) fn lease_granted(generation: u64, from_ms: i64) -> LeaseGranted {
    let (granted_at, valid_until) = (after(from_ms), after(from_ms + 4_000));
    LeaseGranted { node: EGRESS, generation, granted_at, valid_until }
}

pub(crate) fn leadership_granted(generation: u64, from_ms: i64) -> LeadershipGranted {
    LeadershipGranted {
        duty: Duty::Processes,
        replica: REPLICA,
        generation,
        granted_at: after(from_ms),
        valid_until: after(from_ms + 4_000),
    }
}

fn leases() -> Vec<DomainEvent> {
    let connection: [VpnConnectionEvent; 9] = [
        vpn_connection_created().into(),
        NodesAllowed { nodes: [ENTRY, EGRESS].into() }.into(),
        VpnConnectionEnabled {}.into(),
        VpnConnectionDisabled {}.into(),
        lease_granted(7, 0).into(),
        LeaseReleased { generation: 7, reason: ReleaseReason::Drained, released_at: NOW }.into(),
        LeaseFenced { generation: 7, reason: FenceReason::Expired, valid_until: after(4_000) }
            .into(),
        DrainRequested { generation: 7 }.into(),
        VpnConnectionRemoved {}.into(),
    ];
    let leadership: [LeadershipEvent; 2] = [
        leadership_granted(3, 0).into(),
        LeadershipReleased { generation: 3, reason: LeadershipEnd::Resigned, released_at: NOW }
            .into(),
    ];
    let connection = connection.into_iter().map(DomainEvent::from);
    connection.chain(leadership.into_iter().map(Into::into)).collect()
}
