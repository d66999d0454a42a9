//! Certificates of the release before: nodes live with them for a day, and the cluster with its
//! CA's for years, so they are read whatever issues them now.
//!
//! `RAP_UPDATE_GOLDEN=1` writes the files anew; the difference then shows in review.

use std::{fmt::Write as _, fs, path::PathBuf};

use rap_pki::{ClusterAuthority, PeerIdentity};
use rap_proto::{ClusterId, Signer as _, Timestamp, beat::FIRST_AUTHORITY_EPOCH};

use super::{DAY, certificate, key, node};

const NOW: Timestamp = Timestamp::from_unix_millis(1_790_000_000_000);

#[test]
fn what_was_issued_before_is_read() {
    let cluster = ClusterId::from_u128(1);
    let issuing = ClusterAuthority::create(cluster, &key(1), [1; 16], NOW);
    let frozen = kept("authority.v1", issuing.certificate_der());
    let authority = ClusterAuthority::load(&frozen, &key(1)).unwrap();
    assert_eq!(authority.cluster(), cluster);

    let public = key(9).public_key();
    let issued = authority.issue_node(&certificate(&authority, 9, &public, NOW));
    let expected = PeerIdentity {
        cluster,
        node: node(9),
        key: public.id(),
        renewal: 3,
        authority_epoch: 2,
        not_after: NOW + DAY,
    };
    assert_eq!(PeerIdentity::from_leaf(&kept("node.v2", &issued)), Ok(expected));
    // As it was before it said its epoch.
    let first = PeerIdentity { authority_epoch: FIRST_AUTHORITY_EPOCH, ..expected };
    assert_eq!(PeerIdentity::from_leaf(&read("node.v1")), Ok(first));
}

/// The bytes of the file. What is issued now may differ from them.
fn kept(name: &str, now: &[u8]) -> Vec<u8> {
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        let mut text = String::new();
        for line in now.chunks(32) {
            line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        fs::write(path(name), text).unwrap();
    }
    read(name)
}

fn read(name: &str) -> Vec<u8> {
    let text: String = fs::read_to_string(path(name)).unwrap().split_whitespace().collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.hex"))
}
