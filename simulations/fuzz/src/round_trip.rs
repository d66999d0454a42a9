//! What decodes is equal to itself after another trip, and has one encoding of our own.

use std::fmt::Debug;

use rap_proto::codec;
use serde::{Serialize, de::DeserializeOwned};

/// A check over the bytes of one type.
pub(crate) type Check = fn(&[u8]);

/// The first byte chooses which check sees the rest, so that one corpus serves a family.
pub(crate) fn choose(checks: &[Check], data: &[u8]) {
    if let Some((first, rest)) = data.split_first() {
        checks[usize::from(*first) % checks.len()](rest);
    }
}

/// Decodes as `T` with a limit of `LIMIT` bytes and checks the trip.
pub(crate) fn check<T, const LIMIT: usize>(bytes: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    decoded::<T>(bytes, LIMIT);
}

/// As [`check`], for targets that go on with the value.
pub(crate) fn decoded<T>(bytes: &[u8], limit: usize) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let value: T = codec::decode(bytes, limit).ok()?;
    assert!(bytes.len() <= limit, "a limit of {limit} let {} bytes pass", bytes.len());
    let own = codec::encode(&value);
    // Named fields may take more room than the form that arrived, so the limit is left out here.
    let again: T = codec::decode(&own, own.len()).expect("what we wrote can be read");
    assert_eq!(again, value);
    assert_eq!(codec::encode(&again), own, "one value has one encoding of ours");
    Some(value)
}
