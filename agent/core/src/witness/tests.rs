#![allow(clippy::unwrap_used)]

use rap_proto::{NodeId, Signer as _, key::LocalKey};
use rap_tlog::{Frontier, HeadKey, WitnessVerifier, leaf_hash};

use super::*;

const START: Moment = Moment::from_micros(0);
const CLUSTER: ClusterId = ClusterId::from_u128(1);

const NODE: NodeId = NodeId::from_u128(2);
const AT: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

fn key() -> WitnessKey {
    WitnessKey::derive(NODE, b"identity")
}

fn request(known: &[u8]) -> TreeRequest {
    TreeRequest { known: known.to_vec(), witness: key().public().to_vec() }
}

fn answered(reply: TreeReply) -> Input {
    Input::Answered { reply, at: AT }
}

fn control() -> LocalKey {
    LocalKey::from_random(&[1; 32]).unwrap()
}

/// A log of few leaves; `story` makes it another one.
struct Log(Vec<Digest>);

impl Log {
    fn of(size: u8, story: u8) -> Self {
        Self((0..size).map(|n| leaf_hash(&[n, if n < 2 { 0 } else { story }])).collect())
    }

    fn frontier(&self, size: usize) -> Frontier {
        let mut frontier = Frontier::default();
        self.0[..size].iter().for_each(|leaf| drop(frontier.push(*leaf)));
        frontier
    }

    /// What control answers to somebody who saw `earlier` events.
    fn reply(&self, earlier: u64) -> TreeReply {
        self.reply_in(Some(1), earlier)
    }

    fn reply_in(&self, epoch: Option<u64>, earlier: u64) -> TreeReply {
        let frontier = self.frontier(self.0.len());
        let size = frontier.size();
        let head = TreeHead { cluster: CLUSTER, size, root: frontier.root(), said_epoch: epoch };
        let plan = proof::plan_consistency(earlier.min(size), size).unwrap();
        let tile = |id: rap_tlog::TileId| (id, self.0[..usize::from(id.width)].to_vec());
        let tiles = plan.into_iter().map(tile).collect();
        let consistency = proof::prove_consistency(earlier.min(size), size, &tiles).unwrap();
        TreeReply { head: head.sign(&control(), &HeadKey::from_seed(&[2; 32])), consistency }
    }
}

fn witness(kept: Option<Witnessed>) -> Witness {
    let mut witness = Witness::new(CLUSTER, key(), 1);
    witness.handle_input(START, Input::ControlKeys(vec![control().public_key()]));
    witness.handle_input(START, Input::Restore(kept));
    witness
}

fn effects(witness: &mut Witness) -> Vec<Effect> {
    std::iter::from_fn(|| witness.poll_effect()).collect()
}

/// Lets the next question be asked, answers it, and makes what follows durable.
fn ask(witness: &mut Witness, reply: TreeReply) -> Vec<Effect> {
    if !witness.asked {
        let next = witness.poll_timeout().unwrap();
        witness.handle_timeout(next);
    }
    let asked = effects(witness);
    assert!(matches!(asked[..], [Effect::Ask(_)]), "{asked:?}");
    witness.handle_input(START, answered(reply));
    let mut followed = effects(witness);
    if followed.iter().any(|effect| matches!(effect, Effect::Persist(_))) {
        witness.handle_input(START, Input::Persisted);
        followed.extend(effects(witness));
    }
    followed
}

#[test]
fn a_growing_log_is_seen_and_kept_before_it_is_said() {
    let mut witness = witness(None);
    let mut earlier = 0;
    for size in [1, 3, 3, 8, 21] {
        let log = Log::of(size, 0);
        let followed = ask(&mut witness, log.reply(earlier));
        if u64::from(size) == earlier {
            assert_eq!(followed, []);
            continue;
        }
        let root = log.frontier(size.into()).root();
        let [Effect::Persist(kept), Effect::Saw { size: seen, root: saw }] = &followed[..] else {
            panic!("{followed:?}");
        };
        assert_eq!((kept.size, kept.root, *seen, *saw), (size.into(), root, size.into(), root));
        earlier = size.into();
    }
}

#[test]
fn it_presents_what_it_kept_also_after_a_restart() {
    let mut first = witness(None);
    let followed = ask(&mut first, Log::of(5, 0).reply(0));
    let [Effect::Persist(kept), ..] = &followed[..] else { panic!("{followed:?}") };
    let mut again = witness(Some(kept.clone()));
    assert_eq!(effects(&mut again), [Effect::Ask(request(&kept.note))]);
}

