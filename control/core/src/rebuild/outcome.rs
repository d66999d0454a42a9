use crate::Corrupt;

/// How a rebuild ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The living state was what the log says. The rebuilt one took its place.
    Same { position: u64 },
    /// It was not, in these projections. The rebuilt one took its place.
    Differed { position: u64, projections: Vec<&'static str> },
    /// From this position on the log is not what its tree commits to. The living state stays.
    Altered { position: u64 },
    /// The log cannot be folded. The living state stays.
    Corrupt(Corrupt),
    /// The log could not be read. The living state stays.
    Unread,
    /// The log is not the one that nodes saw. The living state stays.
    Refuted,
    /// Whoever drove it died. Either state is served.
    Interrupted,
}

impl Outcome {
    /// Its word in metrics and in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Same { .. } => "same",
            Self::Differed { .. } => "differed",
            Self::Altered { .. } => "altered",
            Self::Corrupt(_) => "corrupt",
            Self::Unread => "unread",
            Self::Refuted => "refuted",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the rebuilt state is the living one.
    pub const fn is_taken(&self) -> bool {
        matches!(self, Self::Same { .. } | Self::Differed { .. })
    }
}
