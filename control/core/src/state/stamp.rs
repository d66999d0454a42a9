use rap_events::Envelope;
use rap_proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::Corrupt;

/// Where in the log a thing was created and last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The position of its first event: a stable order for lists.
    pub created: u64,
    pub created_at: Timestamp,
    /// The position of its last event.
    pub changed: u64,
    pub changed_at: Timestamp,
    /// The revision of its stream: what an `ETag` says.
    pub revision: u64,
}

impl Stamp {
    pub(super) fn first(envelope: &Envelope) -> Result<Self, Corrupt> {
        expect_revision(envelope, 0)?;
        Ok(Self {
            created: envelope.position,
            created_at: envelope.at,
            changed: envelope.position,
            changed_at: envelope.at,
            revision: envelope.revision,
        })
    }

    pub(super) fn advance(&mut self, envelope: &Envelope) -> Result<(), Corrupt> {
        expect_revision(envelope, self.revision)?;
        self.changed = envelope.position;
        self.changed_at = envelope.at;
        self.revision = envelope.revision;
        Ok(())
    }
}

fn expect_revision(envelope: &Envelope, last: u64) -> Result<(), Corrupt> {
    if envelope.revision == last + 1 {
        return Ok(());
    }
    Err(Corrupt::Revision {
        stream: envelope.stream.clone(),
        last,
        next: envelope.revision,
        position: envelope.position,
    })
}

/// The thing that an event is about, or the corruption that it is not there.
pub(super) fn created<'a, T>(
    found: Option<&'a mut T>,
    envelope: &Envelope,
) -> Result<&'a mut T, Corrupt> {
    found.ok_or_else(|| Corrupt::Uncreated {
        stream: envelope.stream.clone(),
        position: envelope.position,
    })
}
