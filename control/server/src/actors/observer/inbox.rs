//! Decides which bus messages are believed: signed by the node that they name, for this cluster,
//! on that node's own subject, fresh, and not heard before.

use std::{collections::BTreeMap, time::Duration};

use rap_bus::BusEvent;
use rap_control_core::State;
use rap_proto::{
    ClusterId, IncarnationId, NodeId, Timestamp,
    bus::{MESSAGE_TTL_MS, NodeMessage, up_subject},
    signed::{Trusted, Unverified},
    token::CLOCK_SKEW_MS,
};

/// The runs of one agent whose messages are told apart; the one that spoke longest ago is
/// forgotten first.
pub(crate) const MAX_INCARNATIONS: usize = 4;
/// The most nodes whose messages are told apart. When there are so many, those are forgotten
/// whose messages would be too old to be replayed, and what a further one says is not believed.
pub(crate) const MAX_SENDERS: usize = 100_000;
/// How often the senders are looked through for those that can be forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long after it was heard a message would still be fresh.
const MEMORY: Duration = Duration::from_millis(MESSAGE_TTL_MS + 2 * CLOCK_SKEW_MS);
/// How far messages may overtake each other.
pub(crate) const WINDOW: u64 = 64;

#[derive(Debug)]
pub(crate) struct Inbox {
    limit: usize,
    senders: BTreeMap<NodeId, Vec<Run>>,
    swept: Timestamp,
}

/// What was heard of one run of an agent.
#[derive(Debug)]
struct Run {
    incarnation: IncarnationId,
    greatest: u64,
    /// Bit `n`: whether `greatest - n` was heard.
    heard: u64,
    last: Timestamp,
}

/// Why a message is not believed; the word is a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Disbelief {
    #[error("not a node's message")]
    Malformed,
    #[error("of another cluster")]
    WrongCluster,
    #[error("not on the sender's own subject")]
    WrongSubject,
    #[error("of no approved node")]
    UnknownSender,
    #[error("not signed by its sender")]
    NotSigned,
    /// The node follows an authority that this replica's log knows nothing of: what it tells is
    /// that one's to record.
    #[error("of a later authority epoch")]
    LaterEpoch,
    #[error("too old, or from the future")]
    NotFresh,
    #[error("heard before")]
    Replayed,
    #[error("too many nodes speak")]
    LimitReached,
}

impl Disbelief {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongCluster => "wrong_cluster",
            Self::WrongSubject => "wrong_subject",
            Self::UnknownSender => "unknown_sender",
            Self::NotSigned => "not_signed",
            Self::LaterEpoch => "later_epoch",
            Self::NotFresh => "not_fresh",
            Self::Replayed => "replayed",
            Self::LimitReached => "limit_reached",
        }
    }
}

impl Inbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, senders: BTreeMap::new(), swept: Timestamp::default() }
    }

    pub(crate) fn accept(
        &mut self,
        state: &State,
        cluster: ClusterId,
        event: &BusEvent,
        now: Timestamp,
    ) -> Result<NodeMessage, Disbelief> {
        let sealed =
            Unverified::<NodeMessage>::parse(&event.payload).map_err(|_| Disbelief::Malformed)?;
        let claimed = sealed.peek().map_err(|_| Disbelief::Malformed)?;
        if claimed.cluster != cluster {
            return Err(Disbelief::WrongCluster);
        }
        if event.subject != up_subject(cluster, claimed.sender) {
            return Err(Disbelief::WrongSubject);
        }
        let sender = state
            .nodes()
            .get(claimed.sender)
            .filter(|node| node.is_approved())
            .ok_or(Disbelief::UnknownSender)?;
        let message = sealed
            .verify(&Trusted::one(sender.key))
            .map_err(|_| Disbelief::NotSigned)?
            .into_inner();
        if message.authority_epoch > state.authority().epoch() {
            return Err(Disbelief::LaterEpoch);
        }
        check_times(&message, now)?;
        self.hear(&message, now)?;
        Ok(message)
    }

    fn hear(&mut self, message: &NodeMessage, now: Timestamp) -> Result<(), Disbelief> {
        if !self.senders.contains_key(&message.sender) && !self.has_room(now) {
            return Err(Disbelief::LimitReached);
        }
        let runs = self.senders.entry(message.sender).or_default();
        if let Some(run) = runs.iter_mut().find(|run| run.incarnation == message.incarnation) {
            return run.hear(message.sequence, now);
        }
        if runs.len() >= MAX_INCARNATIONS {
            let oldest = (0..runs.len()).min_by_key(|at| runs[*at].last);
            oldest.map(|at| runs.swap_remove(at));
        }
        runs.push(Run {
            incarnation: message.incarnation,
            greatest: message.sequence,
            heard: 1,
            last: now,
        });
        Ok(())
    }
}

