//! Certificate requests and certificates: DER that strangers send.

use rap_pki::{PeerIdentity, csr, node_server_name};
use rap_proto::PublicKey;

use crate::round_trip::choose;

pub fn target(data: &[u8]) {
    choose(&[request, certificate, public_key], data);
}

fn request(der: &[u8]) {
    if let Ok(key) = csr::public_key(der) {
        assert!(der.len() <= csr::MAX_BYTES);
        assert_eq!(PublicKey::from_spki(&key.to_spki()), Ok(key));
    }
}

fn certificate(der: &[u8]) {
    if let Ok(identity) = PeerIdentity::from_leaf(der) {
        assert!(node_server_name(identity.node).starts_with(&identity.node.to_string()));
    }
}

fn public_key(bytes: &[u8]) {
    for key in [PublicKey::from_sec1(bytes), PublicKey::from_spki(bytes)].into_iter().flatten() {
        assert_eq!(PublicKey::from_sec1(&key.to_sec1_compressed()), Ok(key));
        assert_eq!(PublicKey::from_spki(&key.to_spki()), Ok(key));
    }
}
