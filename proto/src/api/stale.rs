use super::bodies;
use crate::snapshot::StalePolicy;

bodies! {
    /// `PUT /platform/stale`: what becomes of sessions at nodes that are cut off from control, of everybody.
    #[serde(deny_unknown_fields)]
    pub struct SetPlatformStale {
        pub policy: StalePolicy,
    }

    /// `GET /platform/stale`.
    pub struct PlatformStale {
        pub policy: StalePolicy,
        /// The cluster's.
        pub revision: u64,
    }
}
