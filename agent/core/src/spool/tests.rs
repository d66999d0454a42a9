#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rap_proto::{
    Lane, NodeId, OrganizationId, RefusalCode, SessionId,
    paths::{PathCarrier, PathChange, PathKind},
};

use super::*;
use crate::disk::{Disk, SimDisk, StateFile};

const NOW: Timestamp = Timestamp::from_unix_millis(1_000);
const START: Moment = Moment::from_micros(0);

fn started(session: u128) -> Observation {
    Observation::SessionStarted { session: SessionId::from_u128(session), from: None }
}

fn stranger() -> Observation {
    Observation::AccessRefused { code: RefusalCode::TokenUntrusted, claimed: None }
}

fn path_changed() -> Observation {
    let change = PathChange {
        egress: NodeId::from_u128(1),
        organization: OrganizationId::from_u128(2),
        lane: Lane::Bulk,
        carrier: PathCarrier::Quic,
        from: None,
        to: Some(PathKind::Direct),
        left_out: 0,
    };
    Observation::PathChanged { change }
}

/// A spool and its disk, driven as the shell drives them.
struct Node {
    spool: Spool,
    disk: SimDisk,
    sent: Vec<Vec<Spooled>>,
    left_out: u64,
}

impl Node {
    fn start(disk: SimDisk) -> Self {
        let bytes = disk.read(StateFile::Spool).unwrap();
        let spool = Spool::restore(bytes.as_deref(), 1);
        Self { spool, disk, sent: Vec::new(), left_out: 0 }
    }

    fn observe(&mut self, observation: Observation) {
        self.input(Input::Observed { observation, at: NOW });
    }

    fn link(&mut self, up: bool) {
        self.input(Input::Link { up });
    }

    fn input(&mut self, input: Input) {
        self.spool.handle_input(START, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.spool.poll_effect() {
            match effect {
                Effect::Write(write) => {
                    let outcome = match write {
                        Write::Append(bytes) => self.disk.append(StateFile::Spool, &bytes),
                        Write::Replace(bytes) => self.disk.replace(StateFile::Spool, &bytes),
                    };
                    let input = if outcome.is_ok() { Input::Written } else { Input::WriteFailed };
                    self.spool.handle_input(START, input);
                }
                Effect::Send(batch) => self.sent.push(batch),
                Effect::LeftOut(count) => self.left_out += count,
            }
        }
    }

    fn sequences(&self) -> Vec<u64> {
        self.sent.iter().flatten().map(|one| one.sequence).collect()
    }
}

#[test]
fn observations_are_kept_until_they_are_recorded() {
    let mut node = Node::start(SimDisk::new());
    node.observe(started(1));
    node.observe(started(2));
    assert!(node.sent.is_empty(), "no link yet");
    node.link(true);
    assert_eq!(node.sequences(), [1, 2]);
    node.observe(started(3));
    assert_eq!(node.sent.len(), 1, "one batch at a time");
    node.input(Input::Recorded { through: 2 });
    assert_eq!(node.sequences(), [1, 2, 3]);

    let mut again = Node::start(node.disk);
    again.link(true);
    assert!(again.sequences().ends_with(&[3]), "what was not recorded is sent again");
    again.input(Input::Recorded { through: 3 });
    assert_eq!(again.spool.waiting(), 0);
    again.observe(started(4));
    assert_eq!(again.sequences().last(), Some(&4), "a sequence is never used twice");
}

#[test]
fn a_batch_is_sent_again_with_growing_patience() {
    let mut node = Node::start(SimDisk::new());
    node.link(true);
    node.observe(started(1));
    let mut now = START;
    for _ in 0..10 {
        let due = node.spool.poll_timeout().unwrap();
        assert!(due.since(now) <= Duration::from_secs(72));
        now = due;
        node.spool.handle_timeout(now);
        node.drain();
    }
    assert_eq!(node.sent.len(), 11);
    assert!(node.sent.iter().all(|batch| *batch == node.sent[0]));
    node.link(false);
    assert_eq!(node.spool.poll_timeout(), None, "nothing is sent without a link");
}

#[test]
fn batches_and_the_spool_are_bounded() {
    let mut node = Node::start(SimDisk::new());
    for _ in 0..STRANGER_LIMIT + 7 {
        node.observe(stranger());
    }
    assert_eq!((node.spool.waiting(), node.left_out), (STRANGER_LIMIT, 7));
    node.observe(path_changed());
    assert_eq!((node.spool.waiting(), node.left_out), (STRANGER_LIMIT, 8), "as little as they");
    for session in 0..MAX_SPOOLED as u128 {
        node.observe(started(session));
    }
    let left_out = 8 + STRANGER_LIMIT as u64;
    assert_eq!((node.spool.waiting(), node.left_out), (MAX_SPOOLED, left_out));
    node.link(true);
    assert_eq!(node.sent[0].len(), MAX_OBSERVATIONS);
    let size = node.disk.read(StateFile::Spool).unwrap().unwrap().len();
    assert!(size <= MAX_FILE_BYTES / 2, "{size}");

    while let Some(last) = node.sent.last().and_then(|batch| batch.last()).map(|l| l.sequence) {
        node.sent.clear();
        node.input(Input::Recorded { through: last });
    }
    assert_eq!(node.spool.waiting(), 0);
    let size = node.disk.read(StateFile::Spool).unwrap().unwrap().len();
    assert!(size < 64, "what was recorded is cut off: {size}");
}

#[test]
fn an_oversized_observation_is_left_out() {
    let mut node = Node::start(SimDisk::new());
    node.observe(Observation::WorkerExited { kind: "x".repeat(2_000), sessions: 1 });
    assert_eq!((node.spool.waiting(), node.left_out), (0, 1));
}

#[test]
fn confirming_what_was_never_sent_drops_nothing() {
    let mut node = Node::start(SimDisk::new());
    node.observe(started(1));
    node.input(Input::Recorded { through: 99 });
    assert_eq!(node.spool.waiting(), 1);
}

/// The power is cut at every single step of one append and of one replacement.
#[test]
fn a_power_cut_at_any_byte_loses_nothing_that_was_durable() {
    for fresh in [true, false] {
        let mut before = Node::start(SimDisk::new());
        if !fresh {
            before.observe(started(1));
            before.observe(started(2));
        }
        let durable = before.spool.waiting();
        let base = before.disk.clone();
        let start = before.disk.steps();
        before.observe(started(3));
        let steps = before.disk.steps() - start;
        for cut in 0..=steps {
            for survives in [false, true] {
                let mut node = Node::start(base.clone());
                node.link(true);
                node.disk.cut_after(cut, survives);
                node.observe(started(3));
                let sent = node.sequences();
                let mut disk = node.disk;
                disk.restore_power();
                let mut again = Node::start(disk);
                let kept = again.spool.waiting();
                assert!([durable, durable + 1].contains(&kept), "cut at {cut}");
                again.observe(started(4));
                again.link(true);
                let fresh_sequence = again.spool.next_sequence - 1;
                let new = again.spool.kept.back().unwrap();
                assert_eq!((new.sequence, &new.observation), (fresh_sequence, &started(4)));
                let clash = sent.contains(&fresh_sequence);
                assert!(!clash, "cut at {cut}: {fresh_sequence} was already sent as another");
                let third = Node::start(again.disk);
                assert_eq!(third.spool.waiting(), kept + 1, "cut at {cut}: the file is whole");
            }
        }
    }
}

#[test]
fn damage_anywhere_never_brings_a_sequence_back() {
    let mut node = Node::start(SimDisk::new());
    for session in 0..3 {
        node.observe(started(session));
    }
    let bytes = node.disk.read(StateFile::Spool).unwrap().unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        let spool = Spool::restore(Some(&damaged), 1);
        assert!(spool.next_sequence > 3, "byte {at}");
        assert!(spool.rewrite, "byte {at}");
        let known = node.spool.kept.make_contiguous();
        assert!(spool.kept.iter().all(|one| known.contains(one)), "byte {at}");
    }
}

