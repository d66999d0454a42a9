//! Frozen bytes of what a node and a control plane of another release say to each other, beside
//! what `golden` has: enrollment, snapshots as they are sent, refusals, and every word of a list.

use std::{fmt::Display, fs, path::PathBuf};

use rap_proto::{
    Capability, ChannelKind, ClusterId, Lane, LeaseClass, NodeId, NodeRole, OrganizationId,
    Preference, ResourceKind, Signer as _,
    authority::{AuthorityChange, AuthorityStanding},
    bus::{ControlBody, NodeBody},
    carriers::CarrierRule,
    mesh::{ChannelClass, Part, PeerKind},
    observation::{EndReason, LogRefusal, Observation, SnapshotRefusal, Spooled, Vantage},
    paths::{DirectPaths, PathCarrier, PathChange, PathKind},
    refusal::RefusalCode,
    snapshot::{Bundle, StalePolicy},
    wire::node_api::{
        BusCredentials, Credentials, EnrollReply, NodeApiCode, NodeApiRefusal, PollRequest,
        RenewRequest,
    },
};
use serde_bytes::ByteBuf;

use crate::{
    fixtures::{NOW, key},
    golden::check,
};

const NODE: NodeId = NodeId::from_u128(8);

#[test]
fn enrollment() {
    assert_eq!(
        PollRequest::message(NODE, NOW),
        b"rap enroll poll v1 00000000-0000-0000-0000-000000000008 2026-09-21T14:13:20Z"
    );
    let signature = key(7).sign(&PollRequest::message(NODE, NOW));
    check("poll_request.v1", &PollRequest { node: NODE, at: NOW, signature });
    check(
        "renew_request.v1",
        &RenewRequest {
            csr: b"csr".to_vec(),
            renewal: 3,
            addresses: vec!["[2001:db8::1]:4433".parse().unwrap()],
        },
    );
    let credentials = |authorities| Credentials {
        cluster: ClusterId::from_u128(2),
        node: NODE,
        renewal: 0,
        certificates: vec![ByteBuf::from(b"leaf".to_vec()), ByteBuf::from(b"ca".to_vec())],
        expires_at: NOW,
        control_keys: vec![key(1).public_key()],
        bus: Some(BusCredentials {
            servers: vec!["tls://bus.example:4222".to_owned()],
            jwt: "a.b.c".to_owned(),
            authorities,
        }),
    };
    let enrolled = |authorities| EnrollReply::Enrolled(Box::new(credentials(authorities)));
    // As it was before servers of the bus could have an authority of their own, and as it is then.
    check("enroll_enrolled.v1", &enrolled(Vec::new()));
    check("enroll_enrolled.v2", &enrolled(vec![ByteBuf::from(b"authority".to_vec())]));
    check("enroll_rejected.v1", &EnrollReply::Rejected);
}

#[test]
fn answers_of_the_node_api() {
    let sections = vec![ByteBuf::from(b"assignment".to_vec()), ByteBuf::from(b"trust".to_vec())];
    check("bundle.v1", &Bundle { manifest: b"an envelope".to_vec(), sections });
    let message = "there is no such node".to_owned();
    check("stale_policy_stop.v1", &StalePolicy::Stop);
    check("node_refused.v1", &NodeApiRefusal { code: NodeApiCode::UnknownNode, message });
}

#[test]
fn words_over_the_bus() {
    check("control_snapshot_available.v1", &ControlBody::SnapshotAvailable { version: 42 });
    let seen = [
        Observation::AccessRefused { code: RefusalCode::TokenUntrusted, claimed: None },
        Observation::SnapshotRefused { version: 42, code: SnapshotRefusal::Rollback },
        Observation::LogRefused { size: 7, known: 9, code: LogRefusal::Shorter },
        Observation::WorkerExited { kind: "stream".to_owned(), sessions: 2 },
    ];
    let spooled = |(sequence, observation)| Spooled { sequence, at: NOW, observation };
    let refusals = NodeBody::Observations((1..).zip(seen).map(spooled).collect());
    check("node_observations_refusals.v1", &refusals);
    let change = PathChange {
        egress: NodeId::from_u128(9),
        organization: OrganizationId::from_u128(3),
        lane: Lane::Bulk,
        carrier: PathCarrier::Tcp,
        from: Some(PathKind::Relayed),
        to: Some(PathKind::Direct),
        left_out: 3,
    };
    let ended = PathChange { from: change.to, to: None, left_out: 0, ..change };
    let changes = [change, ended].map(|change| Observation::PathChanged { change });
    let changes = NodeBody::Observations((1..).zip(changes).map(spooled).collect());
    check("node_observations_paths.v1", &changes);
    let (standing, without_ms) = (AuthorityStanding::Isolated, 300_000);
    let change = AuthorityChange {
        standing,
        epoch: 1,
        sequence: 42,
        without_ms,
        restarted: true,
        left_out: 3,
    };
    let ended = AuthorityChange {
        standing: AuthorityStanding::Healthy,
        restarted: false,
        left_out: 0,
        ..change
    };
    let changes = [change, ended].map(|change| Observation::AuthorityChanged { change });
    let changes = NodeBody::Observations((1..).zip(changes).map(spooled).collect());
    check("node_observations_authority.v1", &changes);
}

/// A word that is taken away or spelled in another way is one that the other release still says.
#[test]
fn every_word_of_a_list() {
    fn line(name: &str, words: &[impl Display]) -> String {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        format!("{name}: {}\n", words.join(" "))
    }
    let actual = [
        line("authority standing", AuthorityStanding::ALL),
        line("capability", Capability::ALL),
        line("carrier rule", CarrierRule::ALL),
        line("channel", ChannelKind::ALL),
        line("channel class", ChannelClass::ALL),
        line("direct paths", DirectPaths::ALL),
        line("end of a session", EndReason::ALL),
        line("kind of node", PeerKind::ALL),
        line("lane", Lane::ALL),
        line("lease class", LeaseClass::ALL),
        line("log refusal", LogRefusal::ALL),
        line("node API refusal", NodeApiCode::ALL),
        line("node role", NodeRole::ALL),
        line("part of a score", Part::ALL),
        line("path carrier", PathCarrier::ALL),
        line("path kind", PathKind::ALL),
        line("preference", Preference::ALL),
        line("refusal", RefusalCode::ALL),
        line("resource kind", ResourceKind::ALL),
        line("snapshot refusal", SnapshotRefusal::ALL),
        line("stale policy", StalePolicy::ALL),
        line("vantage", Vantage::ALL),
    ]
    .concat();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/words.v1.txt");
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(&path).unwrap_or_default());
}
