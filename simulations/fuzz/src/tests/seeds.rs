//! The seeds: the frozen bytes of every format, behind the byte that chooses its check.

use std::{collections::BTreeMap, fs, path::PathBuf};

use rap_events::{
    Actor, Envelope, StreamId,
    catalogue::{DomainEvent, catalogue},
};
use rap_pki::{ClusterAuthority, NodeCertificate, csr};
use rap_proto::{ClusterId, CommandId, NodeId, Signer, Timestamp, codec, key::LocalKey};

type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

const NOW: Timestamp = Timestamp::from_unix_millis(1_790_000_000_000);

/// Target, the choice within it, and the golden file.
const FROZEN: &[(&str, u8, &str)] = &[
    ("signed", 4, "proto/golden/access_claims.v1"),
    ("signed", 5, "proto/golden/control_message.v1"),
    ("access_claims", 0, "proto/golden/access_claims.v1"),
    ("access_claims", 1, "proto/golden/proof.v1"),
    ("snapshot", 1, "proto/golden/manifest.v1"),
    ("snapshot", 2, "proto/golden/section_assignment.v1"),
    ("snapshot", 3, "proto/golden/section_trust.v1"),
    ("snapshot", 4, "proto/golden/section_peers.v1"),
    ("snapshot", 5, "proto/golden/section_resources.v1"),
    ("bus", 0, "proto/golden/node_heartbeat.v1"),
    ("bus", 0, "proto/golden/node_observations.v1"),
    ("bus", 1, "proto/golden/control_message.v1"),
    ("bus", 0, "proto/golden/node_explained.v1"),
    ("bus", 1, "proto/golden/control_explain.v1"),
    ("client_wire", 0, "proto/golden/client_hello.v1"),
    ("client_wire", 2, "proto/golden/client_refresh.v1"),
    ("client_wire", 3, "proto/golden/entry_ended.v1"),
    ("client_wire", 4, "proto/golden/open_channel.v1"),
    ("client_wire", 5, "proto/golden/channel_refused.v1"),
    ("client_wire", 4, "proto/golden/open_channel.v2"),
    ("client_wire", 5, "proto/golden/channel_attached.v1"),
    ("node_wire", 0, "proto/golden/open_flow.v1"),
    ("node_wire", 1, "proto/golden/flow_opened.v1"),
    ("node_wire", 0, "proto/golden/open_flow.v2"),
    ("node_wire", 1, "proto/golden/flow_attached.v1"),
    ("node_wire", 2, "proto/golden/hop_set_up_flow.v1"),
    ("node_wire", 2, "proto/golden/hop_set_up_flow.v2"),
    ("node_wire", 3, "proto/golden/hop_flow_ready.v1"),
    ("client_wire", 6, "proto/golden/client_join.v1"),
    ("node_wire", 2, "proto/golden/hop_set_up_stream.v1"),
    ("node_wire", 3, "proto/golden/hop_stream_ready.v1"),
    ("node_wire", 2, "proto/golden/hop_set_up_flow_onward.v1"),
    ("node_wire", 2, "proto/golden/hop_set_up_flow_onward.v2"),
    ("node_wire", 2, "proto/golden/hop_set_up_stream_onward.v1"),
    ("node_wire", 3, "proto/golden/hop_refused_onward.v1"),
    ("node_wire", 2, "proto/golden/hop_keep_reachable.v1"),
    ("node_wire", 4, "proto/golden/call_knock.v1"),
    ("node_wire", 4, "proto/golden/call_heard.v1"),
    ("node_wire", 4, "proto/golden/call_connect_back.v1"),
    ("node_wire", 2, "proto/golden/hop_see_me.v1"),
    ("node_wire", 3, "proto/golden/hop_knock_here.v1"),
    ("node_wire", 3, "proto/golden/hop_seen_at.v1"),
    ("node_wire", 2, "proto/golden/hop_heartbeat.v1"),
    ("node_wire", 3, "proto/golden/hop_here.v1"),
    ("node_wire", 5, "proto/golden/lane_meet.v1"),
    ("node_wire", 6, "proto/golden/lane_met.v1"),
    ("node_api", 0, "proto/golden/enroll_request.v1"),
    ("node_api", 1, "proto/golden/enroll_pending.v1"),
    ("node_api", 4, "proto/golden/credentials.v1"),
    ("node_api", 5, "proto/golden/snapshot_request.v1"),
    ("agent_disk", 0, "agent/core/golden/enrollment"),
    ("agent_disk", 1, "agent/core/golden/credentials"),
    ("agent_disk", 2, "agent/core/golden/manifest"),
    ("agent_disk", 3, "agent/core/golden/floor"),
    ("agent_disk", 4, "agent/core/golden/standing-good"),
    ("agent_disk", 4, "agent/core/golden/standing-revoked"),
    ("agent_disk", 10, "agent/core/golden/spool"),
    ("agent_disk", 12, "agent/core/golden/tree_head"),
    ("agent_disk", 14, "agent/core/golden/lease-floor"),
    ("agent_disk", 16, "agent/core/golden/peers"),
    ("peer_cache", 0, "mesh/core/golden/peer_cache.v1"),
    ("tree", 8, "proto/golden/tree_request.v1"),
    ("tree", 9, "proto/golden/tree_reply.v1"),
];

