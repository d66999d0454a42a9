//! Randomness from the operating system.

use rap_proto::{PublicKey, Signer as _, key::LocalKey};

/// # Panics
/// When the operating system has no randomness to give, which no command could survive.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A fresh private key and its public half.
pub(crate) fn key() -> (LocalKey, PublicKey) {
    loop {
        if let Some(key) = LocalKey::from_random(&bytes()) {
            let public = key.public_key();
            return (key, public);
        }
    }
}

/// 128 bits as hexadecimal digits, for idempotency keys.
pub(crate) fn hex() -> String {
    bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}
