use std::collections::BTreeMap;

use super::bodies;
use crate::mesh::{ChannelClass, Part, PeerCounts, PeerKind};

bodies! {
    /// `PUT /platform/mesh`: how many peers nodes keep near, by their kind, and what each part of a
    /// score counts, by what a path is for, in place of all that was said before. Of what nothing is said, nodes take what their release
    /// has.
    #[serde(deny_unknown_fields)]
    pub struct SetPlatformMesh {
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub peers: BTreeMap<PeerKind, PeerCounts>,
        /// A part that is not named counts nothing.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub weights: BTreeMap<ChannelClass, BTreeMap<Part, u16>>,
    }

    /// `GET /platform/mesh`: what is said.
    pub struct PlatformMesh {
        pub peers: BTreeMap<PeerKind, PeerCounts>,
        pub weights: BTreeMap<ChannelClass, BTreeMap<Part, u16>>,
        /// The cluster's.
        pub revision: u64,
    }
}
