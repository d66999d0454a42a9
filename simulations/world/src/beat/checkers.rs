//! What must always hold of beats. The checkers see what happens in true time and keep their own
//! books; they share no code with what they check.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_events::beat::Ballot;
use rap_proto::{
    Authority, Digest, Moment,
    beat::{BEAT_TTL_MS, Beat, ISOLATED_AFTER_MS},
    codec,
    lease::DRIFT_PPM,
    signed::Payload as _,
};

use crate::kit::{Verdict, keys::REPLICAS};

use super::{clock, coverage::word};

/// No two different beats of one sequence have a quorum of signatures.
pub const SINGLE_BEAT: &str = "single_beat";
/// Nobody signs a beat that is above what he read from the primary.
pub const NOTHING_UNREAD: &str = "nothing_unread";
/// Nobody acts on a beat without a quorum of signatures.
pub const QUORUM: &str = "quorum";
/// No node goes back to an older beat or statement.
pub const NEVER_BACK: &str = "never_back";
/// What a beat gives ends in its time: healthy, then degraded, then isolated.
pub const ENDS_IN_TIME: &str = "ends_in_time";
/// When nothing fails, every replica and every node comes to hold a beat, and keeps it.
pub const LIVENESS: &str = "liveness";

const ENOUGH: usize = REPLICAS / 2 + 1;
/// How wrong two calendars and a drift over a beat's life are together, and a little more.
const MARGIN: Duration = Duration::from_millis(1_500);

#[derive(Debug, Default)]
pub struct Checkers {
    /// Who signed which beat of a sequence.
    signed: BTreeMap<u64, BTreeMap<Digest, BTreeSet<usize>>>,
    /// How far each running replica was told the log.
    read: [u64; REPLICAS],
    nodes: Vec<Book>,
    /// Until when, in true time, the last beat that a quorum signed can count at most.
    agreed: Option<Moment>,
    /// The sequences of which two beats may have a quorum: votes were lost.
    doubtful: BTreeSet<u64>,
    /// Whether no calendar is set wrong.
    calendars: bool,
    calm: bool,
    pub verdict: Verdict,
}

#[derive(Debug, Default)]
struct Book {
    /// The place of the statement, and the beat.
    heard: Option<((u64, u64), Beat)>,
    /// Until when, in true time, what was heard can count at most.
    until: Moment,
}

impl Checkers {
    pub fn new(nodes: usize, calendars: bool) -> Self {
        Self { nodes: (0..nodes).map(|_| Book::default()).collect(), calendars, ..Self::default() }
    }

    /// From now on nobody may lose what he has.
    pub fn calm(&mut self) {
        self.calm = true;
    }

    /// The primary told a replica of the log up to this position; zero when it starts.
    pub fn read(&mut self, replica: usize, head: u64) {
        self.read[replica] = if head == 0 { 0 } else { self.read[replica].max(head) };
    }

    /// A primary that `had` this takes over with what its standby `has`. Replicas that start again
    /// may vote twice, from where the standby was up to the last vote that was lost.
    pub fn votes_lost(&mut self, had: &Ballot, has: &Ballot) {
        if (&had.proposal, &had.votes) != (&has.proposal, &has.votes) {
            self.doubtful.extend(newest(has)..=newest(had));
        }
    }

    /// Only what may be `stored` counts for a quorum: nobody finds the others' signatures.
    pub fn signed(&mut self, now: Moment, replica: usize, payload: &[u8], stored: bool) {
        let Ok(beat) = codec::decode::<Beat>(payload, Beat::MAX_BYTES) else {
            self.verdict
                .violated(NOTHING_UNREAD, format!("replica {replica} signs what is no beat"));
            return;
        };
        let (sequence, floor, read) = (beat.sequence, beat.snapshot_floor, self.read[replica]);
        if floor > read {
            let detail =
                format!("replica {replica} signs {floor} in beat {sequence}, having read {read}");
            self.verdict.violated(NOTHING_UNREAD, detail);
        }
        if !stored {
            return;
        }
        let beats = self.signed.entry(sequence).or_default();
        let signers = beats.entry(Digest::of(payload)).or_default();
        // Whoever signs later makes the beat no younger.
        if signers.insert(replica) && signers.len() == ENOUGH {
            let until = now + stretched(Duration::from_millis(BEAT_TTL_MS)) + MARGIN;
            self.agreed = self.agreed.max(Some(until));
        }
        let reached: Vec<_> = beats.values().filter(|signers| signers.len() >= ENOUGH).collect();
        if let [one, other, ..] = reached[..]
            && !self.doubtful.contains(&sequence)
        {
            let detail = format!("one beat {sequence} is of {one:?}, another one of {other:?}");
            self.verdict.violated(SINGLE_BEAT, detail);
        }
    }

