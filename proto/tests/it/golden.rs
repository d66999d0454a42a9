//! Frozen bytes: a format that others have stored or speak does not change by accident.
//!
//! `RAP_UPDATE_GOLDEN=1` writes the files anew; the difference then shows in review.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use rap_proto::{
    Capability, ChannelKind, ClusterId, Digest, Generation, IncarnationId, InquiryId, Lane,
    LeaseClass, Leased, NodeId, NodeRole, Preference, ResourceId, ResourceKind, Signer, Timestamp,
    UserId, VpnConnectionId,
    bandwidth::{Allowance, Bandwidth, BandwidthRule, Each, OrganizationBandwidth, Traffic},
    beat::{Beat, EpochStatement, FIRST_AUTHORITY_EPOCH},
    bus::{
        ControlBody, ControlMessage, ExplainedHole, ExplainedLane, ExplainedPeer, Explanation,
        Heartbeat, LeaseReport, MAX_CLASSES, MAX_PARTS, MAX_REPORTED_CONNECTIONS, MAX_TOLD,
        MAX_WORD_BYTES, NodeBody, NodeMessage, ReportedConnection,
    },
    carriers::{CarrierRule, CarrierRules},
    codec,
    mesh::{ChannelClass, Mesh, MeshRule, Part, PeerCounts, PeerKind},
    observation::{Claimed, EndReason, Observation, Spooled, Vantage},
    paths::{DirectPaths, PathRule, Paths},
    refusal::RefusalCode,
    signed::{self, Payload as _, seal},
    snapshot::{
        Assignment, Connection, Connections, Manifest, Peer, Peers, Place, Places, Resource,
        Resources, RoleScope, Section as _, StalePolicy, Target, Trust,
    },
    token::{AccessClaims, ChannelGrant, Proof},
    wire::{hop, node_api},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::fixtures::{NOW, claims, key};

/// Checks that `value` still has its frozen bytes and that those read back as `value`.
pub(crate) fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    name: &str,
    value: &T,
) {
    let bytes = codec::encode(value);
    check_bytes(name, &bytes);
    assert_eq!(codec::decode::<T>(&bytes, bytes.len()).as_ref(), Ok(value), "{name}");
}

pub(crate) fn check_bytes(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.hex"));
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, frozen, "{name} no longer has the bytes of golden/{name}.hex");
}

#[test]
fn tokens_and_signed_envelopes() {
    check("access_claims.v1", &claims());
    let leased =
        Leased { connection: VpnConnectionId::from_u128(5), generation: Generation::new(7) };
    check("access_claims.v2", &AccessClaims { leased: Some(leased), ..claims() });
    let lanes = Lane::ALL.iter().copied().collect();
    let channels = [(ChannelKind::Stream, ChannelGrant { lanes, max_open: 256 })];
    check("access_claims.v3", &AccessClaims { channels: channels.into(), ..claims() });
    check("proof.v1", &Proof::make(b"token", [1; 32], &key(7)));
    // RFC 6979 makes the signature a function of key and message, so it can be frozen too.
    check_bytes("signed_access_token.v1", &seal(&claims(), &[&key(1)]));
}

