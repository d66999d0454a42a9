use rap_events::{StreamId, aggregate::EventError};

/// Why the next event cannot be folded. None of these passes with time: halt, and let a person
/// look at the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    #[error("the log goes from position {last} to {next}")]
    Gap { last: u64, next: u64 },
    #[error("{stream} goes from revision {last} to {next} at position {position}")]
    Revision { stream: StreamId, last: u64, next: u64, position: u64 },
    #[error("the event at position {position} cannot be read: {error}")]
    Event { position: u64, error: EventError },
    #[error("the event at position {position} is about {stream}, which was never created")]
    Uncreated { stream: StreamId, position: u64 },
    #[error("the log no longer holds what was folded at position {position}")]
    Replaced { position: u64 },
}

impl Corrupt {
    /// Whether a later release can fold on: the log is sound, and this release too old for it.
    pub const fn is_of_a_later_release(&self) -> bool {
        matches!(self, Self::Event { error: EventError::Unknown { .. }, .. })
    }

    /// What whoever watches is told. It names nothing of the log's content.
    pub const fn explanation(&self) -> &'static str {
        match self {
            Self::Replaced { .. } => {
                "the log went back behind what this replica had read: start it again"
            }
            corrupt if corrupt.is_of_a_later_release() => {
                "the log has an event of a later release: update this replica"
            }
            _ => "the log cannot be folded any further: it is damaged",
        }
    }
}