#[test]
fn the_format_is_frozen() {
    let mut node = Node::start(SimDisk::new());
    node.observe(started(1));
    node.observe(stranger());
    let bytes = node.disk.read(StateFile::Spool).unwrap().unwrap();
    crate::record::tests::check_golden("spool", &bytes);
}

#[derive(Debug, Clone)]
enum Step {
    Observe,
    Link(bool),
    RecordLast,
    Timeout,
    Crash(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Observe),
        1 => any::<bool>().prop_map(Step::Link),
        2 => Just(Step::RecordLast),
        1 => Just(Step::Timeout),
        1 => (0u64..400).prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever happens, a sequence number that was sent means one observation, for ever.
    #[test]
    fn a_sequence_means_one_thing(steps in steps()) {
        let mut node = Node::start(SimDisk::new());
        let mut meaning = std::collections::BTreeMap::new();
        let mut session = 0;
        for step in steps {
            match step {
                Step::Observe => {
                    session += 1;
                    node.observe(started(session));
                }
                Step::Link(up) => node.link(up),
                Step::RecordLast => {
                    if let Some(last) = node.sequences().last() {
                        node.input(Input::Recorded { through: *last });
                    }
                }
                Step::Timeout => {
                    if let Some(at) = node.spool.poll_timeout() {
                        node.spool.handle_timeout(at);
                        node.drain();
                    }
                }
                Step::Crash(cut) => {
                    node.disk.cut_after(cut, cut % 2 == 0);
                    for _ in 0..3 {
                        session += 1;
                        node.observe(started(session));
                    }
                    let mut disk = node.disk.clone();
                    disk.restore_power();
                    for one in node.sent.iter().flatten() {
                        let was = meaning.insert(one.sequence, one.observation.clone());
                        prop_assert!(was.is_none_or(|was| was == one.observation));
                    }
                    node = Node::start(disk);
                }
            }
        }
        for one in node.sent.iter().flatten() {
            let was = meaning.insert(one.sequence, one.observation.clone());
            prop_assert!(was.is_none_or(|was| was == one.observation));
        }
    }
}
