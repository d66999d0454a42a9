//! Random bits from the operating system.

use rap_proto::key::LocalKey;

/// # Panics
/// When the operating system has no randomness: nothing that follows could be trusted.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system provides randomness");
    bytes
}

pub(crate) fn key() -> LocalKey {
    loop {
        let random = zeroize::Zeroizing::new(bytes());
        if let Some(key) = LocalKey::from_random(&random) {
            return key;
        }
    }
}
