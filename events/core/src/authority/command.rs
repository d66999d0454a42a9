use rap_proto::beat::EpochStatement;
use serde_bytes::ByteBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityCommand {
    /// Makes a statement valid in the place of the present one.
    State {
        statement: EpochStatement,
        /// The statement under the control key's signature, as nodes are sent it.
        signed: ByteBuf,
    },
    /// Gives up what the database lost before it came to this timeline.
    AcceptLoss { timeline: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityRejection {
    #[error("the statement's replicas and quorum do not fit together")]
    NotValid,
    #[error("the statement does not follow the present one")]
    NotNext,
    #[error("the statement lists the same replicas as the present one")]
    Unchanged,
    #[error("what was lost before this timeline is given up already")]
    AlreadyAccepted,
}