#[test]
fn a_shorter_and_another_log_suspend_the_node_for_good() {
    for (rewritten, size, code) in [
        (Log::of(4, 0).reply(4), 4, LogRefusal::Shorter),
        (Log::of(9, 7).reply(5), 9, LogRefusal::Forked),
        (Log::of(5, 7).reply(5), 5, LogRefusal::Forked),
        (TreeReply { consistency: vec![], ..Log::of(9, 0).reply(5) }, 9, LogRefusal::Forked),
    ] {
        let mut first = witness(None);
        ask(&mut first, Log::of(5, 0).reply(0));
        let followed = ask(&mut first, rewritten);
        let [
            Effect::Refused { size: of, known: 5, code: why },
            Effect::Persist(kept),
            Effect::Suspend(by),
        ] = &followed[..]
        else {
            panic!("{followed:?}")
        };
        assert_eq!((*of, *why, *by, kept.size, kept.refuted), (size, code, code, 5, Some(code)));
        let seen = request(&kept.note);
        presents_for_ever(&mut first, &seen);

        let mut again = witness(Some(kept.clone()));
        assert_eq!(effects(&mut again), [Effect::Suspend(code), Effect::Ask(seen.clone())]);
        again.handle_input(START, answered(Log::of(6, 0).reply(5)));
        presents_for_ever(&mut again, &seen);
    }
}

#[test]
fn a_refuted_log_whose_record_could_not_be_written_is_written_with_the_next_looks() {
    let mut witness = witness(None);
    ask(&mut witness, Log::of(5, 0).reply(0));
    let now = witness.poll_timeout().unwrap();
    witness.handle_timeout(now);
    effects(&mut witness);
    witness.handle_input(now, answered(Log::of(4, 0).reply(4)));
    let followed = effects(&mut witness);
    let [Effect::Refused { .. }, Effect::Persist(kept), Effect::Suspend(_)] = &followed[..] else {
        panic!("{followed:?}")
    };
    let asks = Effect::Ask(request(&kept.note));
    for _ in 0..3 {
        witness.handle_input(now, Input::PersistFailed);
        let now = witness.poll_timeout().unwrap();
        witness.handle_timeout(now);
        assert_eq!(effects(&mut witness), [Effect::Persist(kept.clone()), asks.clone()]);
        witness.handle_input(now, Input::Failed);
    }
    witness.handle_input(now, Input::Persisted);
    presents_for_ever(&mut witness, &request(&kept.note));
}

/// Control that was started again knows nothing of it, and what control shows counts no more.
fn presents_for_ever(witness: &mut Witness, seen: &TreeRequest) {
    let shown = [Log::of(4, 0).reply(4), Log::of(6, 0).reply(5), Log::of(9, 7).reply(5)];
    for input in shown.map(answered).into_iter().chain([Input::Failed]) {
        let now = witness.poll_timeout().unwrap();
        witness.handle_timeout(now);
        assert_eq!(effects(witness), [Effect::Ask(seen.clone())]);
        witness.handle_input(now, input);
        assert_eq!(effects(witness), []);
        assert!(witness.poll_timeout().unwrap() > now);
    }
}

#[test]
fn what_is_not_signed_is_refused_once_and_changes_nothing() {
    let mut witness = witness(None);
    ask(&mut witness, Log::of(5, 0).reply(0));
    let stranger = LocalKey::from_random(&[9; 32]).unwrap();
    let root = Digest::of(b"root");
    let head = TreeHead { cluster: CLUSTER, size: 9, root, said_epoch: Some(1) };
    let foreign = head.sign(&stranger, &HeadKey::from_seed(&[9; 32]));
    let endless = vec![b'a'; MAX_HEAD_BYTES + 1];
    for (head, code) in [
        (foreign, LogRefusal::NotTrusted),
        (b"no head".to_vec(), LogRefusal::Malformed),
        (endless, LogRefusal::Malformed),
    ] {
        let reply = TreeReply { head, consistency: vec![] };
        let expected = Effect::Refused { size: 0, known: 5, code };
        let followed = ask(&mut witness, reply.clone());
        assert!(followed == [expected] || code == LogRefusal::Malformed, "{followed:?}");
        assert_eq!(ask(&mut witness, reply), [], "a poll brings it again and again");
    }
    let followed = ask(&mut witness, Log::of(6, 0).reply(5));
    assert!(matches!(followed[..], [Effect::Persist(_), Effect::Saw { size: 6, .. }]));
}

/// Who was deposed may sign a log that grew, and has no say in what it is.
#[test]
fn a_head_of_an_epoch_that_is_over_is_refused_and_suspends_nobody() {
    let mut witness = witness(None);
    ask(&mut witness, Log::of(4, 0).reply_in(None, 0));
    ask(&mut witness, Log::of(5, 0).reply_in(Some(3), 4));
    for over in [None, Some(1), Some(2)] {
        let expected = Effect::Refused { size: 6, known: 5, code: LogRefusal::NotTrusted };
        assert_eq!(ask(&mut witness, Log::of(6, 0).reply_in(over, 5)), [expected], "{over:?}");
        witness.last_refused = None;
    }
    let followed = ask(&mut witness, Log::of(6, 0).reply_in(Some(3), 5));
    assert!(matches!(followed[..], [Effect::Persist(_), Effect::Saw { size: 6, .. }]));
    let followed = ask(&mut witness, Log::of(7, 0).reply_in(Some(4), 6));
    assert!(matches!(followed[..], [Effect::Persist(_), Effect::Saw { size: 7, .. }]));
}