#[test]
fn snapshots() {
    let scope = RoleScope {
        role: NodeRole::EntryNode,
        organizations: Some([claims().organization].into()),
    };
    check(
        "manifest.v1",
        &Manifest {
            cluster: ClusterId::from_u128(2),
            node: NodeId::from_u128(8),
            authority_epoch: 1,
            version: 42,
            issued_at: NOW,
            expires_at: claims().expires_at,
            stale_policy: StalePolicy::KeepSessions,
            sections: [(Trust::NAME.to_owned(), Digest::of(b"trust"))].into(),
        },
    );
    check(
        "section_assignment.v1",
        &Assignment {
            name: "entry-1".parse().unwrap(),
            draining: false,
            roles: vec![scope.clone()],
            pools: [].into(),
        },
    );
    check(
        "section_trust.v1",
        &Trust {
            authorities: vec![serde_bytes::ByteBuf::from(b"certificate".to_vec())],
            control_keys: vec![key(1).public_key()],
            denied_nodes: [NodeId::from_u128(99)].into(),
            denied_sessions: [claims().session].into(),
        },
    );
    let peer = Peer {
        node: NodeId::from_u128(9),
        key: key(3).public_key().id(),
        roles: vec![scope],
        addresses: vec!["192.0.2.1:4433".parse().unwrap(), "[2001:db8::1]:4433".parse().unwrap()],
    };
    check("section_peers.v1", &Peers { peers: vec![peer] });
    let resource = Resource {
        id: claims().resource,
        organization: claims().organization,
        kind: ResourceKind::Ssh,
        target: Target { host: "build.example".into(), port: 22, allow_local: false },
        users: [claims().user].into(),
        carried: None,
    };
    check("section_resources.v1", &Resources { resources: vec![resource.clone()] });
    let carried = Resource { carried: Some(VpnConnectionId::from_u128(5)), ..resource };
    check("section_resources.v2", &Resources { resources: vec![carried] });
    let connection = Connection {
        id: VpnConnectionId::from_u128(5),
        organization: claims().organization,
        class: LeaseClass::Fast,
        enabled: true,
        granted: Some(Generation::new(7)),
    };
    let other = Connection {
        id: VpnConnectionId::from_u128(6),
        enabled: false,
        granted: None,
        ..connection
    };
    check("section_connections.v1", &Connections { connections: vec![connection, other] });
    check("section_bandwidth.v1", &bandwidth());
    check("section_places.v1", &places());
    check("carrier_rules.v1", &carriers());
}

#[test]
fn what_the_platform_says_of_paths() {
    let rule = PathRule { direct: DirectPaths::Forbidden, audited: true };
    check("section_paths.v1", &Paths { rule });
    let rule = PathRule { direct: DirectPaths::WhenBetter, audited: true };
    check("section_paths.v2", &Paths { rule });
    // As a node reads it that does not know the word.
    #[derive(Deserialize)]
    struct Before {
        rule: PathRule,
    }
    let bytes = codec::encode(&Paths { rule });
    let before: Before = codec::decode(&bytes, bytes.len()).unwrap();
    assert_eq!(before.rule, PathRule { direct: DirectPaths::Allowed, audited: true });
    check("section_mesh.v1", &Mesh::from(&mesh_rule()));
}

#[test]
fn bandwidth_with_what_the_platform_says_of_carriers() {
    check("section_bandwidth.v2", &Bandwidth { carriers: carriers(), ..bandwidth() });
}

fn places() -> Places {
    let place = |region: Option<&str>, preference, draining| Place {
        region: region.map(|name| name.parse().unwrap()),
        preference,
        draining,
    };
    let said = [
        place(Some("eu-west"), Preference::Avoided, true),
        place(Some("eu-west"), Preference::Neutral, false),
        place(None, Preference::Preferred, false),
    ];
    Places { nodes: (9..).map(NodeId::from_u128).zip(said).collect() }
}

#[test]
fn leases() {
    let (connection, generation) = (VpnConnectionId::from_u128(5), Generation::new(7));
    let renewal = node_api::LeaseRenewal { connection, generation, request: 9 };
    let release = node_api::LeaseRelease { connection, generation };
    let request = node_api::LeasesRequest { renewals: vec![renewal], releases: vec![release] };
    check("leases_request.v1", &request);
    let answer = |outcome| node_api::RenewalAnswer { connection, request: 9, outcome };
    let outcomes = [
        node_api::RenewalVerdict::Renewed { generation, remaining_ms: 4_000 },
        node_api::RenewalVerdict::Superseded { generation: generation.next() },
        node_api::RenewalVerdict::Over,
    ];
    let renewals = outcomes.map(answer).to_vec();
    check("leases_reply.v1", &node_api::LeasesReply { renewals, released: vec![release] });
    let reported = ReportedConnection {
        connection,
        ready: true,
        floor: generation,
        holding: Some(generation),
    };
    let report = LeaseReport { draining: false, connections: vec![reported] };
    check("node_leases.v1", &NodeBody::Leases(report));
    let class = LeaseClass::Steady;
    check("lease_offered.v1", &ControlBody::LeaseOffered { connection, generation, class });
    check("release_asked.v1", &ControlBody::ReleaseAsked { connection, generation });
}

