//! Replay equals live: whatever commands come, the state that was kept is the state that the
//! stored bytes fold to, and the bytes are what the newest codec would write.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use rap_proto::{
    ApiScope, Capability, CommandId, Digest, Duty, LeaseClass, NodeId, NodeRole, OrganizationRole,
    PlatformRole, PoolId, RefusalCode, ResourceKind, Timestamp,
    authority::{AuthorityChange, AuthorityStanding},
    observation::{EndReason, LogRefusal, SnapshotRefusal, Vantage},
    snapshot::Target,
};
use uuid::Uuid;

use super::{executor::block_on, given::NOW, samples::*};
use crate::{
    Aggregate, EventCodec, Log, MemoryLog,
    api_token::*,
    cluster::*,
    guessing::*,
    handler::{Loaded, Request, Unit, fold},
    join_token::*,
    leadership::*,
    log::Actor,
    login::*,
    membership::*,
    node::*,
    node_report::*,
    organization::*,
    policy::*,
    pool::*,
    resource::*,
    session::*,
    user::*,
    vpn_connection::*,
};

/// One step: which command, which of its few arguments, and how much later it comes.
type Step = (u8, u8, u16);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((any::<u8>(), any::<u8>(), any::<u16>()), 1..40)
}

/// Runs the commands and returns how many were accepted and how many rejected.
fn check<A: Aggregate>(
    steps: &[Step],
    command: impl Fn(u8, u8, Timestamp) -> A::Command,
) -> (usize, usize) {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new());
    let id = Uuid::from_u128(77);
    let mut live = Loaded::<A>::empty(id);
    let mut at = NOW;
    let (mut accepted, mut rejected) = (0, 0);
    for (number, (kind, argument, later)) in (1..).zip(steps) {
        at = at + std::time::Duration::from_secs(u64::from(*later) / 64);
        let request = Request {
            command: CommandId::from_u128(number),
            request_hash: Digest::default(),
            actor: Actor::Setup,
            causation: None,
            at,
        };
        let command = command(*kind, *argument, at);
        let mut unit = Unit::new(Arc::clone(&log), at);
        let mut decided = block_on(unit.load_from(live.clone())).unwrap();
        match unit.decide(&mut decided, command) {
            Ok(_) => {
                block_on(unit.commit(&request, Bytes::new())).unwrap();
                live = decided;
                accepted += 1;
            }
            Err(_) => rejected += 1,
        }
    }
    assert_eq!(block_on(fold(log.as_ref(), Loaded::<A>::empty(id))).as_ref(), Ok(&live));
    for stored in block_on(log.read(0, usize::MAX)).unwrap() {
        let event = A::Event::from_envelope(&stored).unwrap();
        assert_eq!(event.encode(), stored.payload, "{event:?}");
        assert_eq!(event.kind().event_type, stored.event_type);
    }
    (accepted, rejected)
}

macro_rules! replay_equals_live {
    ($($test:ident: $aggregate:ty = $command:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]
            $(
                #[test]
                fn $test(steps in steps()) {
                    check::<$aggregate>(&steps, $command);
                }
            )*
        }

        /// A property over commands that are all rejected would prove nothing.
        #[test]
        fn the_commands_are_accepted_and_rejected() {
            $({
                let steps: Vec<Step> = (0..=255).map(|n: u8| (n, n.wrapping_mul(37), 640)).collect();
                let (accepted, rejected) = check::<$aggregate>(&steps, $command);
                assert!(accepted > 0 && rejected > 0, stringify!($test));
            })*
        }
    };
}

replay_equals_live! {
    cluster: Cluster = cluster_command;
    organization: Organization = organization_command;
    user: User = user_command;
    membership: Membership = membership_command;
    login: Login = login_command;
    api_token: ApiToken = api_token_command;
    join_token: JoinToken = join_token_command;
    node: Node = node_command;
    node_report: NodeReport = node_report_command;
    pool: Pool = pool_command;
    resource: Resource = resource_command;
    policy: Policy = policy_command;
    session: Session = session_command;
    vpn_connection: VpnConnection = vpn_connection_command;
    leadership: Leadership = leadership_command;
    guessing: Guessing = guessing_command;
}

fn pick<T: Copy>(from: &[T], argument: u8) -> T {
    from[usize::from(argument) % from.len()]
}

fn text(argument: u8) -> String {
    pick(&["", "a reason", "line\nbreak"], argument).to_owned()
}

fn later(now: Timestamp, argument: u8) -> Timestamp {
    let minutes = pick(&[0, 1, 30, 60 * 24, 60 * 24 * 400], argument);
    now + std::time::Duration::from_secs(60 * minutes)
}

