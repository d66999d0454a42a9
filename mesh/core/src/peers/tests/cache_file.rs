//! What is kept on disk, and how little it is believed.

use rap_proto::OrganizationId;

use super::*;
use crate::peers::cache::{DecodeCacheError, FORMAT, MAX_CACHE_BYTES, MAX_KEPT, decode, encode};

fn kept(number: u128) -> KeptPeer {
    KeptPeer {
        node_id: node(number),
        cluster_id: CLUSTER,
        endpoint_candidates: vec![([192, 0, 2, 1], 4433).into()],
        roles: [NodeRole::RelayNode].into(),
        region: "eu-west".parse().ok(),
        last_success_at: Some(Timestamp::from_unix_millis(5)),
        last_latency_ms: Some(12),
        packet_loss: Some(100),
        reliability_score: Some(990),
        fingerprint: listed(number).key,
        policy_scope: Some([OrganizationId::from_u128(9)].into()),
        last_seen_config_version: 42,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_cache_file_is_frozen() {
    let bytes = encode(&[kept(100)]);
    let path = format!("{}/golden/peer_cache.v1.hex", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, hex(&bytes) + "\n").unwrap();
    }
    assert_eq!(hex(&bytes), std::fs::read_to_string(&path).unwrap().trim());
    assert_eq!(decode(&bytes), Ok(vec![kept(100)]));
}

#[test]
fn a_cache_that_is_not_one_is_refused() {
    assert!(matches!(decode(b"no"), Err(DecodeCacheError::Content(_))));
    let bytes = encode(&[kept(100)]);
    let newer = bytes.iter().position(|byte| u32::from(*byte) == FORMAT).unwrap();
    let mut other = bytes.clone();
    other[newer] = 2;
    assert_eq!(decode(&other), Err(DecodeCacheError::UnknownFormat(2)));
    assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(decode(&vec![0; MAX_CACHE_BYTES + 1]).is_err());
    let many = vec![
        KeptPeer {
            endpoint_candidates: Vec::new(),
            policy_scope: None,
            region: None,
            ..kept(1)
        };
        MAX_KEPT + 1
    ];
    let head = [&[0x82, 0xa6][..], b"format", &[1, 0xa5], b"peers", &[0xdc, 1, 1]].concat();
    let body: Vec<u8> = many.iter().flat_map(rap_proto::codec::encode).collect();
    let bytes = [head, body].concat();
    assert_eq!(decode(&bytes), Err(DecodeCacheError::TooMany));
}

#[test]
fn as_much_is_kept_as_fits() {
    let many: Vec<KeptPeer> = (0..MAX_KEPT as u128 + 9).map(kept).collect();
    let bytes = encode(&many);
    assert!(bytes.len() <= MAX_CACHE_BYTES, "{}", bytes.len());
    let read = decode(&bytes).unwrap();
    assert!(read.len() <= MAX_KEPT);
    assert_eq!(read[..], many[..read.len()]);
    let mut large = kept(1);
    large.policy_scope = Some((0..10_000).map(OrganizationId::from_u128).collect());
    assert_eq!(decode(&encode(&[large])), Ok(Vec::new()));
}

#[test]
fn what_was_kept_speeds_up_a_start_and_makes_nobody_a_peer() {
    let mut bench = Bench::new(Kind::Normal);
    let foreign = KeptPeer { cluster_id: ClusterId::from_u128(8), ..kept(101) };
    let rekeyed = KeptPeer { fingerprint: Digest::of(b"another"), ..kept(102) };
    bench.feed(Input::Restore(vec![kept(100), foreign, rekeyed, kept(150)]));
    assert_eq!(bench.book.poll_timeout(), None, "before there is a directory it does nothing");
    assert_eq!(bench.effects, []);
    bench.answers = [100, 150].map(|number| (node(number), 10_000)).into();
    bench.feed(Input::Directory { directory: directory(1, 100..110), at: bench.calendar() });
    assert_eq!(bench.steps(), [Some(Step::Active), Some(Step::Warm), None], "it was warm");
    assert_eq!(bench.book.reached().collect::<Vec<_>>(), [node(100)]);
    assert_eq!(bench.status(100).measured.loss_ppm, Some(100), "nothing was counted since");
    for number in [101, 102] {
        assert_eq!(bench.status(number).measured.reliability, None, "of another node");
    }
    bench.seconds(120);
    assert!(bench.book.status(bench.now).iter().all(|status| status.node != node(150)));
}

#[test]
fn what_is_written_is_what_the_next_start_reads() {
    let mut bench = Bench::knows(Kind::Normal, 100..130);
    bench.seconds(600);
    let last = bench.effects.iter().rev().find_map(|(_, effect)| match effect {
        Effect::Persist(bytes) => Some(bytes.clone()),
        _ => None,
    });
    let kept = decode(&last.unwrap()).unwrap();
    let standing = bench.book.standing();
    assert!(kept.len() >= standing.active + standing.warm);
    assert!(kept.iter().all(|peer| peer.last_success_at.is_some()));
    assert!(kept.iter().all(|peer| peer.last_seen_config_version == 1));
    let writes = bench.count(|effect| matches!(effect, Effect::Persist(_)));
    assert!(writes <= 11, "{writes} in ten minutes");
}