/// What a node may say at once fits into one message.
#[test]
fn a_full_lease_report_fits_into_a_message_and_a_full_call_into_a_body() {
    let (connection, generation) =
        (VpnConnectionId::from_u128(u128::MAX), Generation::new(u64::MAX));
    let reported = ReportedConnection {
        connection,
        ready: true,
        floor: generation,
        holding: Some(generation),
    };
    let report =
        LeaseReport { draining: true, connections: vec![reported; MAX_REPORTED_CONNECTIONS] };
    let message = codec::encode(&NodeBody::Leases(report));
    assert!(message.len() + 1_024 < NodeMessage::MAX_BYTES, "{}", message.len());
    let count = node_api::MAX_LEASES_PER_CALL;
    let renewal = node_api::LeaseRenewal { connection, generation, request: u64::MAX };
    let release = node_api::LeaseRelease { connection, generation };
    let request =
        node_api::LeasesRequest { renewals: vec![renewal; count], releases: vec![release; count] };
    assert!(codec::encode(&request).len() < node_api::MAX_BODY_BYTES);
    let outcome = node_api::RenewalVerdict::Renewed { generation, remaining_ms: u64::MAX };
    let answer = node_api::RenewalAnswer { connection, request: u64::MAX, outcome };
    let reply =
        node_api::LeasesReply { renewals: vec![answer; count], released: vec![release; count] };
    assert!(codec::encode(&reply).len() < node_api::MAX_BODY_BYTES);
}

fn carriers() -> CarrierRules {
    let (interactive, bulk) = (Some(CarrierRule::Quic), Some(CarrierRule::TcpOnly));
    CarrierRules { interactive, media: None, bulk }
}

fn bandwidth() -> Bandwidth {
    let rate = |text: &str| Some(text.parse().unwrap());
    let traffic = Traffic {
        connection: Some(VpnConnectionId::from_u128(13)),
        resource: Some(ResourceId::from_u128(9)),
        kind: Some(ResourceKind::Ssh),
        user: Some(UserId::from_u128(4)),
        lane: Some(Lane::Bulk),
        each: Some(Each::Session),
        while_interactive: true,
    };
    let allowance = Allowance { cap: rate("20mbit"), reserved: None };
    let everything = BandwidthRule {
        traffic: Traffic::default(),
        allowance: Allowance { cap: None, reserved: rate("8kbit") },
    };
    let said = OrganizationBandwidth {
        granted: Allowance { cap: rate("100mbit"), reserved: rate("5mbit") },
        rules: vec![BandwidthRule { traffic, allowance }, everything],
        ..OrganizationBandwidth::default()
    };
    let organizations = [(claims().organization, said)].into();
    Bandwidth { node: rate("1gbit"), organizations, ..Bandwidth::default() }
}