fn cluster_command(kind: u8, argument: u8, _: Timestamp) -> ClusterCommand {
    match kind % 6 {
        0 => ClusterCommand::Bootstrap {
            cluster: CLUSTER,
            ca_certificate: vec![0x30; usize::from(argument % 3)],
            control_keys: (1..=argument % 10).map(|seed| key(seed + 1)).collect(),
            setup_code: secret("setup"),
        },
        1 => ClusterCommand::ReplaceSetupCode { setup_code: secret(&text(argument)) },
        2 => ClusterCommand::CompleteSetup { presented: secret(&text(argument)), owner: ALICE },
        3 => ClusterCommand::AddControlKey { key: key(argument % 12 + 1) },
        4 => ClusterCommand::CompleteSetup { presented: secret("setup"), owner: BOB },
        _ => ClusterCommand::RenewSnapshots,
    }
}

fn organization_command(kind: u8, argument: u8, _: Timestamp) -> OrganizationCommand {
    match kind % 8 {
        0 | 1 => OrganizationCommand::Create { organization: ACME, name: name("acme") },
        2 | 3 => OrganizationCommand::Rename { name: name(pick(&["acme", "ltd"], argument)) },
        4 => OrganizationCommand::Suspend { reason: text(argument) },
        5 | 6 => OrganizationCommand::Resume,
        _ => OrganizationCommand::Remove,
    }
}

fn user_command(kind: u8, argument: u8, now: Timestamp) -> UserCommand {
    let role = pick(PlatformRole::ALL, argument);
    match kind % 10 {
        9 => UserCommand::Erase,
        0 => UserCommand::Create { name: name("alice"), display_name: sealed(&text(argument)) },
        1 => UserCommand::Invite { secret: secret("invite"), expires_at: later(now, argument) },
        2 => UserCommand::AcceptInvitation { presented: secret("invite"), verifier: verifier() },
        3 => UserCommand::ChangePassword {
            verifier: if argument.is_multiple_of(2) { verifier() } else { text(argument).into() },
        },
        4 => UserCommand::GrantPlatformRole { role },
        5 => UserCommand::RevokePlatformRole { role },
        6 => UserCommand::Disable { reason: text(argument) },
        7 => UserCommand::Enable,
        _ => UserCommand::RecordAccessRefused {
            action: pick(&[RefusedAction::RequestSession, RefusedAction::RefreshSession], argument),
        },
    }
}

fn membership_command(kind: u8, argument: u8, _: Timestamp) -> MembershipCommand {
    let role = pick(OrganizationRole::ALL, argument);
    match kind % 3 {
        0 => {
            let user = if argument > 200 { BOB } else { ALICE };
            MembershipCommand::Grant { organization: ACME, user, role }
        }
        1 => MembershipCommand::Change { role },
        _ => MembershipCommand::Revoke,
    }
}

fn login_command(kind: u8, argument: u8, now: Timestamp) -> LoginCommand {
    match kind % 2 {
        0 => LoginCommand::Open {
            user: ALICE,
            secret: secret("login"),
            expires_at: later(now, argument),
            device: sealed(&text(argument)),
        },
        _ => LoginCommand::Close { reason: LoginCloseReason::SignedOut },
    }
}

fn api_token_command(kind: u8, argument: u8, now: Timestamp) -> ApiTokenCommand {
    match kind % 2 {
        0 => ApiTokenCommand::Create {
            user: ALICE,
            secret: secret("api"),
            label: sealed(&text(argument / 8)),
            scopes: ApiScope::ALL.iter().copied().take(usize::from(argument % 4)).collect(),
            organization: argument.is_multiple_of(2).then_some(ACME),
            expires_at: later(now, argument),
        },
        _ => ApiTokenCommand::Revoke,
    }
}

fn join_token_command(kind: u8, argument: u8, now: Timestamp) -> JoinTokenCommand {
    match kind % 4 {
        0 => JoinTokenCommand::Create {
            secret: secret("join"),
            roles: vec![role(NodeRole::EntryNode, &[ACME]), role(NodeRole::StreamWorker, &[ACME])],
            pools: [POOL].into(),
            organization: argument.is_multiple_of(2).then_some(if argument > 128 {
                GLOBEX
            } else {
                ACME
            }),
            host_name: argument.is_multiple_of(3).then(|| name("egress-1")),
            expires_at: later(now, argument),
            auto_approve: argument.is_multiple_of(2),
        },
        1 | 2 => JoinTokenCommand::Use {
            presented: secret(pick(&["join", "other"], argument / 64)),
            node: EGRESS,
            name: name(pick(&["egress-1", "egress-2"], argument)),
        },
        3 => JoinTokenCommand::RecordRefusal {
            presented: secret(pick(&["join", "other"], argument / 64)),
            name: name(pick(&["egress-1", "egress-2"], argument)),
            key_enrolled: argument.is_multiple_of(3),
        },
        _ => JoinTokenCommand::Revoke,
    }
}

