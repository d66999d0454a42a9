//! Certificates as peers see them: parsed, misused, and in real TLS handshakes.
#![allow(clippy::unwrap_used)]

mod certificates;
mod frozen;
mod handshake;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rap_pki::{ClusterAuthority, NodeCertificate, tls};
use rap_proto::{ClusterId, NodeId, PublicKey, Signer as _, Timestamp, key::LocalKey};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SERIAL: [u8; 16] = [0xff; 16];

fn key(seed: u8) -> LocalKey {
    LocalKey::from_random(&[seed; 32]).unwrap()
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(elapsed.as_millis().try_into().unwrap())
}

fn authority(number: u8) -> ClusterAuthority {
    let cluster = ClusterId::from_u128(number.into());
    ClusterAuthority::create(cluster, &key(number), [number; 16], now() - DAY)
}

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn certificate<'a>(
    authority: &ClusterAuthority,
    number: u128,
    key: &'a PublicKey,
    now: Timestamp,
) -> NodeCertificate<'a> {
    NodeCertificate {
        cluster: authority.cluster(),
        node: node(number),
        key,
        serial: SERIAL,
        renewal: 3,
        authority_epoch: 2,
        now,
        lifetime: DAY,
    }
}

/// A node's certificate and key; the key is made from the same number.
fn node_identity(authority: &ClusterAuthority, number: u8, at: Timestamp) -> tls::Identity {
    let key = key(number);
    let leaf = authority.issue_node(&certificate(authority, number.into(), &key.public_key(), at));
    tls::Identity { chain: vec![leaf], key }
}

fn control_identity(authority: &ClusterAuthority, number: u8) -> tls::Identity {
    let key = key(number);
    let names = ["control.example".to_owned(), "192.0.2.7".to_owned()];
    let leaf = authority.issue_server(&names, &key.public_key(), SERIAL, now(), DAY).unwrap();
    tls::Identity { chain: vec![leaf, authority.certificate_der().to_vec()], key }
}