#[test]
fn bus_messages_of_a_node() {
    let message = |body| NodeMessage {
        cluster: ClusterId::from_u128(2),
        authority_epoch: 4,
        sender: NodeId::from_u128(8),
        incarnation: IncarnationId::from_u128(1),
        sequence: 3,
        issued_at: NOW,
        expires_at: claims().expires_at,
        body,
    };
    let heartbeat = Heartbeat {
        agent_version: "0.1.0".into(),
        snapshot_version: 42,
        snapshot_digest: None,
        capabilities: [Capability::RouteMesh].into(),
        open_sessions: 1,
        draining: false,
    };
    check_message(
        ["node_heartbeat.v1", "node_heartbeat.v2"],
        message(NodeBody::Heartbeat(heartbeat.clone())),
    );
    // What nodes tell since a replay of the log asks for it; the ones above are still read.
    let heartbeat = Heartbeat { snapshot_digest: Some(Digest::of(b"manifest")), ..heartbeat };
    check("node_heartbeat.v3", &message(NodeBody::Heartbeat(heartbeat)));
    let claimed = Claimed {
        organization: claims().organization,
        user: claims().user,
        session: claims().session,
        resource: claims().resource,
    };
    let session = claims().session;
    let seen = [
        Observation::SessionStarted { session, from: None },
        Observation::SessionEnded {
            session,
            reason: EndReason::WorkerDied,
            bytes_up: 1,
            bytes_down: 2,
        },
        Observation::AccessRefused { code: RefusalCode::TokenExpired, claimed: Some(claimed) },
    ];
    let spooled = |(sequence, observation)| Spooled { sequence, at: NOW, observation };
    let observations = (1..).zip(seen).map(spooled).collect();
    check_message(
        ["node_observations.v1", "node_observations.v2"],
        message(NodeBody::Observations(observations)),
    );
    // What nodes tell since there can be several entries; the one above is still read.
    let seen_from = |(sequence, from)| {
        let observation = Observation::SessionStarted { session, from: Some(from) };
        Spooled { sequence, at: NOW, observation }
    };
    let observations = (1..).zip(Vantage::ALL.iter().copied()).map(seen_from).collect();
    check_message(
        ["node_observations_vantage.v1", "node_observations_vantage.v2"],
        message(NodeBody::Observations(observations)),
    );
    let inquiry = InquiryId::from_u128(6);
    check_unsaid("node_explained.v1", message(NodeBody::Explained(explanation(inquiry))));
    let mut sought = explanation(inquiry);
    sought.lanes[0].hole = Some(hole(str::to_owned));
    check_message(["node_explained.v2", "node_explained.v3"], message(NodeBody::Explained(sought)));
    let weights = [("interactive".to_owned(), [("latency".to_owned(), 26)].into())].into();
    let weighed = Explanation { weights, ..explanation(inquiry) };
    check("node_explained.v4", &message(NodeBody::Explained(weighed)));
}

#[test]
fn bus_messages_to_a_node() {
    let said = |body| ControlMessage {
        cluster: ClusterId::from_u128(2),
        authority_epoch: 4,
        audience: NodeId::from_u128(8),
        incarnation: IncarnationId::from_u128(1),
        sequence: 3,
        issued_at: NOW,
        expires_at: claims().expires_at,
        body,
    };
    check_message(
        ["control_message.v1", "control_message.v2"],
        said(ControlBody::ObservationsRecorded { through: 3 }),
    );
    check("control_beat_available.v1", &ControlBody::BeatAvailable { sequence: 7 });
    let (inquiry, node) = (InquiryId::from_u128(6), NodeId::from_u128(9));
    check_message(
        ["control_explain.v1", "control_explain.v2"],
        said(ControlBody::Explain { inquiry, node }),
    );
}

/// A message of the bus that two releases wrote: the older one without the authority epoch.
trait OfAnEpoch: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug {
    fn of(self, epoch: u64) -> Self;
}

impl OfAnEpoch for NodeMessage {
    fn of(self, authority_epoch: u64) -> Self {
        Self { authority_epoch, ..self }
    }
}

impl OfAnEpoch for ControlMessage {
    fn of(self, authority_epoch: u64) -> Self {
        Self { authority_epoch, ..self }
    }
}

fn check_message<T: OfAnEpoch>([before, now]: [&str; 2], message: T) {
    check(now, &message);
    check_unsaid(before, message);
}