fn node_command(kind: u8, argument: u8, now: Timestamp) -> NodeCommand {
    match kind % 16 {
        0..=2 => {
            let requested = node_requested();
            NodeCommand::Request {
                name: requested.name,
                key: requested.key,
                addresses: requested.addresses,
                capabilities: requested.capabilities,
                bus_key: text(argument),
                agent_version: requested.agent_version,
                join_token: TOKEN,
                offer: Offer { auto_approve: argument.is_multiple_of(2), ..offer() },
            }
        }
        3 => NodeCommand::Approve,
        4 if argument > 220 => NodeCommand::Reject { reason: text(argument) },
        5 if argument > 240 => NodeCommand::Revoke { note: text(argument) },
        4..=6 => NodeCommand::IssueCertificate {
            serial: [argument; 16],
            expires_at: later(now, argument),
        },
        7..=9 => NodeCommand::RenewCertificate {
            renewal: u64::from(argument % 4),
            serial: [argument; 16],
            expires_at: later(now, argument),
        },
        10 => NodeCommand::AssignRoles {
            roles: vec![role(
                pick(NodeRole::ALL, argument),
                &[pick(&[ACME, GLOBEX], argument / 128)],
            )],
        },
        11 => {
            let pools: BTreeSet<_> = (0..argument).map(|n| PoolId::from_u128(n.into())).collect();
            NodeCommand::AssignPools { pools }
        }
        12 => NodeCommand::ReportCapabilities {
            capabilities: [pick(Capability::ALL, argument)].into(),
            agent_version: text(argument),
        },
        13 => NodeCommand::ChangeAddresses {
            addresses: vec!["192.0.2.1:4433".parse().unwrap(); usize::from(argument % 10)],
        },
        14 => NodeCommand::StartDraining,
        _ => NodeCommand::EndDraining,
    }
}

fn node_report_command(kind: u8, argument: u8, now: Timestamp) -> NodeReportCommand {
    let report = match kind % 7 {
        0 => Report::AccessRefused { code: pick(RefusalCode::ALL, argument) },
        1 => Report::SnapshotRefused {
            version: argument.into(),
            code: pick(SnapshotRefusal::ALL, argument),
        },
        2 => Report::WorkerExited { kind: text(argument), sessions: argument.into() },
        3 => Report::PathChanged { change: path_change() },
        4 => {
            let standing = pick(AuthorityStanding::ALL, argument);
            let sequence = u64::from(argument / 16);
            let change = AuthorityChange { standing, sequence, ..authority_change() };
            Report::AuthorityChanged { change }
        }
        _ => Report::LogRefused {
            size: argument.into(),
            known: u64::from(argument) + 1,
            code: pick(LogRefusal::ALL, argument),
        },
    };
    let sequence = u64::from(argument);
    NodeReportCommand::Record { organization: Some(ACME), sequence, observed_at: now, report }
}

fn guessing_command(kind: u8, argument: u8, _: Timestamp) -> GuessingCommand {
    let accounts = [(ALICE, u32::from(argument % 3)), (BOB, u32::from(kind % 2))].into();
    GuessingCommand::Notice { accounts, unnamed: u32::from(argument % 4) }
}

fn pool_command(kind: u8, _: u8, _: Timestamp) -> PoolCommand {
    match kind % 2 {
        0 => PoolCommand::Create { organization: ACME, name: name("office") },
        _ => PoolCommand::Remove,
    }
}

fn resource_command(kind: u8, argument: u8, _: Timestamp) -> ResourceCommand {
    let kinds = pick(ResourceKind::ALL, argument);
    let target = Target {
        host: pick(&["office.example", "192.0.2.1", "no host", "::1"], argument).to_owned(),
        port: u16::from(argument),
        allow_local: argument.is_multiple_of(2),
    };
    match kind % 7 {
        6 => {
            ResourceCommand::Carry { connection: argument.is_multiple_of(2).then_some(CONNECTION) }
        }
        5 => ResourceCommand::Label { labels: [(name("env"), name("prod"))].into() },
        0 => ResourceCommand::Create {
            organization: ACME,
            name: name("demo-ssh"),
            kind: kinds,
            target,
            pool: POOL,
        },
        1..=3 => ResourceCommand::Change { kind: kinds, target, pool: POOL },
        _ if argument > 200 => ResourceCommand::Remove,
        _ => ResourceCommand::Change { kind: kinds, target, pool: POOL },
    }
}