impl Inbox {
    /// Whether one more sender can be told apart. Nobody is forgotten whose messages somebody
    /// could say again.
    fn has_room(&mut self, now: Timestamp) -> bool {
        if self.senders.len() >= self.limit && now >= self.swept + SWEEP_INTERVAL {
            self.swept = now;
            self.senders.retain(|_, runs| runs.iter().any(|run| now <= run.last + MEMORY));
        }
        self.senders.len() < self.limit
    }
}

impl Run {
    fn hear(&mut self, sequence: u64, now: Timestamp) -> Result<(), Disbelief> {
        self.last = now;
        if sequence > self.greatest {
            let ahead = sequence - self.greatest;
            self.heard = if ahead < WINDOW { self.heard << ahead | 1 } else { 1 };
            self.greatest = sequence;
            return Ok(());
        }
        let behind = self.greatest - sequence;
        if behind >= WINDOW || self.heard >> behind & 1 == 1 {
            return Err(Disbelief::Replayed);
        }
        self.heard |= 1 << behind;
        Ok(())
    }
}

fn check_times(message: &NodeMessage, now: Timestamp) -> Result<(), Disbelief> {
    let skew = Duration::from_millis(CLOCK_SKEW_MS);
    let lifetime = message.expires_at.since(message.issued_at);
    let fresh = message.issued_at <= now + skew
        && now <= message.expires_at + skew
        && lifetime <= Duration::from_millis(MESSAGE_TTL_MS);
    if fresh { Ok(()) } else { Err(Disbelief::NotFresh) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run() -> Run {
        let incarnation = IncarnationId::from_u128(1);
        Run { incarnation, greatest: 10, heard: 1, last: Timestamp::default() }
    }

    #[test]
    fn each_sequence_is_heard_once_within_the_window() {
        let (mut run, now) = (run(), Timestamp::default());
        assert_eq!(run.hear(10, now), Err(Disbelief::Replayed));
        assert_eq!(run.hear(8, now), Ok(()));
        assert_eq!(run.hear(8, now), Err(Disbelief::Replayed));
        assert_eq!(run.hear(12, now), Ok(()));
        assert_eq!(run.hear(11, now), Ok(()));
        assert_eq!(run.hear(10, now), Err(Disbelief::Replayed));
        assert_eq!(run.hear(12 + WINDOW, now), Ok(()));
        assert_eq!(run.hear(12, now), Err(Disbelief::Replayed));
    }

    fn message(sender: u128, incarnation: u128, sequence: u64) -> NodeMessage {
        NodeMessage {
            cluster: ClusterId::from_u128(1),
            authority_epoch: 1,
            sender: NodeId::from_u128(sender),
            incarnation: IncarnationId::from_u128(incarnation),
            sequence,
            issued_at: Timestamp::default(),
            expires_at: Timestamp::default(),
            body: rap_proto::bus::NodeBody::Observations(Vec::new()),
        }
    }

    #[test]
    fn a_sender_has_a_bounded_number_of_runs() {
        let mut inbox = Inbox::new(MAX_SENDERS);
        for incarnation in 0..10 {
            inbox.hear(&message(2, incarnation, 1), Timestamp::default()).unwrap();
        }
        assert_eq!(inbox.senders[&NodeId::from_u128(2)].len(), MAX_INCARNATIONS);
    }

    #[test]
    fn a_sender_too_many_is_not_believed_and_makes_nobody_replayable() {
        let mut inbox = Inbox::new(2);
        let start = Timestamp::from_unix_millis(1_000_000);
        inbox.hear(&message(1, 1, 1), start).unwrap();
        inbox.hear(&message(2, 1, 1), start + SWEEP_INTERVAL).unwrap();
        let late = start + MEMORY;
        assert_eq!(inbox.hear(&message(3, 1, 1), late), Err(Disbelief::LimitReached));
        for known in [1, 2] {
            assert_eq!(inbox.hear(&message(known, 1, 1), late), Err(Disbelief::Replayed));
        }
        inbox.hear(&message(2, 1, 2), late).unwrap();
        // The first one's messages are too old by now to be believed again.
        let later = late + MEMORY - SWEEP_INTERVAL;
        inbox.hear(&message(2, 1, 3), later).unwrap();
        assert_eq!(inbox.hear(&message(3, 1, 1), later), Err(Disbelief::LimitReached));
        inbox.hear(&message(3, 1, 1), late + MEMORY + SWEEP_INTERVAL).unwrap();
        assert_eq!(inbox.senders.len(), 2);
    }
}
