//! Snapshots: the bundle, the manifest and every section.

use rap_proto::{
    signed::{Payload, Unverified},
    snapshot::{Assignment, Bundle, Manifest, Peers, Resources, Section, Trust},
};

use crate::{
    MAX_INPUT_BYTES,
    round_trip::{check, choose},
};

pub fn target(data: &[u8]) {
    choose(
        &[
            bundle,
            check::<Manifest, { Manifest::MAX_BYTES }>,
            section::<Assignment>,
            section::<Trust>,
            section::<Peers>,
            section::<Resources>,
        ],
        data,
    );
}

fn bundle(bytes: &[u8]) {
    check::<Bundle, MAX_INPUT_BYTES>(bytes);
    if let Ok(bundle) = rap_proto::codec::decode::<Bundle>(bytes, MAX_INPUT_BYTES)
        && let Ok(unverified) = Unverified::<Manifest>::parse(&bundle.manifest)
    {
        let _ = unverified.peek();
    }
}

fn section<T: Section + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(section) = T::from_bytes(bytes) {
        assert_eq!(T::from_bytes(&section.to_bytes()).as_ref(), Ok(&section));
    }
    check::<T, MAX_INPUT_BYTES>(bytes);
}