fn policy_command(kind: u8, argument: u8, _: Timestamp) -> PolicyCommand {
    let spec = match argument % 4 {
        0 => spec(),
        1 => PolicySpec { users: [BOB].into(), ..spec() },
        2 => PolicySpec { users: [].into(), roles: [].into(), ..spec() },
        _ => PolicySpec { resources: [].into(), kinds: [].into(), ..spec() },
    };
    let tests = if argument > 200 { Vec::new() } else { document().tests };
    let document = PolicyDocument { text: text(argument), tests };
    match kind % 6 {
        0 => PolicyCommand::Create { organization: ACME, name: name("admins"), spec },
        1 | 2 => PolicyCommand::Change { spec },
        3 => PolicyCommand::Write { organization: ACME, name: name("admins"), document },
        4 => PolicyCommand::Rewrite { document },
        _ => PolicyCommand::Remove,
    }
}

fn session_command(kind: u8, argument: u8, now: Timestamp) -> SessionCommand {
    let grant = Grant {
        connect_by: now + std::time::Duration::from_secs(120),
        expires_at: now + std::time::Duration::from_secs(u64::from(argument) * 4),
        ..grant()
    };
    let node = pick(&[ENTRY, EGRESS, rap_proto::NodeId::from_u128(99)], argument);
    let seen = Seen { node, sequence: u64::from(argument), at: now };
    match kind % 10 {
        0 | 1 => SessionCommand::Request {
            organization: ACME,
            user: ALICE,
            asked: text(argument),
            resource: None,
            client_key: key(3),
            outcome: if argument > 240 {
                let authorized = session_authorized();
                Outcome::Denied {
                    code: RefusalCode::AccessDenied,
                    reason: text(argument),
                    basis: authorized.basis,
                }
            } else {
                let authorized = session_authorized();
                Outcome::Authorized {
                    resource: SSH,
                    kind: authorized.kind,
                    attachment: authorized.attachment,
                    grant,
                    basis: authorized.basis,
                }
            },
        },
        2 => SessionCommand::Refresh {
            user: pick(&[ALICE, ALICE, BOB], argument),
            client_key: key(3),
            grant,
            basis: session_authorized().basis,
        },
        3 if argument > 200 => {
            SessionCommand::Terminate { cause: TerminationCause::AccessWithdrawn }
        }
        3..=5 => {
            let from = pick(&[Some(Vantage::Entry), Some(Vantage::Egress), None], argument / 3);
            SessionCommand::RecordStarted { seen, from }
        }
        6 => SessionCommand::RecordRefused { seen, code: RefusalCode::TokenExpired },
        7 | 8 => SessionCommand::RecordEnded {
            seen,
            reason: EndReason::ClientLost,
            bytes_up: u64::from(argument),
            bytes_down: 1 << (argument % 64),
        },
        _ => SessionCommand::Conclude,
    }
}

/// A time around `now`: earlier, the same, or later.
pub(crate) fn around(now: Timestamp, argument: u8) -> Timestamp {
    now + std::time::Duration::from_millis(u64::from(argument) * 40)
        - std::time::Duration::from_secs(3)
}

pub(crate) fn vpn_connection_command(
    kind: u8,
    argument: u8,
    now: Timestamp,
) -> VpnConnectionCommand {
    let node = pick(&[ENTRY, EGRESS, NodeId::from_u128(99)], argument);
    let generation = u64::from(argument % 7);
    match kind % 12 {
        0 => VpnConnectionCommand::Create {
            organization: ACME,
            name: name("office"),
            class: pick(&[LeaseClass::Fast, LeaseClass::Steady], argument),
            nodes: (0..u128::from(argument)).map(NodeId::from_u128).collect(),
            enabled: true,
        },
        1 => VpnConnectionCommand::AllowNodes {
            nodes: if argument > 128 { [node].into() } else { BTreeSet::new() },
        },
        2 => VpnConnectionCommand::Enable,
        3 if argument > 200 => VpnConnectionCommand::Disable,
        4 if argument > 250 => VpnConnectionCommand::Remove,
        3..=7 => {
            let granted_at = around(now, argument);
            let valid_until = granted_at + std::time::Duration::from_secs(4);
            VpnConnectionCommand::GrantLease { node, generation, granted_at, valid_until }
        }
        8 => VpnConnectionCommand::ReleaseLease {
            generation,
            reason: ReleaseReason::Drained,
            released_at: around(now, argument),
        },
        9 | 10 => VpnConnectionCommand::FenceLease {
            generation,
            reason: FenceReason::Expired,
            valid_until: around(now, argument),
        },
        _ => VpnConnectionCommand::RequestDrain,
    }
}

fn leadership_command(kind: u8, argument: u8, now: Timestamp) -> LeadershipCommand {
    let generation = u64::from(argument % 7);
    let at = around(now, argument);
    match kind % 3 {
        0 => LeadershipCommand::Release {
            generation,
            reason: LeadershipEnd::Expired,
            released_at: at,
        },
        _ => LeadershipCommand::Grant {
            duty: Duty::Processes,
            replica: REPLICA,
            generation,
            granted_at: at,
            valid_until: at + std::time::Duration::from_secs(4),
        },
    }
}
