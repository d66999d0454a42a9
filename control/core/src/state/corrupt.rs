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
}
