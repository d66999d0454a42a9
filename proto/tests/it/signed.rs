use rap_proto::{
    NodeId, PublicKey, Signer,
    bus::{ControlBody, ControlMessage},
    codec,
    key::LocalKey,
    signed::{OpenError, Trusted, Unverified, open, seal},
    token::AccessClaims,
};

use crate::fixtures::{claims, key};

#[test]
fn what_was_signed_opens() {
    let bytes = seal(&claims(), &[&key(1)]);
    let opened = open::<AccessClaims>(&bytes, &Trusted::one(key(1).public_key())).unwrap();
    assert_eq!(*opened, claims());
    assert_eq!(opened.digest(), rap_proto::Digest::of(&codec::encode(&claims())));
}

#[test]
fn every_flipped_byte_is_refused() {
    let bytes = seal(&claims(), &[&key(1)]);
    let trusted = Trusted::one(key(1).public_key());
    for at in 0..bytes.len() {
        let mut tampered = bytes.clone();
        tampered[at] ^= 1;
        let opened = open::<AccessClaims>(&tampered, &trusted);
        assert!(opened.is_err(), "byte {at}");
    }
}

#[test]
fn one_type_is_never_another() {
    let bytes = seal(&claims(), &[&key(1)]);
    let wrong = open::<ControlMessage>(&bytes, &Trusted::one(key(1).public_key()));
    assert!(matches!(wrong, Err(OpenError::WrongType { .. })));
}

#[test]
fn the_type_is_part_of_what_is_signed() {
    let bytes = seal(&claims(), &[&key(1)]);
    let from = b"access-token.v1";
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    let mut renamed = bytes.clone();
    renamed[at..at + from.len()].copy_from_slice(b"access-token.v2");
    assert!(open::<AccessClaims>(&renamed, &Trusted::one(key(1).public_key())).is_err());
}

#[test]
fn signatures_count_by_distinct_key() {
    let keys = [key(1), key(2), key(3)];
    let trusted = Trusted::new(keys.iter().map(Signer::public_key), 2);
    let twice = seal(&claims(), &[&keys[0], &keys[0]]);
    assert!(matches!(
        open::<AccessClaims>(&twice, &trusted),
        Err(OpenError::NotTrusted { valid: 1, needed: 2 })
    ));
    let stranger = seal(&claims(), &[&keys[0], &key(9)]);
    assert!(open::<AccessClaims>(&stranger, &trusted).is_err());
    let two = seal(&claims(), &[&keys[0], &keys[2]]);
    assert!(open::<AccessClaims>(&two, &trusted).is_ok());
}

#[test]
fn too_many_signatures_are_refused() {
    let one = key(1);
    let signers: Vec<&dyn Signer> = vec![&one; 17];
    let bytes = seal(&claims(), &signers);
    assert!(Unverified::<AccessClaims>::parse(&bytes).is_err());
}

#[test]
fn a_high_s_signature_is_refused() {
    let message = b"message";
    let low = key(1).sign(message);
    assert!(key(1).public_key().verifies(message, &low));
    // n - s is the other valid s for the same r; accepting both would make signatures malleable.
    let order = p256_order();
    let mut high = low;
    let mut borrow = 0_i16;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(low[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        high[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    assert!(!key(1).public_key().verifies(message, &high));
}

fn p256_order() -> [u8; 32] {
    let mut order = [0xff; 32];
    order[4..8].fill(0);
    let tail = [
        0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25,
        0x51,
    ];
    order[16..].copy_from_slice(&tail);
    order
}

#[test]
fn keys_read_back_from_every_form() {
    let local = key(5);
    let public = local.public_key();
    assert_eq!(PublicKey::from_spki(&public.to_spki()), Ok(public));
    assert_eq!(PublicKey::from_sec1(&public.to_sec1_compressed()), Ok(public));
    assert_eq!(LocalKey::from_pem(&local.to_pem()).unwrap().public_key(), public);
    let bytes = codec::encode(&public);
    assert_eq!(codec::decode::<PublicKey>(&bytes, 64), Ok(public));
    let json = serde_json::to_string(&public).unwrap();
    assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), public);
    assert!(PublicKey::from_sec1(&[4; 65]).is_err(), "a point off the curve");
    assert!(LocalKey::from_random(&[0; 32]).is_none());
    assert!(LocalKey::from_random(&[0xff; 32]).is_none());
    assert!(!format!("{local:?}").contains("PRIVATE"));
}

#[test]
fn a_claimed_sender_is_seen_before_it_is_believed() {
    let message = ControlMessage {
        cluster: claims().cluster,
        authority_epoch: 1,
        audience: NodeId::from_u128(8),
        incarnation: rap_proto::IncarnationId::from_u128(1),
        sequence: 1,
        issued_at: crate::fixtures::NOW,
        expires_at: crate::fixtures::NOW,
        body: ControlBody::SnapshotAvailable { version: 9 },
    };
    let bytes = seal(&message, &[&key(1)]);
    let unverified = Unverified::<ControlMessage>::parse(&bytes).unwrap();
    assert_eq!(unverified.peek().unwrap(), message);
    assert!(unverified.verify(&Trusted::one(key(2).public_key())).is_err());
}
