//! Signed envelopes: only what the key signed is ever opened.

use std::sync::LazyLock;

use rap_proto::{
    Digest, Signer,
    bus::{ControlMessage, NodeMessage},
    codec,
    key::LocalKey,
    signed::{Payload, Trusted, Unverified, open, seal},
    snapshot::Manifest,
    token::AccessClaims,
};

use crate::round_trip::choose;

/// The key that the frozen envelope of an access token was signed with.
static KEY: LazyLock<LocalKey> =
    LazyLock::new(|| LocalKey::from_random(&[1; 32]).expect("a valid scalar"));
static TRUSTED: LazyLock<Trusted> = LazyLock::new(|| Trusted::one(KEY.public_key()));
/// The one payload that [`KEY`] ever signed before the fuzzer came.
static SIGNED: LazyLock<Digest> = LazyLock::new(|| {
    let bytes = include_bytes!("../../seeds/signed/access_token");
    let opened = open::<AccessClaims>(&bytes[1..], &TRUSTED).expect("the seed is genuine");
    opened.digest()
});

pub fn target(data: &[u8]) {
    choose(
        &[
            forge::<AccessClaims>,
            forge::<Manifest>,
            forge::<NodeMessage>,
            forge::<ControlMessage>,
            sign::<AccessClaims, Manifest>,
            sign::<ControlMessage, NodeMessage>,
        ],
        data,
    );
}

/// Whatever the bytes are, nothing opens but the payload that was signed.
fn forge<T: Payload>(bytes: &[u8]) {
    let Ok(unverified) = Unverified::<T>::parse(bytes) else { return };
    let peeked = unverified.peek().map(|value| codec::encode(&value));
    match unverified.verify(&TRUSTED) {
        Ok(verified) => {
            assert_eq!(verified.digest(), *SIGNED, "something was forged");
            assert_eq!(Ok(codec::encode(&*verified)), peeked);
        }
        Err(_) => assert!(open::<T>(bytes, &TRUSTED).is_err()),
    }
}

/// A genuine envelope opens as what it is, and as nothing else.
fn sign<T: Payload, Other: Payload>(bytes: &[u8]) {
    let Ok(value) = codec::decode::<T>(bytes, T::MAX_BYTES) else { return };
    let own = codec::encode(&value);
    if own.len() > T::MAX_BYTES {
        return;
    }
    let sealed = seal(&value, &[&*KEY]);
    let opened = open::<T>(&sealed, &TRUSTED).expect("what we sealed opens");
    assert_eq!(opened.digest(), Digest::of(&own));
    assert!(open::<Other>(&sealed, &TRUSTED).is_err(), "opened as another type");
}
