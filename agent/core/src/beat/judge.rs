//! Whether a beat counts: signed by a quorum of the replicas that a statement lists, which the
//! control key signed, for this cluster, in its time, and later than every one before.

use std::time::Duration;

use rap_proto::{
    ClusterId, Digest, PublicKey, Timestamp,
    beat::{Beat, EpochStatement},
    signed::{self, Trusted},
    token::CLOCK_SKEW_MS,
    wire::node_api::BeatReply,
};

use super::BeatFloor;

const SKEW: Duration = Duration::from_millis(CLOCK_SKEW_MS);

/// Why a beat did not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeatRefusal {
    #[error("the epoch statement is not signed by control, or cannot be read")]
    StatementNotTrusted,
    #[error("the epoch statement is of another cluster, or contradicts itself")]
    StatementInvalid,
    #[error("the epoch statement is older than the known one, or another one of the same number")]
    StatementOlder,
    #[error("the beat is not signed by a quorum of the replicas")]
    NoQuorum,
    #[error("the beat is of another cluster, epoch or statement")]
    Foreign,
    #[error("the beat is outside its life")]
    OutsideItsLife,
    #[error("the beat is older than the known one, or its log is shorter")]
    Older,
    #[error("another beat of the same sequence is known")]
    Equivocation,
}

impl BeatRefusal {
    pub const ALL: [Self; 8] = [
        Self::StatementNotTrusted,
        Self::StatementInvalid,
        Self::StatementOlder,
        Self::NoQuorum,
        Self::Foreign,
        Self::OutsideItsLife,
        Self::Older,
        Self::Equivocation,
    ];
}

/// A verified statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) statement: EpochStatement,
    pub(super) digest: Digest,
    pub(super) signed: Vec<u8>,
}

pub(super) struct Judge {
    cluster: ClusterId,
    keys: Vec<PublicKey>,
    stated: Option<Stated>,
    /// As found on disk: verified once the control keys are known.
    kept: Option<Vec<u8>>,
}

impl Judge {
    pub(super) fn new(cluster: ClusterId) -> Self {
        Self { cluster, keys: Vec::new(), stated: None, kept: None }
    }

    pub(super) fn stated(&self) -> Option<&Stated> {
        self.stated.as_ref()
    }

    pub(super) fn restore(&mut self, floor: &BeatFloor) {
        self.kept = Some(floor.statement.clone());
        self.verify_kept();
    }

    pub(super) fn trust(&mut self, keys: Vec<PublicKey>) {
        self.keys = keys;
        self.verify_kept();
    }

    /// The statement of a beat that counts from now on.
    pub(super) fn keep(&mut self, floor: &BeatFloor) {
        if self.stated.as_ref().is_none_or(|stated| stated.signed != floor.statement) {
            self.stated = self.open_statement(&floor.statement).ok();
        }
    }

    /// What is to be kept of a reply; `None` when it tells nothing new.
    pub(super) fn judge(
        &self,
        reply: &BeatReply,
        known: Option<&Beat>,
        at: Timestamp,
    ) -> Result<Option<BeatFloor>, BeatRefusal> {
        let offered = match reply.statement.as_slice() {
            [] => None,
            bytes => Some(self.newer_statement(bytes)?),
        };
        let stated = offered.as_ref().or(self.stated.as_ref());
        let stated = stated.ok_or(BeatRefusal::StatementNotTrusted)?;
        let beat = signed::open::<Beat>(&reply.beat, &stated.statement.trusted())
            .map_err(|_| BeatRefusal::NoQuorum)?
            .into_inner();
        let statement = &stated.statement;
        let foreign = beat.cluster != self.cluster
            || beat.epoch != statement.epoch
            || beat.statement != stated.digest;
        if foreign {
            return Err(BeatRefusal::Foreign);
        }
        if let Some(known) = known {
            if beat == *known {
                return Ok(None);
            }
            check_order(&beat, known)?;
        }
        if !beat.is_bounded() || beat.issued_at > at + SKEW || at >= beat.expires_at {
            return Err(BeatRefusal::OutsideItsLife);
        }
        let records_changes = reply.records_changes;
        Ok(Some(BeatFloor { statement: stated.signed.clone(), beat, records_changes }))
    }

    fn newer_statement(&self, bytes: &[u8]) -> Result<Stated, BeatRefusal> {
        let offered = self.open_statement(bytes)?;
        let place = |statement: &EpochStatement| (statement.epoch, statement.revision);
        if let Some(known) = &self.stated {
            let (new, old) = (place(&offered.statement), place(&known.statement));
            if new < old || (new == old && offered.digest != known.digest) {
                return Err(BeatRefusal::StatementOlder);
            }
        }
        Ok(offered)
    }

    fn open_statement(&self, bytes: &[u8]) -> Result<Stated, BeatRefusal> {
        if self.keys.is_empty() {
            return Err(BeatRefusal::StatementNotTrusted);
        }
        let trusted = Trusted::new(self.keys.iter().copied(), 1);
        let opened = signed::open::<EpochStatement>(bytes, &trusted)
            .map_err(|_| BeatRefusal::StatementNotTrusted)?;
        let digest = opened.digest();
        let statement = opened.into_inner();
        if statement.cluster != self.cluster || statement.check().is_err() {
            return Err(BeatRefusal::StatementInvalid);
        }
        Ok(Stated { statement, digest, signed: bytes.to_vec() })
    }

    fn verify_kept(&mut self) {
        if self.stated.is_none()
            && let Some(kept) = &self.kept
        {
            self.stated = self.open_statement(kept).ok();
        }
    }
}

fn check_order(beat: &Beat, known: &Beat) -> Result<(), BeatRefusal> {
    if beat.sequence == known.sequence {
        return Err(BeatRefusal::Equivocation);
    }
    let falls = beat.epoch < known.epoch
        || beat.sequence < known.sequence
        || beat.snapshot_floor < known.snapshot_floor
        || beat.deny_version < known.deny_version;
    if falls { Err(BeatRefusal::Older) } else { Ok(()) }
}
