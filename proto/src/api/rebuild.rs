use super::bodies;
use crate::{ReplicaId, Timestamp, term::terms};

terms! {
    /// How far a rebuild is, or how it ended.
    RebuildState, "rebuild state":
    /// None was asked for since the replica was started.
    None = "none",
    /// The log is folded beside the living projections.
    Folding = "folding",
    /// The rebuilt projections are served, and compared with those that they replaced.
    Comparing = "comparing",
    /// They were the same.
    Same = "same",
    /// They were not: what was served was not what the log says. It is by now.
    Differed = "differed",
    /// The log is not what its tree commits to; the living projections stayed.
    Altered = "altered",
    /// The log cannot be folded; the living projections stayed.
    Corrupt = "corrupt",
    /// The log could not be read; the living projections stayed.
    Unread = "unread",
    /// The log is not the one that nodes saw; the living projections stayed.
    Refuted = "refuted",
    /// The rebuild died; ask for another.
    Interrupted = "interrupted",
}

impl RebuildState {
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Folding | Self::Comparing)
    }
}

bodies! {
    /// `GET` and `POST /projections/rebuild`: the last rebuild of the replica that answers.
    pub struct Rebuild {
        /// Each replica has projections of its own.
        pub replica: ReplicaId,
        pub state: RebuildState,
        /// The last position that was folded.
        pub position: u64,
        /// The position that the living projections had come to.
        pub through: u64,
        pub percent: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub began_at: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ended_at: Option<Timestamp>,
        /// The position at which the rebuilt projections took the place of the living ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub exchanged_at: Option<u64>,
        /// The projections that were not what the log says.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub differing: Vec<String>,
        /// The first position from which on the log's tree commits to something else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub altered: Option<u64>,
        /// Why the log cannot be folded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
    }
}
