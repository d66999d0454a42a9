use rap_proto::beat::EpochStatement;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authority {
    /// `None` before the first: the control key alone speaks for the cluster.
    pub statement: Option<EpochStatement>,
    /// The timeline whose losses were given up last.
    pub loss_accepted: Option<u64>,
}
