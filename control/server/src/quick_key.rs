//! The control key for what is signed for every node at once: snapshots, and what is said on the
//! bus.
//!
//! It signs several times faster than a [`LocalKey`], and each time anew: two signatures of one
//! message differ. So it signs nothing of which two copies are compared byte by byte.

use rap_proto::{PublicKey, Signer, key::LocalKey};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};

/// The order of P-256's group, big-endian (NIST SP 800-186, section 3.2.1.3).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[derive(Debug)]
pub(crate) struct QuickKey {
    /// Signs when the other cannot.
    slow: LocalKey,
    public: PublicKey,
    quick: Option<EcdsaKeyPair>,
    random: SystemRandom,
}

impl QuickKey {
    pub(crate) fn new(key: &LocalKey) -> Self {
        let random = SystemRandom::new();
        let quick =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.to_der(), &random);
        if let Err(error) = &quick {
            tracing::warn!(%error, "snapshots are signed slowly");
        }
        Self { slow: key.clone(), public: key.public_key(), quick: quick.ok(), random }
    }

    /// `None` when there is no key or no randomness.
    fn quickly(&self, message: &[u8]) -> Option<[u8; 64]> {
        let signature = self.quick.as_ref()?.sign(&self.random, message).ok()?;
        let (r, s) = signature.as_ref().split_first_chunk::<32>()?;
        let both = [*r, lower_half(s.try_into().ok()?)].concat();
        both.try_into().ok()
    }
}

impl Signer for QuickKey {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.quickly(message).unwrap_or_else(|| self.slow.sign(message))
    }
}

/// Of `s` and its negative, which signs as well, the one in the lower half of the order: the other
/// is refused everywhere.
fn lower_half(s: [u8; 32]) -> [u8; 32] {
    let (mut negative, mut borrow) = (ORDER, false);
    for (digit, subtracted) in negative.iter_mut().zip(s).rev() {
        let (once, first) = digit.overflowing_sub(subtracted);
        let (twice, second) = once.overflowing_sub(borrow.into());
        (*digit, borrow) = (twice, first || second);
    }
    s.min(negative)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::Digest;

    use super::*;

    #[test]
    fn whoever_trusts_the_key_trusts_what_is_signed_quickly() {
        // Half of what is signed quickly has its second number in the upper half, and one number in
        // 256 begins with a zero byte.
        for number in 0..300_u32 {
            let random = Digest::of(&number.to_be_bytes());
            let key = LocalKey::from_random(random.as_bytes()).unwrap();
            let quick = QuickKey::new(&key);
            let message = format!("snapshot {number}");
            let signature = quick.quickly(message.as_bytes()).unwrap();
            assert!(key.public_key().verifies(message.as_bytes(), &signature));
            assert!(!key.public_key().verifies(b"another", &signature));
            assert_eq!(quick.public_key(), key.public_key());
        }
    }

    #[test]
    fn without_the_quick_one_the_other_signs() {
        let key = LocalKey::from_random(&[7; 32]).unwrap();
        let quick = QuickKey { quick: None, ..QuickKey::new(&key) };
        assert_eq!(quick.sign(b"snapshot"), key.sign(b"snapshot"));
    }

    #[test]
    fn the_key_shows_no_secret_when_it_is_printed() {
        let key = LocalKey::from_random(&[7; 32]).unwrap();
        let printed = format!("{:?}", QuickKey::new(&key));
        assert!(!printed.contains("[7, 7") && !printed.contains("0707"), "{printed}");
    }
}
