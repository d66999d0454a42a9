//! What follows from a state directory is the same in every release: two replicas share it, and
//! what one of them derived stands in the log, in nodes and in the NATS server's configuration.
//!
//! `RAP_UPDATE_GOLDEN=1` writes the file anew; the difference then shows in review.
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use rap_proto::secret::{ApiSecret, InviteSecret, JoinSecret, LoginSecret};
use rap_tlog::VerifierKey;

use super::*;

const CLUSTER: ClusterId = ClusterId::from_u128(2);

fn custody() -> Custody {
    let [ca, control, tls, replica] =
        [1, 2, 3, 4].map(|seed| LocalKey::from_random(&[seed; 32]).unwrap());
    let now = Timestamp::from_unix_millis(1_790_000_000_000);
    let authority = ClusterAuthority::create(CLUSTER, &ca, [7; 16], now);
    let derivation = DerivationKey([5; 32]);
    Custody { cluster: CLUSTER, authority, control, tls, replica, derivation }
}

/// Secrets are told by their digests, as the log has them.
#[test]
fn what_is_derived_is_frozen() {
    let custody = custody();
    let (derivation, command) = (&custody.derivation, CommandId::from_u128(1));
    let nats = custody.nats_authority();
    let user = |credentials: rap_bus::NatsCredentials| credentials.key.public();
    let lines = [
        ("request hash", derivation.request_hash(&[b"one", b"two"]).to_string()),
        ("login", derivation.secret::<LoginSecret>(command).digest().to_string()),
        ("API token", derivation.secret::<ApiSecret>(command).digest().to_string()),
        ("join token", derivation.secret::<JoinSecret>(command).digest().to_string()),
        ("invitation", derivation.secret::<InviteSecret>(command).digest().to_string()),
        ("imprint", derivation.imprint(&Digest::of(b"leaf")).to_string()),
        ("tree head", VerifierKey::ed25519(CLUSTER, &custody.head_key()).to_string()),
        ("wrapping key", Digest::of(&*custody.wrapping_key()).to_string()),
        ("NATS operator", format!("{nats:?}")),
        ("NATS control", user(nats.control_credentials(Timestamp::default()))),
        ("NATS system", user(nats.system_credentials(Timestamp::default()))),
    ];
    let actual: String = lines.map(|(name, value)| format!("{name}: {value}\n")).concat();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/derived.v1.txt");
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(&path).unwrap_or_default());
}
