use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{InquiryId, Lane, NodeId, wire::hop::MAX_HOPS};

/// The most relays and the most lanes that one explanation tells of; the best relays, by score.
pub const MAX_TOLD: usize = 16;
/// The most parts of a score.
pub const MAX_PARTS: usize = 16;
/// The most channel classes whose weights are told.
pub const MAX_CLASSES: usize = 8;
/// The longest word, in bytes.
pub const MAX_WORD_BYTES: usize = 32;

/// What a node makes of another, and by which path it reaches it: an answer to an operator. Nothing
/// is decided by it, for a node may say whatever it likes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The question that this answers.
    pub inquiry: InquiryId,
    /// `None` when the other is no peer, or is beyond those that the node keeps.
    pub peer: Option<ExplainedPeer>,
    /// The lanes that lead to it.
    pub lanes: Vec<ExplainedLane>,
    /// The relays among the node's peers, best first.
    pub relays: Vec<ExplainedPeer>,
    /// By the channel classes of lanes, what each part of a score counts there: the scores told here are
    /// of `interactive`. Empty from a node of a release that does not tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, BTreeMap<String, u16>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPeer {
    pub node: NodeId,
    /// `active`, `warm` or `cold`.
    pub class: String,
    /// It is connected and answers.
    pub up: bool,
    /// It failed, and is left alone for a while.
    pub resting: bool,
    /// Whether what it was given to forward arrived; `None` before the first try.
    pub forwards: Option<bool>,
    /// Of 1,000; `None` when a constraint rules it out.
    pub score: Option<u16>,
    /// The constraint.
    pub excluded_by: Option<String>,
    /// What the score is made of, each of 1,000.
    pub parts: BTreeMap<String, u16>,
    pub rtt_us: Option<u32>,
    pub failures: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedLane {
    pub lane: Lane,
    /// The relay that it goes through; `None` when it goes directly.
    pub relay: Option<NodeId>,
    /// The relays behind that one, in their order, where it goes through several.
    pub onward: Vec<NodeId>,
    pub rtt_ms: u64,
    /// Why it last changed its path.
    pub last_switch: Option<String>,
    /// `None` where no hole is wanted, and from a node of a release that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hole: Option<ExplainedHole>,
}

/// How far a lane is with a direct path through NATs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedHole {
    /// `open` where one carries the lane, `given_up`, `forbidden` by the platform, or what is being done.
    pub step: String,
    /// What the NATs on the node's side do with a port, and those on the other's: `steady`,
    /// `symmetric` or `unknown`.
    pub own_nat: String,
    pub far_nat: String,
    /// Why the last round came to nothing.
    pub failure: Option<String>,
}

impl Explanation {
    /// Whether it keeps to its bounds, and holds no text but words.
    pub fn is_plain(&self) -> bool {
        let peers = || self.peer.iter().chain(&self.relays);
        self.lanes.len() <= MAX_TOLD
            && self.relays.len() <= MAX_TOLD
            && self.lanes.iter().all(ExplainedLane::is_plain)
            && peers().all(ExplainedPeer::is_plain)
            && self.weights.len() <= MAX_CLASSES
            && self.weights.iter().all(|(class, parts)| is_word(class) && are_plain(parts))
    }
}

impl ExplainedLane {
    fn is_plain(&self) -> bool {
        self.onward.len() < MAX_HOPS
            && self.last_switch.as_deref().is_none_or(is_word)
            && self.hole.as_ref().is_none_or(ExplainedHole::is_plain)
    }
}

impl ExplainedHole {
    fn is_plain(&self) -> bool {
        [&self.step, &self.own_nat, &self.far_nat].into_iter().all(|word| is_word(word))
            && self.failure.as_deref().is_none_or(is_word)
    }
}

impl ExplainedPeer {
    fn is_plain(&self) -> bool {
        is_word(&self.class)
            && self.excluded_by.as_deref().is_none_or(is_word)
            && are_plain(&self.parts)
    }
}

fn are_plain(parts: &BTreeMap<String, u16>) -> bool {
    parts.len() <= MAX_PARTS && parts.keys().all(|part| is_word(part))
}