/// Target, the choice within it, a name, and the text.
const TEXTS: &[(&str, u8, &str, &str)] = &[
    ("text", 0, "name", "demo-ssh"),
    ("text", 1, "digest", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"),
    ("text", 2, "role", "stream-worker"),
    ("text", 3, "capability", "can_route_mesh"),
    ("text", 7, "time", "2026-11-23T08:30:00.250+01:00"),
    ("text", 8, "id", "0192f0c1-2345-7abc-8def-0123456789ab"),
    ("text", 9, "reference", "0192F0C1-2345-7ABC-8DEF-0123456789AB"),
    ("text", 10, "join_secret", "rapj_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"),
    ("text", 14, "setup_code", "rapsetup_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"),
    ("tree", 0, "head", include_str!("../../../../proto/tlog/golden/head.txt")),
    ("tree", 1, "key", "rap.cluster/x+1"),
    ("tree", 2, "proof", include_str!("../../../../proto/tlog/golden/proof.txt")),
    ("tree", 3, "path", "tile/entries/x001/x234/067.p/8"),
    ("adapter", 5, "host", "office.acme.example"),
    ("adapter", 5, "address", "2001:db8::1"),
    (
        "api",
        0,
        "request_access",
        r#"{"organization":"acme","resource":"demo-ssh","clientKey":"036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"}"#,
    ),
    ("api", 1, "new_login", r#"{"name":"alice","password":"x","device":"laptop"}"#),
    ("api", 16, "problem", r#"{"type":"about:blank","title":"x","status":404,"code":"not_found"}"#),
];

pub(super) fn all() -> Seeds {
    let mut seeds = Seeds::new();
    for (target, choice, file) in FROZEN {
        let name = format!("{choice}-{}", file.rsplit('/').next().unwrap());
        seeds.insert((target, name), [&[*choice], &golden(file)[..]].concat());
    }
    for (target, choice, name, text) in TEXTS {
        let name = format!("{choice}-{name}");
        seeds.insert((target, name), [&[*choice], text.as_bytes()].concat());
    }
    let token = golden("proto/golden/signed_access_token.v1");
    seeds.insert(("signed", "access_token".to_owned()), [&[0], &token[..]].concat());
    events(&mut seeds);
    made(&mut seeds);
    parts(&mut seeds);
    messages(&mut seeds);
    certificates(&mut seeds);
    seeds
}

/// Every event alone, and all of each category as one history.
fn events(seeds: &mut Seeds) {
    let mut histories: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let kinds = catalogue();
    for (place, kind) in (0_u8..).zip(&kinds) {
        let file = format!("{}.v{}", kind.event_type, kind.schema);
        let payload = golden(&format!("events/core/golden/{file}"));
        seeds.insert(("events", file), [&[place], &payload[..]].concat());
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let category = kind.event_type.split('.').next().unwrap();
        let history = histories.entry(category).or_default();
        history.extend([&[place], &length[..], &payload].concat());
    }
    for (category, history) in histories {
        seeds.insert(("history", category.to_owned()), history);
    }
    let event = DomainEvent::decode("organization.removed", 1, &[0x80]).unwrap();
    let envelope = Envelope {
        position: 7,
        stream: StreamId::new("organization", NodeId::from_u128(1).uuid()),
        revision: 2,
        event_type: event.kind().event_type.to_owned(),
        schema: 1,
        payload: event.encode().into(),
        organization: None,
        actor: Actor::System { process: "renewal".to_owned() },
        allowed: None,
        command: CommandId::from_u128(3),
        causation: Some(6),
        at: NOW,
    };
    let bytes = [&[u8::MAX], &codec::encode(&envelope)[..]].concat();
    seeds.insert(("events", "envelope".to_owned()), bytes);
}

/// What one end of a flow says on TCP, read in pieces of the first byte's length.
fn parts(seeds: &mut Seeds) {
    use rap_mesh_core::carrier::{acknowledged, data_head, finished, from, reset, stopped};

    let flow = [&[5][..], &data_head(3), b"abc", &stopped(0x102), &data_head(1), b"d", &finished()];
    seeds.insert(("carrier", "finished".to_owned()), flow.concat());
    let cut = [&[255][..], &data_head(2), b"ab", &reset(0x105), &stopped(0)];
    seeds.insert(("carrier", "cut".to_owned()), cut.concat());
    let resumed = [&[7][..], &from(3), &acknowledged(9), &data_head(1), b"d", &finished()];
    seeds.insert(("carrier", "resumed".to_owned()), resumed.concat());
}

/// One direction of a message channel, as a channel of each kind reads it, in pieces of 7 bytes.
fn messages(seeds: &mut Seeds) {
    let direction = golden("mesh/core/golden/message_channel.v1");
    for (place, kind) in (0_u8..).zip(rap_proto::ChannelKind::ALL) {
        seeds.insert(("messages", kind.to_string()), [&[place, 7][..], &direction].concat());
    }
}

/// Formats without a golden file of their own.
fn made(seeds: &mut Seeds) {
    use rap_adapter_contract::{ControlEvent, ControlRequest, Open, OpenReply, Request};
    use rap_proto::{ResourceKind, refusal::Refusal, snapshot::Bundle};

    let open = Open {
        channel: 7,
        kind: ResourceKind::Ssh,
        host: "office.acme.example".to_owned(),
        port: 22,
        allow_local: false,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        takes_socket: false,
    };
    let taking = Request::Open(Open { takes_socket: true, ..open.clone() });
    let refused = Refusal::new(rap_proto::RefusalCode::TargetRefused, "refused");
    let hello =
        ControlEvent::Hello { format: 1, kinds: [ResourceKind::Web].into(), max_channels: 64 };
    let bundle = Bundle { manifest: vec![0x80], sections: vec![vec![1, 2].into()] };
    let tree = [0x81, 0xa8, b'c', b'h', b'i', b'l', b'd', b'r', b'e', b'n', 0x90];
    let spool = golden("agent/core/golden/spool");
    for (target, choice, name, bytes) in [
        ("adapter", 0, "open", codec::encode(&Request::Open(open))),
        ("adapter", 0, "taking", codec::encode(&taking)),
        ("adapter", 1, "handed", codec::encode(&OpenReply::Handed)),
        ("adapter", 1, "refused", codec::encode(&OpenReply::Refused(refused))),
        ("adapter", 2, "shutdown", codec::encode(&ControlRequest::Shutdown { grace_ms: 5 })),
        ("adapter", 3, "hello", codec::encode(&hello)),
        ("adapter", 6, "metadata_v4", vec![169, 254, 169, 254]),
        ("adapter", 6, "mapped", [&[0; 10][..], &[0xff, 0xff, 127, 0, 0, 1]].concat()),
        ("snapshot", 0, "bundle", codec::encode(&bundle)),
        ("codec", 0, "tree", tree.to_vec()),
        ("codec", 4, "list", vec![0x92, 0x01, 0xcd, 0x01, 0x00]),
        ("codec", 5, "head", vec![0, 1, 0, 0]),
        ("agent_disk", 6, "sealed_body", golden("agent/core/golden/credentials")[41..].to_vec()),
        ("agent_disk", 11, "sealed_spool", unsealed(&spool)),
    ] {
        let name = format!("{choice}-{name}");
        seeds.insert((target, name), [&[choice], &bytes[..]].concat());
    }
}

/// A spool's file without its checksums, as the target puts them back.
fn unsealed(file: &[u8]) -> Vec<u8> {
    let mut bytes = file[5..13].to_vec();
    let mut rest = &file[29..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        bytes.extend(&after[16..16 + length]);
        rest = &after[16 + length..];
    }
    bytes
}

fn certificates(seeds: &mut Seeds) {
    let key = LocalKey::from_random(&[1; 32]).unwrap();
    let node_key = LocalKey::from_random(&[2; 32]).unwrap().public_key();
    let cluster = ClusterId::from_u128(1);
    let authority = ClusterAuthority::create(cluster, &key, [3; 16], NOW);
    let lifetime = std::time::Duration::from_secs(86_400);
    let leaf = authority.issue_node(&NodeCertificate {
        cluster,
        node: NodeId::from_u128(2),
        key: &node_key,
        serial: [4; 16],
        renewal: 1,
        authority_epoch: 2,
        now: NOW,
        lifetime,
    });
    for (choice, name, bytes) in [
        (0, "request", csr::make(&key)),
        (1, "node", leaf),
        (1, "authority", authority.certificate_der().to_vec()),
        (2, "point", node_key.to_sec1_compressed()),
        (2, "spki", node_key.to_spki()),
    ] {
        seeds
            .insert(("certificates", format!("{choice}-{name}")), [&[choice], &bytes[..]].concat());
    }
}

fn golden(file: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join(format!("{file}.hex"))).unwrap();
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
