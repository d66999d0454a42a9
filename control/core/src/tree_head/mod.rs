//! What one tree head says of a log that has come further, or should have.
//!
//! A log only grows: what was once its head is the beginning of whatever it is now. Who finds that
//! it is not builds nothing more upon the log.

use rap_events::heads::SealedHead;
use rap_proto::{ClusterId, Digest, PublicKey, observation::LogRefusal};
use rap_tlog::{OpenHeadError, TreeHead, VerifierKey, proof};

/// How a log stands to an earlier head of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// It is still what the head is of.
    Same,
    /// It grew out of it.
    Grown,
    /// It is longer; whether it grew out of the head takes a consistency proof.
    Unproven,
    /// It is not the log that the head is of.
    Refuted(LogRefusal),
}

/// Why no further head is sealed. None of these says that the log is wrong: that is
/// [`Succession::Refuted`]. Each says that nobody could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The log, or what was sealed, cannot be read now: try again.
    Unread,
    /// The newest sealed head is none that this control plane signed: find out who changed it.
    Unopened,
    /// The log's tree lacks what the proof needs: find out who changed it.
    Unproven,
}

/// The newest sealed head is not one that this control plane signed for this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    #[error(transparent)]
    Note(#[from] OpenHeadError),
    #[error("the head of {signed} events is kept as one of {kept}")]
    Misplaced { kept: u64, signed: u64 },
    /// Whoever sealed it speaks for the cluster now, and this log is of the time before.
    #[error("the head is of authority epoch {sealed}, and this log of {present}")]
    LaterEpoch { sealed: u64, present: u64 },
}

/// Opens a sealed head with the control key alone: whoever else signed it proves nothing here.
/// `epoch` is the authority epoch of the log as it is now.
pub fn open(
    kept: &SealedHead,
    cluster: ClusterId,
    control: PublicKey,
    epoch: u64,
) -> Result<TreeHead, NotOpened> {
    let head = TreeHead::open(&kept.note, cluster, &[VerifierKey::p256(cluster, control)])?;
    if head.size != kept.size {
        return Err(NotOpened::Misplaced { kept: kept.size, signed: head.size });
    }
    if head.epoch() > epoch {
        return Err(NotOpened::LaterEpoch { sealed: head.epoch(), present: epoch });
    }
    Ok(head)
}

/// Judges the log of `size` events and `root` by an earlier head of it. `consistency` is the proof
/// of RFC 6962, section 2.1.2, from the head's size to `size`; it is looked at only when sizes and
/// roots do not tell.
pub fn succession(
    earlier: &TreeHead,
    (size, root): (u64, &Digest),
    consistency: Option<&[Digest]>,
) -> Succession {
    if earlier.size > size {
        return Succession::Refuted(LogRefusal::Shorter);
    }
    if earlier.size == size {
        let same = earlier.root == *root;
        return if same { Succession::Same } else { Succession::Refuted(LogRefusal::Forked) };
    }
    let Some(consistency) = consistency else { return Succession::Unproven };
    match proof::check_consistency(consistency, (earlier.size, &earlier.root), (size, root)) {
        Ok(()) => Succession::Grown,
        Err(_) => Succession::Refuted(LogRefusal::Forked),
    }
}

impl Obstacle {
    pub const ALL: &'static [Self] = &[Self::Unread, Self::Unopened, Self::Unproven];

    /// Its word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Unopened => "unopened",
            Self::Unproven => "unproven",
        }
    }

    /// What whoever watches is told.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Unread => "the log cannot be read",
            Self::Unopened => "the newest sealed one was not signed here",
            Self::Unproven => "the log's tree lacks what proves that it grew",
        }
    }
}

#[cfg(test)]
mod tests;
