#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use rap_events::beat::{Ballot, Proposal, Vote};
use rap_proto::{
    ClusterId, Digest, KeyId, Moment, Signer as _, Timestamp,
    beat::{Beat, EpochStatement, majority},
    codec,
    key::LocalKey,
    signed,
};

use super::*;

const START: Timestamp = Timestamp::from_unix_millis(1_790_000_000_000);
const CLUSTER: ClusterId = ClusterId::from_u128(1);

fn key(seed: usize) -> LocalKey {
    LocalKey::from_random(&[u8::try_from(seed + 1).unwrap(); 32]).unwrap()
}

fn charter(replicas: usize, threshold: u32) -> Arc<Charter> {
    let statement = EpochStatement {
        cluster: CLUSTER,
        epoch: 1,
        revision: 1,
        replicas: (0..replicas).map(|seed| key(seed).public_key()).collect(),
        threshold,
        previous: None,
    };
    Arc::new(Charter::new(statement, &key(99)))
}

/// What is wrong on purpose, so that the check is seen to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A replica signs although its vote was not stored.
    VoteNotStored,
    /// A vote takes the place of another one for the same sequence.
    VoteNotCompared,
    /// A replica signs whatever is proposed by the time it signs.
    SignsTheNewest,
    /// Half of the replicas count as a quorum.
    HalfIsEnough,
}

/// The replicas of a cluster over one table, with everything that was ever signed. Behind them
/// stands one more process that holds the first one's key, as after a careless copy.
struct Cluster {
    bug: Bug,
    charter: Arc<Charter>,
    ballot: Ballot,
    voters: Vec<Voter>,
    effects: Vec<Option<Effect>>,
    /// How far each has folded.
    positions: Vec<u64>,
    leading: BTreeSet<usize>,
    now: Moment,
    signed: BTreeMap<u64, BTreeMap<Digest, BTreeSet<KeyId>>>,
}

impl Cluster {
    fn new(replicas: usize, bug: Bug) -> Self {
        let enough = majority(replicas);
        let threshold = if bug == Bug::HalfIsEnough { enough - 1 } else { enough };
        let now = Moment::from_micros(1);
        Self {
            bug,
            charter: charter(replicas, threshold),
            ballot: Ballot { now: START, head: 100, proposal: None, votes: Vec::new() },
            voters: (0..=replicas).map(|place| voter(place % replicas, now)).collect(),
            effects: vec![None; replicas + 1],
            positions: vec![100; replicas + 1],
            leading: BTreeSet::from([0]),
            now,
            signed: BTreeMap::new(),
        }
    }

    /// Whose key the process at this place holds.
    fn holder(&self, place: usize) -> usize {
        place % self.charter.statement.replicas.len()
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.ballot.now = self.ballot.now + time;
    }

    /// One step of one replica; without an answer, what it did is not told to it.
    fn turn(&mut self, replica: usize, answered: bool) {
        self.voters[replica].handle_timeout(self.now);
        let effect = self.effects[replica].take().or_else(|| self.voters[replica].poll_effect());
        let Some(effect) = effect else { return };
        let input = self.perform(replica, effect);
        let input = if answered { input } else { Input::Unanswered };
        self.voters[replica].handle_input(self.now, input);
        self.effects[replica] = self.voters[replica].poll_effect();
    }

    fn perform(&mut self, replica: usize, effect: Effect) -> Input {
        match effect {
            Effect::Read => Input::Read(Box::new(Reading {
                sent: self.now,
                ballot: self.ballot.clone(),
                charter: Arc::clone(&self.charter),
                position: self.positions[replica],
                deny_version: 7,
                leads: self.leading.contains(&replica),
            })),
            // Nothing compares proposals here: the votes alone must keep beats apart.
            Effect::Propose(proposal) => {
                self.ballot.proposal = Some(proposal);
                Input::Proposed { stored: true }
            }
            Effect::Vote { sequence, payload, .. } => {
                Input::Voted { stored: self.vote(self.holder(replica), sequence, payload) }
            }
            Effect::Sign { sequence, payload, .. } => {
                self.sign(self.holder(replica), sequence, payload);
                Input::Signed
            }
        }
    }

    fn vote(&mut self, replica: usize, sequence: u64, payload: Digest) -> bool {
        let id = key(replica).public_key().id();
        let before = self.ballot.votes.iter().find(|vote| vote.replica == id);
        let newer = before.is_none_or(|before| before.sequence < sequence);
        match self.bug {
            Bug::VoteNotStored => return true,
            Bug::VoteNotCompared => {}
            _ if !newer => return false,
            _ => {}
        }
        self.ballot.votes.retain(|vote| vote.replica != id);
        let vote = Vote { replica: id, sequence, payload, signature: None };
        self.ballot.votes.push(vote);
        true
    }