/// The frozen bytes name no epoch and are read as those of the first. Nobody writes them any more.
fn check_unsaid<T: OfAnEpoch>(name: &str, message: T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.hex"));
    let text: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
    let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = text.as_bytes().chunks(2).map(digit).collect();
    assert!(!bytes.windows(15).any(|part| part == b"authority_epoch"), "{name}");
    let read = codec::decode::<T>(&bytes, bytes.len());
    assert_eq!(read, Ok(message.of(FIRST_AUTHORITY_EPOCH)), "{name}");
}

/// What a node of the release before reads of a message: it passes over what it does not know.
#[test]
fn a_reader_that_knows_no_epoch_reads_the_message() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Before {
        cluster: ClusterId,
        audience: NodeId,
        incarnation: IncarnationId,
        sequence: u64,
        issued_at: Timestamp,
        expires_at: Timestamp,
        body: ControlBody,
    }
    let (cluster, audience) = (ClusterId::from_u128(2), NodeId::from_u128(8));
    let (incarnation, sequence) = (IncarnationId::from_u128(1), 3);
    let (issued_at, expires_at) = (NOW, claims().expires_at);
    let body = || ControlBody::SnapshotAvailable { version: 9 };
    let bytes = codec::encode(&ControlMessage {
        cluster,
        authority_epoch: 2,
        audience,
        incarnation,
        sequence,
        issued_at,
        expires_at,
        body: body(),
    });
    let before =
        Before { cluster, audience, incarnation, sequence, issued_at, expires_at, body: body() };
    assert_eq!(codec::decode::<Before>(&bytes, bytes.len()), Ok(before));
}

fn hole(word: impl Fn(&str) -> String) -> ExplainedHole {
    ExplainedHole {
        step: word("given_up"),
        own_nat: word("steady"),
        far_nat: word("symmetric"),
        failure: Some(word("silent")),
    }
}

fn mesh_rule() -> MeshRule {
    let counts = PeerCounts { least: 4, most: 8, warm: 12 };
    let weights = [(Part::Latency, 10), (Part::Bandwidth, 1_000)];
    MeshRule {
        peers: [(PeerKind::Normal, counts)].into(),
        weights: [(ChannelClass::VpnPackets, weights.into())].into(),
    }
}

fn explanation(inquiry: InquiryId) -> Explanation {
    let peer = |number, forwards, score, excluded_by: Option<&str>| ExplainedPeer {
        node: NodeId::from_u128(number),
        class: "active".to_owned(),
        up: true,
        resting: false,
        forwards,
        score,
        excluded_by: excluded_by.map(str::to_owned),
        parts: [("latency".to_owned(), 970), ("reliability".to_owned(), 1_000)].into(),
        rtt_us: Some(1_234),
        failures: 2,
    };
    let lane = ExplainedLane {
        lane: Lane::Interactive,
        relay: Some(NodeId::from_u128(10)),
        onward: vec![NodeId::from_u128(11)],
        rtt_ms: 12,
        last_switch: Some("relay lost".to_owned()),
        hole: None,
    };
    Explanation {
        inquiry,
        peer: Some(peer(9, None, None, Some("placement"))),
        lanes: vec![lane],
        relays: vec![peer(10, Some(true), Some(941), None)],
        weights: BTreeMap::new(),
    }
}

/// What a node may tell at once fits into one message.
#[test]
fn a_full_explanation_fits_into_a_message() {
    let word = |number: usize| format!("{:a>MAX_WORD_BYTES$}", char::from(b'a' + number as u8));
    let mut full = explanation(InquiryId::from_u128(u128::MAX));
    full.lanes[0].onward = vec![NodeId::from_u128(u128::MAX); hop::MAX_HOPS - 1];
    full.lanes[0].hole = Some(hole(|_| word(0)));
    full.lanes = vec![full.lanes[0].clone(); MAX_TOLD];
    full.relays[0].parts = (0..MAX_PARTS).map(|number| (word(number), u16::MAX)).collect();
    full.relays = vec![full.relays[0].clone(); MAX_TOLD];
    let parts = &full.relays[0].parts;
    full.weights = (0..MAX_CLASSES).map(|number| (word(number), parts.clone())).collect();
    assert!(full.is_plain());
    let message = codec::encode(&NodeBody::Explained(full));
    assert!(message.len() + 1_024 < NodeMessage::MAX_BYTES, "{}", message.len());
}

