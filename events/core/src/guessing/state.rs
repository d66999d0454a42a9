use rap_proto::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guessing {
    /// Of the last event; `None` before the first.
    pub noticed_at: Option<Timestamp>,
}