    fn sign(&mut self, replica: usize, sequence: u64, mut payload: Vec<u8>) {
        if self.bug == Bug::SignsTheNewest
            && let Some(proposal) = &self.ballot.proposal
        {
            payload = proposal.payload.clone();
        }
        let key = key(replica);
        let (id, digest) = (key.public_key().id(), Digest::of(&payload));
        let by_payload = self.signed.entry(sequence).or_default();
        by_payload.entry(digest).or_default().insert(id);
        let signature = signed::sign::<Beat>(&payload, &key);
        for vote in &mut self.ballot.votes {
            if (vote.replica, vote.sequence, vote.payload) == (id, sequence, digest) {
                vote.signature = Some(signature);
            }
        }
    }

    /// Two different beats of one sequence that both have a quorum.
    fn contradiction(&self) -> Option<u64> {
        let quorum = self.charter.statement.threshold as usize;
        let reached = |by_payload: &BTreeMap<Digest, BTreeSet<KeyId>>| {
            by_payload.values().filter(|signers| signers.len() >= quorum).count()
        };
        self.signed.iter().find(|(_, by_payload)| reached(by_payload) > 1).map(|(at, _)| *at)
    }

    /// Each replica in turn for three seconds, in which each looks twice and more.
    fn settle(&mut self, alive: &[usize]) {
        for _ in 0..60 {
            self.pass(Duration::from_millis(50));
            alive.iter().for_each(|replica| self.turn(*replica, true));
        }
    }

    fn held(&self, replica: usize) -> Option<u64> {
        self.voters[replica].held(self.now).map(|held| held.beat.sequence)
    }
}

fn voter(seed: usize, now: Moment) -> Voter {
    Voter::new(key(seed).public_key(), key(99).public_key(), Pace::default(), now)
}

#[derive(Debug, Clone)]
enum Step {
    Turn {
        replica: usize,
        answered: bool,
    },
    /// It starts again and remembers nothing.
    Restart(usize),
    Lead(usize),
    /// Somebody with access to the table puts another beat of the same sequence there.
    Rival {
        floor: u64,
    },
    Pass {
        millis: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..20_usize;
    let step = prop_oneof![
        12 => (replica.clone(), prop::bool::weighted(0.9))
            .prop_map(|(replica, answered)| Step::Turn { replica, answered }),
        1 => replica.clone().prop_map(Step::Restart),
        1 => replica.prop_map(Step::Lead),
        2 => (98..=100_u64).prop_map(|floor| Step::Rival { floor }),
        2 => (1..3_000_u64).prop_map(|millis| Step::Pass { millis }),
    ];
    prop::collection::vec(step, 60..160)
}

/// Runs the steps; `Err` names the sequence of which two beats reached a quorum.
fn run(replicas: usize, bug: Bug, steps: &[Step]) -> Result<Cluster, u64> {
    let mut cluster = Cluster::new(replicas, bug);
    for step in steps {
        match *step {
            Step::Turn { replica, answered } => cluster.turn(replica % (replicas + 1), answered),
            Step::Restart(replica) => {
                let replica = replica % (replicas + 1);
                cluster.voters[replica] = voter(cluster.holder(replica), cluster.now);
                cluster.effects[replica] = None;
            }
            Step::Lead(replica) => {
                let replica = replica % (replicas + 1);
                if !cluster.leading.remove(&replica) {
                    cluster.leading.insert(replica);
                }
            }
            Step::Rival { floor } => rival(&mut cluster, floor),
            Step::Pass { millis } => cluster.pass(Duration::from_millis(millis)),
        }
        if let Some(sequence) = cluster.contradiction() {
            return Err(sequence);
        }
    }
    Ok(cluster)
}

fn rival(cluster: &mut Cluster, floor: u64) {
    let Some(proposal) = &mut cluster.ballot.proposal else { return };
    let mut beat = decode(&proposal.payload).unwrap();
    beat.snapshot_floor = floor;
    proposal.payload = codec::encode(&beat);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_two_beats_of_one_sequence_reach_a_quorum(replicas in 1..=4_usize, steps in steps()) {
        let mut cluster = run(replicas, Bug::None, &steps).map_err(|sequence| {
            TestCaseError::fail(format!("two beats of sequence {sequence}"))
        })?;
        // Whatever happened: with all of them there, the next beat is agreed upon.
        cluster.leading.insert(0);
        let every: Vec<usize> = (0..replicas).collect();
        for _ in 0..4 {
            cluster.pass(Pace::default().every);
            cluster.settle(&every);
        }
        prop_assert!(every.iter().all(|replica| cluster.held(*replica).is_some()));
        prop_assert_eq!(cluster.contradiction(), None);
    }
}

#[test]
fn the_check_for_contradictory_beats_finds_every_planted_bug() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

    for (bug, replicas) in [
        (Bug::VoteNotStored, 3),
        (Bug::VoteNotCompared, 3),
        (Bug::SignsTheNewest, 3),
        (Bug::HalfIsEnough, 4),
    ] {
        let mut runner = TestRunner::deterministic();
        let found = (0..500).any(|_| {
            let steps = steps().new_tree(&mut runner).unwrap().current();
            run(replicas, bug, &steps).is_err()
        });
        assert!(found, "{bug:?} was not found");
    }
}

