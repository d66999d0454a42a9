#![allow(clippy::unwrap_used)]
use std::fmt::Debug;

use rap_proto::Generation;

use super::*;
use rap_proto::{Leased, VpnConnectionId, beat::Beat, observation::LogRefusal};

use crate::{
    beat::BeatFloor,
    lease::{
        LeaseFloor,
        marks::{MarkBook, Marks},
    },
    servers::HeldServers,
    snapshot::Floor,
    standing::Standing,
    witness::Witnessed,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every shorter file and every flipped bit is noticed; the whole file is read back.
fn check<T: Record + PartialEq + Debug>(value: &T) {
    let bytes = encode(value);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
    for end in 0..bytes.len() {
        assert!(decode::<T>(&bytes[..end]).is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(decode::<T>(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(decode::<T>(&longer), Err(RecordError::Damaged));
}

pub(crate) fn enrollment() -> Enrollment {
    Enrollment {
        control: "https://control.example:8443".to_owned(),
        ca: Digest::from_bytes([1; 32]),
        name: "edge-1".parse().unwrap(),
        addresses: vec!["192.0.2.1:4433".parse().unwrap()],
        node: Some(NodeId::from_u128(2)),
        cluster: None,
    }
}

pub(crate) fn credentials() -> HeldCredentials {
    HeldCredentials {
        obtained_at: Timestamp::from_unix_millis(1_000),
        credentials: Credentials {
            cluster: ClusterId::from_u128(1),
            node: NodeId::from_u128(2),
            renewal: 3,
            certificates: vec![serde_bytes::ByteBuf::from(vec![9; 8])],
            expires_at: Timestamp::from_unix_millis(2_000),
            control_keys: Vec::new(),
            bus: None,
        },
    }
}

fn held_servers() -> HeldServers {
    HeldServers { servers: vec!["https://control.example:8443".to_owned()] }
}

fn witnessed() -> Witnessed {
    let refuted = Some(LogRefusal::Shorter);
    Witnessed { size: 5, root: Digest::from_bytes([6; 32]), note: vec![7; 8], refuted }
}

#[test]
fn torn_and_damaged_records_are_noticed() {
    check(&enrollment());
    check(&credentials());
    check(&HeldManifest { manifest: vec![7; 40] });
    check(&HeldPeers { cache: vec![8; 40] });
    check(&held_servers());
    check(&Floor { authority_epoch: 1, version: 2, digest: Digest::from_bytes([3; 32]) });
    check(&LeaseFloor { generation: Generation::new(7) });
    check(&marks());
    check(&Standing::Good);
    check(&witnessed());
    check(&beat_floor());
    check(&Standing::revoked_by_control(Timestamp::from_unix_millis(5)));
}

#[test]
fn one_record_is_not_taken_for_another() {
    let bytes = encode(&enrollment());
    assert_eq!(decode::<HeldManifest>(&bytes), Err(RecordError::WrongKind));
}

/// Compares with the golden bytes; `RAP_UPDATE_GOLDEN=1` writes them instead.
pub(crate) fn check_golden(name: &str, bytes: &[u8]) {
    let path = format!("{}/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, hex(bytes) + "\n").unwrap();
    }
    assert_eq!(hex(bytes), std::fs::read_to_string(&path).unwrap().trim(), "{name}");
}

fn beat_floor() -> BeatFloor {
    let beat = Beat {
        cluster: ClusterId::from_u128(2),
        epoch: 1,
        statement: Digest::from_bytes([3; 32]),
        sequence: 7,
        snapshot_floor: 42,
        deny_version: 40,
        issued_at: Timestamp::from_unix_millis(5),
        expires_at: Timestamp::from_unix_millis(30_005),
    };
    BeatFloor { statement: b"statement".to_vec(), beat, records_changes: false }
}

fn marks() -> Marks {
    let mut book = MarkBook::default();
    let mark = |connection, generation| Leased {
        connection: VpnConnectionId::from_u128(connection),
        generation: Generation::new(generation),
    };
    book.want(mark(2, 1 << 33)).unwrap();
    book.want(mark(1, 7)).unwrap();
    book.pending(mark(1, 7)).unwrap()
}

#[test]
fn the_formats_are_frozen() {
    let floor = Floor { authority_epoch: 1, version: 2, digest: Digest::from_bytes([3; 32]) };
    let at = Timestamp::from_unix_millis(5);
    check_golden("enrollment", &encode(&enrollment()));
    check_golden("credentials", &encode(&credentials()));
    check_golden("floor", &encode(&floor));
    check_golden("lease-floor", &encode(&LeaseFloor { generation: Generation::new(7) }));
    check_golden("peers", &encode(&HeldPeers { cache: vec![8; 4] }));
    check_golden("servers", &encode(&held_servers()));
    check_golden("fence-marks", &encode(&marks()));
    check_golden("manifest", &encode(&HeldManifest { manifest: vec![7; 4] }));
    check_golden("standing-good", &encode(&Standing::Good));
    check_golden("tree_head", &encode(&witnessed()));
    check_golden("beat", &encode(&beat_floor()));
    check_golden("beat-v2", &encode(&BeatFloor { records_changes: true, ..beat_floor() }));
    check_golden("standing-revoked", &encode(&Standing::revoked_by_control(at)));
}