/// Small letters and what stands between them.
fn is_word(text: &str) -> bool {
    let letters = text.bytes().all(|c| c.is_ascii_lowercase() || matches!(c, b'_' | b'-' | b' '));
    letters && (1..=MAX_WORD_BYTES).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> ExplainedPeer {
        ExplainedPeer {
            node: NodeId::from_u128(7),
            class: "active".to_owned(),
            up: true,
            resting: false,
            forwards: None,
            score: Some(900),
            excluded_by: None,
            parts: [("latency".to_owned(), 1_000)].into(),
            rtt_us: Some(700),
            failures: 0,
        }
    }

    fn hole() -> ExplainedHole {
        ExplainedHole {
            step: "given_up".to_owned(),
            own_nat: "symmetric".to_owned(),
            far_nat: "symmetric".to_owned(),
            failure: Some("both_symmetric".to_owned()),
        }
    }

    fn explanation() -> Explanation {
        let lane = ExplainedLane {
            lane: Lane::Bulk,
            relay: None,
            onward: Vec::new(),
            rtt_ms: 3,
            last_switch: None,
            hole: Some(hole()),
        };
        let inquiry = InquiryId::from_u128(1);
        let weights = [("bulk".to_owned(), [("latency".to_owned(), 6)].into())].into();
        Explanation {
            inquiry,
            peer: Some(peer()),
            lanes: vec![lane],
            relays: vec![peer()],
            weights,
        }
    }

    #[test]
    fn what_a_node_tells_is_bounded_and_made_of_words() {
        assert!(explanation().is_plain());
        let mut full = explanation();
        full.relays = vec![peer(); MAX_TOLD];
        assert!(full.is_plain());
        full.relays.push(peer());
        assert!(!full.is_plain());
        let mut lanes = explanation();
        lanes.lanes = vec![lanes.lanes[0].clone(); MAX_TOLD + 1];
        assert!(!lanes.is_plain());
        let mut chain = explanation();
        chain.lanes[0].onward = vec![NodeId::from_u128(8); MAX_HOPS - 1];
        assert!(chain.is_plain());
        chain.lanes[0].onward.push(NodeId::from_u128(9));
        assert!(!chain.is_plain());
        let long = "a".repeat(MAX_WORD_BYTES + 1);
        for wrong in ["", "A", "<b>", "line\nline", "0", &long] {
            let changes: [fn(&mut Explanation, &str); 10] = [
                |it, word| it.relays[0].class = word.to_owned(),
                |it, word| it.relays[0].excluded_by = Some(word.to_owned()),
                |it, word| it.relays[0].parts = [(word.to_owned(), 1)].into(),
                |it, word| it.lanes[0].last_switch = Some(word.to_owned()),
                |it, word| it.lanes[0].hole.as_mut().expect("one").step = word.to_owned(),
                |it, word| it.lanes[0].hole.as_mut().expect("one").own_nat = word.to_owned(),
                |it, word| it.lanes[0].hole.as_mut().expect("one").far_nat = word.to_owned(),
                |it, word| {
                    it.lanes[0].hole.as_mut().expect("one").failure = Some(word.to_owned());
                },
                |it, word| it.weights = [(word.to_owned(), BTreeMap::new())].into(),
                |it, word| {
                    it.weights = [("bulk".to_owned(), [(word.to_owned(), 1)].into())].into();
                },
            ];
            for change in changes {
                let mut explanation = explanation();
                change(&mut explanation, wrong);
                assert!(!explanation.is_plain(), "{wrong:?}");
            }
        }
        let mut parts = explanation();
        let many = (0..=MAX_PARTS).map(|count| ("a".repeat(count + 1), 0));
        let many: BTreeMap<String, u16> = many.collect();
        parts.relays[0].parts = many.clone();
        assert!(!parts.is_plain());
        let mut weights = explanation();
        weights.weights = [("bulk".to_owned(), many)].into();
        assert!(!weights.is_plain());
        let classes = (0..=MAX_CLASSES).map(|count| ("a".repeat(count + 1), BTreeMap::new()));
        weights.weights = classes.collect();
        assert!(!weights.is_plain());
        weights.weights.pop_first();
        assert!(weights.is_plain());
    }
}