#[test]
fn node_api_bodies() {
    check(
        "enroll_request.v1",
        &node_api::EnrollRequest {
            csr: b"csr".to_vec(),
            binding: [7; 64],
            name: "entry-1".parse().unwrap(),
            addresses: vec!["192.0.2.1:4433".parse().unwrap()],
            capabilities: [Capability::RouteMesh].into(),
            bus_key: "UABC".into(),
            agent_version: "0.1.0".into(),
        },
    );
    let node = NodeId::from_u128(8);
    let cluster = ClusterId::from_u128(2);
    check(
        "enroll_pending.v1",
        &node_api::EnrollReply::Pending { node, cluster, fingerprint: Digest::of(b"key") },
    );
    check(
        "credentials.v1",
        &node_api::Credentials {
            cluster,
            node,
            renewal: 1,
            certificates: vec![serde_bytes::ByteBuf::from(b"leaf".to_vec())],
            expires_at: NOW,
            control_keys: vec![key(1).public_key()],
            bus: None,
        },
    );
    check(
        "snapshot_request.v1",
        &node_api::SnapshotRequest { have: 42, sections: [Digest::of(b"trust")].into() },
    );
    let (known, witness) = (b"a note\n".to_vec(), vec![7; 32]);
    let request = node_api::TreeRequest { known, witness };
    check("tree_request.v2", &request);
    // As an agent of the release before sends it.
    let without = node_api::TreeRequest { witness: Vec::new(), ..request };
    let frozen = include_str!("../../golden/tree_request.v1.hex").trim();
    let digits = frozen.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    assert_eq!(codec::decode(&bytes, bytes.len()), Ok(without));
    let consistency = vec![Digest::of(b"one"), Digest::of(b"two")];
    check("tree_reply.v1", &node_api::TreeReply { head: b"a note\n".to_vec(), consistency });
    let statement = Some(Digest::of(b"statement"));
    check("beat_request.v1", &node_api::BeatRequest { statement });
    let (statement, beat) = (b"statement".to_vec(), b"beat".to_vec());
    // As a server that was told of no others says it, and every one of the releases before.
    let of_before = node_api::BeatReply { statement, beat, ..node_api::BeatReply::default() };
    check("beat_reply.v1", &of_before);
    let servers = vec!["https://control-1.example:8443".to_owned()];
    check("beat_reply.v2", &node_api::BeatReply { records_changes: true, servers, ..of_before });
}

#[test]
fn beats() {
    let statement = EpochStatement {
        cluster: ClusterId::from_u128(2),
        epoch: 1,
        revision: 3,
        replicas: [1, 2, 3].map(|seed| key(seed).public_key()).to_vec(),
        threshold: 2,
        previous: Some(Digest::of(b"statement")),
    };
    check("epoch_statement.v1", &statement);
    let beat = Beat {
        cluster: ClusterId::from_u128(2),
        epoch: 1,
        statement: Digest::of(&codec::encode(&statement)),
        sequence: 7,
        snapshot_floor: 42,
        deny_version: 40,
        issued_at: NOW,
        expires_at: Timestamp::from_unix_millis(NOW.unix_millis() + 30_000),
    };
    check("beat.v1", &beat);
    let payload = codec::encode(&beat);
    let signed = |seed| (key(seed).public_key().id(), signed::sign::<Beat>(&payload, &key(seed)));
    let envelope = signed::join::<Beat>(&payload, [signed(1), signed(3)]);
    check_bytes("signed_beat.v1", &envelope);
    assert_eq!(envelope, seal(&beat, &[&key(1), &key(3)]), "signed apart or together");
    assert!(signed::open::<Beat>(&envelope, &statement.trusted()).is_ok());
}
