use rap_events::{
    DomainEvent, Envelope, authority::AuthorityEvent, node::NodeEvent, session::SessionEvent,
};
use rap_proto::beat::{EpochStatement, FIRST_AUTHORITY_EPOCH};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Who speaks for the cluster, on what, and when somebody was last denied something.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Authority {
    /// `None` as long as the control key alone speaks for it.
    pub stated: Option<Stated>,
    /// The position of the last event that denied a node or a session; 0 for none.
    pub deny_version: u64,
    /// The timeline of the database whose losses somebody gave up last.
    pub loss_accepted: Option<u64>,
    /// The revision of its stream.
    pub revision: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    pub statement: EpochStatement,
    /// Under the control key's signature.
    pub signed: ByteBuf,
}

impl Authority {
    /// The epoch that this log's authority is of.
    pub fn epoch(&self) -> u64 {
        self.stated.as_ref().map_or(FIRST_AUTHORITY_EPOCH, |stated| stated.statement.epoch)
    }

    pub(super) fn fold(&mut self, event: &AuthorityEvent, envelope: &Envelope) {
        match event {
            AuthorityEvent::Stated(event) => {
                let (statement, signed) = (event.statement.clone(), event.signed.clone());
                self.stated = Some(Stated { statement, signed });
            }
            AuthorityEvent::LossAccepted(event) => self.loss_accepted = Some(event.timeline),
        }
        self.revision = envelope.revision;
    }

    /// Remembers the last event that put somebody on a deny list.
    pub(super) fn notice(&mut self, event: &DomainEvent, position: u64) {
        let denies = matches!(
            event,
            DomainEvent::Node(NodeEvent::Revoked(_))
                | DomainEvent::Session(SessionEvent::Terminated(_))
        );
        if denies {
            self.deny_version = position;
        }
    }
}