#[test]
fn two_of_three_make_a_beat_and_one_of_three_does_not() {
    let mut cluster = Cluster::new(3, Bug::None);
    cluster.settle(&[0, 1, 2]);
    assert_eq!([0, 1, 2].map(|replica| cluster.held(replica)), [Some(1); 3]);
    cluster.pass(Pace::default().every);
    cluster.settle(&[0, 2]);
    assert_eq!((cluster.held(0), cluster.held(2)), (Some(2), Some(2)));
    for _ in 0..7 {
        cluster.pass(Pace::default().every);
        cluster.settle(&[0]);
    }
    assert_eq!(cluster.held(0), None, "alone, it has no word");
    // A quorum is back: so is the beat, at a later sequence.
    cluster.settle(&[0, 1]);
    cluster.pass(Pace::default().every);
    cluster.settle(&[0, 1]);
    assert!(cluster.held(0).unwrap() > 2);
}

#[test]
fn a_beat_ends_by_the_replicas_own_clock() {
    let mut cluster = Cluster::new(1, Bug::None);
    cluster.settle(&[0]);
    assert_eq!(cluster.held(0), Some(1));
    // The database's clock stands still, or nobody can ask it.
    cluster.now = cluster.now + Pace::default().valid;
    assert_eq!(cluster.held(0), None);
}

#[test]
fn a_replica_signs_nothing_that_it_did_not_read_itself() {
    let pace = Pace::default();
    let charter = charter(1, 1);
    let own = ballot::Own { position: 50, deny_version: 40 };
    let good = Beat {
        cluster: CLUSTER,
        epoch: 1,
        statement: charter.digest,
        sequence: 9,
        snapshot_floor: 45,
        deny_version: 40,
        issued_at: START,
        expires_at: START + pace.valid,
    };
    let ballot = Ballot { now: START, head: 50, proposal: None, votes: Vec::new() };
    let signs = |beat: &Beat, ballot: &Ballot| {
        let proposal = Proposal { sequence: 9, payload: codec::encode(beat) };
        ballot::may_sign(&charter, own, ballot, &proposal, pace)
    };
    assert!(signs(&good, &ballot));
    let early = Beat { snapshot_floor: 39, deny_version: 30, ..good.clone() };
    assert!(signs(&early, &ballot), "the last denial is behind the floor");
    for (why, wrong) in [
        ("cluster", Beat { cluster: ClusterId::from_u128(2), ..good.clone() }),
        ("epoch", Beat { epoch: 2, ..good.clone() }),
        ("statement", Beat { statement: Digest::of(b"another"), ..good.clone() }),
        ("sequence", Beat { sequence: 10, ..good.clone() }),
        ("not folded yet", Beat { snapshot_floor: 51, ..good.clone() }),
        ("a denial left out", Beat { deny_version: 39, ..good.clone() }),
        ("a denial made up", Beat { deny_version: 41, ..good.clone() }),
        ("longer", Beat { expires_at: START + pace.valid * 2, ..good.clone() }),
        ("ahead", Beat { issued_at: START + Duration::from_millis(1), ..good.clone() }),
    ] {
        assert!(!signs(&wrong, &ballot), "{why}");
    }
    let over = Ballot { now: good.expires_at, ..ballot.clone() };
    assert!(!signs(&good, &over), "it is over");
    let shorter = Ballot { head: 49, ..ballot };
    assert!(!signs(&good, &shorter), "the primary lost what was folded");
}

#[test]
fn what_is_not_a_beat_is_proposed_over() {
    let mut cluster = Cluster::new(1, Bug::None);
    cluster.ballot.proposal = Some(Proposal { sequence: 4, payload: b"nonsense".to_vec() });
    cluster.settle(&[0]);
    assert_eq!(cluster.held(0), Some(5));
}

#[test]
fn the_control_key_alone_speaks_before_there_is_a_statement() {
    let charter = Charter::of(&State::default(), CLUSTER, &key(0));
    assert_eq!(charter.statement.replicas, [key(0).public_key()]);
    assert!(!charter.is_quorum());
    let next = charter.followed_by(vec![key(1).public_key(), key(2).public_key()]);
    assert_eq!((next.revision, next.threshold, next.previous), (1, 2, Some(charter.digest)));
    assert_eq!(next.check(), Ok(()));
}

#[test]
fn a_beat_is_news_when_it_says_more_than_that_everything_is_as_before() {
    let held = |statement: &[u8], deny_version, sequence| Held {
        beat: Beat {
            cluster: CLUSTER,
            epoch: 1,
            statement: Digest::of(statement),
            sequence,
            snapshot_floor: sequence,
            deny_version,
            issued_at: START,
            expires_at: START + Duration::from_secs(30),
        },
        envelope: Vec::new(),
        charter: charter(1, 1),
        until: Moment::from_micros(1),
    };
    let before = held(b"one", 7, 1);
    let same = held(b"one", 7, 2);
    assert!(!same.is_news(Some(&before), false), "time went on, and nothing else");
    assert!(same.is_news(Some(&before), true), "nodes waited for one");
    assert!(held(b"one", 8, 2).is_news(Some(&before), false), "something was denied");
    assert!(held(b"two", 7, 2).is_news(Some(&before), false), "other replicas sign");
    assert!(!held(b"two", 8, 2).is_news(None, true), "whoever just started knows no difference");
}
