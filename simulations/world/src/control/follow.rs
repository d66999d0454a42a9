//! Following the log, as the server's follower does: each read begins with the event that was folded
//! last. Another one there, or none, means that the database lost what was folded, and the replica
//! halts until somebody starts it again.

use rap_events::{Envelope, entry, log::MAX_READ_EVENTS};
use rap_proto::Digest;

use super::{Control, at_once};
use crate::{checkers::Violation, mutation::Mutation, turn::Turn};

/// What a replica folded, beside the state that it made of it.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// The event that was folded last.
    last: Option<Envelope>,
    /// The hash over all events up to each position, where the checkers want to know.
    chain: Vec<Digest>,
    /// What was folded is not in the log any more.
    pub(super) halted: bool,
}

impl Followed {
    pub(super) fn push(&mut self, envelope: &Envelope, traced: bool) {
        if traced {
            self.chain.push(chained(self.chain.last(), envelope));
        }
        self.last = Some(envelope.clone());
    }
}

/// The hash over all events up to this one.
pub fn chained(before: Option<&Digest>, envelope: &Envelope) -> Digest {
    let leaf = entry::leaf(envelope);
    match before {
        Some(before) => Digest::of_parts(&[before.as_bytes(), leaf.as_bytes()]),
        None => leaf,
    }
}

impl Control {
    /// From now on the checkers are told which log this replica folded.
    pub fn trace(&mut self) {
        self.traced = true;
    }

    /// Whether what it folded was lost.
    pub fn is_halted(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.followed.halted)
    }

    /// Whether a node proved that the log is not the one that it saw.
    pub fn is_refuted(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.refuted)
    }

    /// The hash over everything that it folded, with the position of the last; where that is traced.
    pub fn folded(&self) -> Option<(u64, Digest)> {
        let running = self.running.as_ref()?;
        Some((running.state.position(), *running.followed.chain.last()?))
    }

    /// The hash over everything that it folded up to a position; none where that is not traced.
    pub(super) fn lineage(&self, position: u64) -> Option<Digest> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.running.as_ref()?.followed.chain.get(index).copied()
    }

    pub(super) fn fold(&mut self, turn: &mut Turn<'_>) {
        let deaf = turn.planted(Mutation::OthersNotFolded) && self.leads(turn).is_none();
        let blind = turn.planted(Mutation::LossNotNoticed);
        let Some(running) = self.running.as_mut().filter(|running| !running.followed.halted) else {
            return;
        };
        loop {
            let position = running.state.position();
            let before = position.saturating_sub(1);
            let Ok(mut page) = at_once(self.log.read(before, MAX_READ_EVENTS)) else { return };
            if position > 0 {
                if !blind && page.first() != running.followed.last.as_ref() {
                    running.followed.halted = true;
                    turn.coverage.count("replicas", "halts");
                    turn.note(format_args!("replica {} halts at {position}", self.index));
                    return;
                }
                page.drain(..page.len().min(1));
            }
            if page.is_empty() || deaf {
                return;
            }
            let swapped = match turn.planted(Mutation::FoldedOutOfOrder) {
                true => out_of_order(&page),
                false => Vec::new(),
            };
            for (index, envelope) in page.iter().enumerate() {
                if let Err(error) = running.state.fold(swapped.get(index).unwrap_or(envelope)) {
                    let violation = Violation::new("replay", format!("control halts: {error}"));
                    return turn.judge(Err(violation));
                }
                running.followed.push(envelope, self.traced);
            }
            turn.checkers.beat.read(self.index, running.state.position());
        }
    }
}

/// The same events, the first two neighbours of different streams in each other's place. No stream
/// lacks anything and no position does, so nothing but a comparison can find it.
fn out_of_order(page: &[Envelope]) -> Vec<Envelope> {
    let mut page = page.to_vec();
    if let Some(at) = page.windows(2).position(|pair| pair[0].stream != pair[1].stream) {
        let (first, second) = (page[at].position, page[at + 1].position);
        page.swap(at, at + 1);
        (page[at].position, page[at + 1].position) = (first, second);
    }
    page
}