    /// Something was granted, which takes a beat that a quorum signed.
    pub fn granted(&mut self, now: Moment, what: &str) {
        let Some(late) = self.agreed.map(|until| now.since(until)) else {
            return self.verdict.violated(QUORUM, format!("{what} before the first beat"));
        };
        if late > Duration::ZERO {
            let detail = format!("{what} {late:?} after the end of the last beat");
            self.verdict.violated(QUORUM, detail);
        }
    }

    /// A replica acts on this beat.
    pub fn holds(&mut self, replica: usize, beat: &Beat) {
        self.has_quorum(&format!("replica {replica}"), beat);
    }

    /// Whether a replica may still act on this beat, by the calendars.
    pub fn still_holds(&mut self, now: Moment, replica: usize, beat: &Beat) {
        let end = clock::moment(beat.expires_at) + MARGIN;
        if self.calendars && now > end {
            let late = now.since(end);
            self.verdict
                .violated(ENDS_IN_TIME, format!("replica {replica} holds a beat {late:?} longer"));
        }
    }

    /// A node takes up this beat, signed under a statement of this place.
    pub fn accepted(&mut self, now: Moment, node: usize, place: (u64, u64), beat: &Beat) {
        self.has_quorum(&format!("node {node}"), beat);
        if let Some((known, last)) = &self.nodes[node].heard {
            let back = place < *known
                || beat.sequence <= last.sequence
                || beat.snapshot_floor < last.snapshot_floor
                || beat.deny_version < last.deny_version;
            if back {
                let (was, is) = (last.sequence, beat.sequence);
                let detail = format!(
                    "node {node} was at beat {was} of {known:?}, and is at {is} of {place:?}"
                );
                self.verdict.violated(NEVER_BACK, detail);
            }
        }
        self.heard(now, node, place, beat);
    }

    /// A node starts with this beat on its disk. It may have come there in its last moment.
    pub fn restored(&mut self, now: Moment, node: usize, place: (u64, u64), beat: &Beat) {
        let known = self.nodes[node].heard.as_ref().map(|(_, beat)| beat.sequence);
        if known.is_none_or(|known| known <= beat.sequence) {
            self.heard(now, node, place, beat);
        }
    }

    /// A person removed what the node had heard.
    pub fn trusted_again(&mut self, node: usize) {
        self.nodes[node].heard = None;
    }

    /// What a running node makes of what it heard.
    pub fn stands(&mut self, now: Moment, node: usize, authority: Authority) {
        let until = self.nodes[node].until;
        let isolated = until + stretched(Duration::from_millis(ISOLATED_AFTER_MS)) + MARGIN;
        let late = match authority {
            Authority::Healthy => now > until,
            Authority::Degraded { .. } => now > isolated,
            Authority::Unheard | Authority::Isolated { .. } => false,
        };
        if late {
            let (state, late) = (word(authority), now.since(until));
            let detail = format!("node {node} is {state} {late:?} after the end of its last beat");
            self.verdict.violated(ENDS_IN_TIME, detail);
        }
        if self.calm && authority != Authority::Healthy {
            let detail = format!("nothing fails, and node {node} becomes {}", word(authority));
            self.verdict.violated(LIVENESS, detail);
        }
    }

    fn heard(&mut self, now: Moment, node: usize, place: (u64, u64), beat: &Beat) {
        let longest = now + stretched(Duration::from_millis(BEAT_TTL_MS));
        let end = clock::moment(beat.expires_at) + MARGIN;
        let until = if self.calendars { longest.min(end) } else { longest };
        let book = &mut self.nodes[node];
        book.until = book.until.max(until);
        book.heard = Some((place, beat.clone()));
    }

    fn has_quorum(&mut self, who: &str, beat: &Beat) {
        let payload = Digest::of(&codec::encode(beat));
        let beats = self.signed.get(&beat.sequence);
        let signers = beats.and_then(|beats| beats.get(&payload)).map_or(0, BTreeSet::len);
        if signers < ENOUGH {
            let sequence = beat.sequence;
            let detail = format!("{who} acts on beat {sequence}, which {signers} replicas signed");
            self.verdict.violated(QUORUM, detail);
        }
    }
}

impl AsRef<Verdict> for Checkers {
    fn as_ref(&self) -> &Verdict {
        &self.verdict
    }
}

fn newest(ballot: &Ballot) -> u64 {
    let proposed = ballot.proposal.iter().map(|proposal| proposal.sequence);
    proposed.chain(ballot.votes.iter().map(|vote| vote.sequence)).max().unwrap_or(0)
}

/// How long a span of the slowest clock is.
fn stretched(span: Duration) -> Duration {
    let million = 1_000_000;
    span * million / (million - DRIFT_PPM) + Duration::from_millis(2)
}
