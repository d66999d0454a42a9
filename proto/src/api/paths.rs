use super::bodies;
use crate::paths::DirectPaths;

bodies! {
    /// `PUT /platform/paths`: whether the lanes of everybody may take direct paths, and when, and whether what
    /// they take is recorded, in place of what was said before.
    #[serde(deny_unknown_fields)]
    pub struct SetPlatformPaths {
        pub direct: DirectPaths,
        #[serde(default)]
        pub audited: bool,
    }

    /// `GET /platform/paths`.
    pub struct PlatformPaths {
        pub direct: DirectPaths,
        pub audited: bool,
        /// The cluster's.
        pub revision: u64,
    }
}