#[test]
fn a_head_that_was_opened_is_nothing_under_other_keys() {
    let (mut witness, log) = (witness(None), Log::of(5, 0));
    assert_eq!(ask(&mut witness, log.reply(0)).len(), 2);
    assert_eq!(ask(&mut witness, log.reply(5)), [], "the same again");
    let other = LocalKey::from_random(&[9; 32]).unwrap();
    witness.handle_input(START, Input::ControlKeys(vec![other.public_key()]));
    let refused = Effect::Refused { size: 0, known: 5, code: LogRefusal::NotTrusted };
    assert_eq!(ask(&mut witness, log.reply(5)), [refused]);
}

#[test]
fn a_disk_that_takes_longer_than_the_pause_makes_no_fork_of_a_log_that_grew() {
    let mut witness = witness(None);
    ask(&mut witness, Log::of(5, 0).reply(0));
    assert_eq!(ask(&mut witness, Log::of(5, 0).reply(5)), [], "its cosignature was presented");
    let now = witness.poll_timeout().unwrap();
    witness.handle_timeout(now);
    effects(&mut witness);
    witness.handle_input(now, answered(Log::of(9, 0).reply(5)));
    assert!(matches!(effects(&mut witness)[..], [Effect::Persist(_)]));
    let now = witness.poll_timeout().unwrap();
    witness.handle_timeout(now);
    assert_eq!(effects(&mut witness), [], "until then it would present the head before");
    witness.handle_input(now, Input::Persisted);
    effects(&mut witness);
    assert_eq!(ask(&mut witness, Log::of(9, 0).reply(9)), []);
}

#[test]
fn a_head_that_could_not_be_kept_was_not_seen() {
    let mut witness = witness(None);
    effects(&mut witness);
    witness.handle_input(START, answered(Log::of(5, 0).reply(0)));
    effects(&mut witness);
    witness.handle_input(START, Input::PersistFailed);
    assert_eq!(effects(&mut witness), []);
    let followed = ask(&mut witness, Log::of(4, 0).reply(0));
    assert!(matches!(followed[..], [Effect::Persist(_), Effect::Saw { size: 4, .. }]));
}

#[test]
fn failures_back_off_and_a_late_answer_counts_for_nothing() {
    let mut witness = witness(None);
    effects(&mut witness);
    let mut now = START;
    let mut gaps = Vec::new();
    for _ in 0..10 {
        witness.handle_input(now, Input::Failed);
        let next = witness.poll_timeout().unwrap();
        gaps.push(next.since(now));
        now = next;
        witness.handle_timeout(now);
        assert!(matches!(effects(&mut witness)[..], [Effect::Ask(_)]));
    }
    assert!(gaps[0] <= Duration::from_secs(2) && gaps[9] >= Duration::from_secs(30));
    now = witness.poll_timeout().unwrap();
    witness.handle_timeout(now);
    assert_eq!(effects(&mut witness), [], "no answer: it backs off first");
    witness.handle_input(now, answered(Log::of(5, 0).reply(0)));
    assert_eq!(effects(&mut witness), []);
}

#[test]
fn a_cosignature_is_presented_soon_and_then_at_leisure_however_fast_the_log_grows() {
    let mut witness = witness(None);
    let mut earlier = 0;
    for (size, soon) in [(3, true), (5, false), (8, true), (13, false)] {
        let followed = ask(&mut witness, Log::of(size, 0).reply(earlier));
        let [Effect::Persist(kept), ..] = &followed[..] else { panic!("{followed:?}") };
        let verifier = WitnessVerifier::new(NODE, &key().public()).unwrap();
        assert_eq!(verifier.find(&kept.note).unwrap().map(|found| found.at), Some(AT));
        let delay = witness.poll_timeout().unwrap().since(START);
        assert_eq!(delay == PRESENT, soon, "{size}: {delay:?}");
        let next = witness.poll_timeout().unwrap();
        witness.handle_timeout(next);
        assert_eq!(effects(&mut witness), [Effect::Ask(request(&kept.note))]);
        // Nothing is lost by a call that failed: the next one presents the same.
        witness.handle_input(START, Input::Failed);
        earlier = size.into();
    }
}

#[test]
fn a_head_that_has_no_room_for_a_cosignature_is_kept_as_it_came() {
    let mut witness = witness(None);
    let mut reply = Log::of(3, 0).reply(0);
    let filler = format!("\u{2014} filler {}\n", "A".repeat(200));
    while reply.head.len() + filler.len() <= MAX_HEAD_BYTES {
        reply.head.extend_from_slice(filler.as_bytes());
    }
    let followed = ask(&mut witness, reply.clone());
    let [Effect::Persist(kept), ..] = &followed[..] else { panic!("{followed:?}") };
    assert_eq!(kept.note, reply.head);
}
