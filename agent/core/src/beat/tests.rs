#![allow(clippy::unwrap_used)]

use rap_proto::{
    ControlUrl, Digest, Signer,
    authority::{AuthorityStanding, MAX_LAPSES_PER_HOUR},
    beat::majority,
    key::LocalKey,
    signed::seal,
    wire::node_api::KEPT_IDLE,
};

use super::*;
use crate::{
    record,
    servers::{HeldServers, Servers},
};

const CLUSTER: ClusterId = ClusterId::from_u128(1);
const NOW: Timestamp = Timestamp::from_unix_millis(1_790_000_000_000);
const TTL: Duration = Duration::from_millis(BEAT_TTL_MS);

fn key(seed: u8) -> LocalKey {
    LocalKey::from_random(&[seed; 32]).unwrap()
}

fn control() -> LocalKey {
    key(99)
}

fn statement(revision: u64, seeds: &[u8]) -> EpochStatement {
    EpochStatement {
        cluster: CLUSTER,
        epoch: 1,
        revision,
        replicas: seeds.iter().map(|seed| key(*seed).public_key()).collect(),
        threshold: majority(seeds.len()),
        previous: None,
    }
}

fn digest(statement: &EpochStatement) -> Digest {
    Digest::of(&rap_proto::codec::encode(statement))
}

fn beat(statement: &EpochStatement, sequence: u64, issued_at: Timestamp) -> Beat {
    Beat {
        cluster: CLUSTER,
        epoch: 1,
        statement: digest(statement),
        sequence,
        snapshot_floor: 40,
        deny_version: 0,
        issued_at,
        expires_at: issued_at + TTL,
    }
}

fn reply(statement: &EpochStatement, beat: &Beat, signers: &[u8]) -> BeatReply {
    let keys: Vec<LocalKey> = signers.iter().map(|seed| key(*seed)).collect();
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
    let (statement, beat) = (seal(statement, &[&control()]), seal(beat, &signers));
    BeatReply { statement, beat, records_changes: true, servers: Vec::new() }
}

/// A listener on its two clocks.
struct Ear {
    listener: BeatListener,
    now: Moment,
    at: Timestamp,
    kept: Option<BeatFloor>,
    denied: Vec<u64>,
    refused: Option<BeatRefusal>,
    changes: Vec<AuthorityChange>,
    elsewhere: u32,
    named: Vec<(Vec<String>, bool)>,
}

impl Ear {
    fn new() -> Self {
        Self::restarted(None, NOW)
    }

    fn restarted(kept: Option<BeatFloor>, at: Timestamp) -> Self {
        let mut listener = BeatListener::new(CLUSTER, 1);
        let now = Moment::from_micros(1);
        listener.handle_input(now, Input::ControlKeys(vec![control().public_key()]));
        listener.handle_input(now, Input::Restore { kept: kept.clone(), at });
        let (denied, changes) = (Vec::new(), Vec::new());
        let (refused, elsewhere, named) = (None, 0, Vec::new());
        let mut ear = Self { listener, now, at, kept, denied, refused, changes, elsewhere, named };
        ear.drain();
        ear
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.at = self.at + time;
        self.listener.handle_timeout(self.now);
        self.drain();
    }

    /// Whether it asks; what is to be written is written.
    fn drain(&mut self) -> bool {
        let (mut asks, mut entered) = (false, None);
        while let Some(effect) = self.listener.poll_effect() {
            match effect {
                Effect::Ask(_) => asks = true,
                Effect::Persist(floor) => {
                    self.kept = Some(*floor);
                    let persisted = Input::Persisted { at: self.at };
                    self.listener.handle_input(self.now, persisted);
                }
                Effect::Denied { version } => self.denied.push(version),
                Effect::Refused(refusal) => self.refused = Some(refusal),
                // Who stood still enters several at once.
                Effect::Entered(authority) => entered = Some(authority),
                Effect::Changed(change) => self.changes.push(change),
                Effect::AskElsewhere => self.elsewhere += 1,
                Effect::Servers { named, counts } => self.named.push((named, counts)),
                Effect::Lasts { until } => assert_eq!(until, self.listener.isolated_at()),
            }
        }
        let authority = self.listener.authority();
        assert_eq!(entered.unwrap_or(authority), authority, "what was entered last");
        asks
    }

    fn hear(&mut self, reply: BeatReply) -> Authority {
        // As if asked this moment, whatever the poll says.
        self.listener.asked = true;
        self.listener.handle_input(self.now, Input::Answered { reply, at: self.at });
        self.drain();
        self.listener.authority()
    }
}

#[test]
fn who_hears_nothing_goes_degraded_then_isolated_and_comes_back() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    assert_eq!(ear.listener.authority(), Authority::Unheard);
    assert_eq!(ear.listener.isolated_at(), None);
    let first = beat(&three, 1, ear.at);
    assert_eq!(ear.hear(reply(&three, &first, &[1, 3])), Authority::Healthy);
    assert_eq!(ear.listener.isolated_at(), Some(ear.now + TTL + ISOLATED_AFTER));
    ear.pass(TTL - Duration::from_millis(1));
    assert_eq!(ear.listener.authority(), Authority::Healthy);
    ear.pass(Duration::from_millis(1));
    let since = first.expires_at;
    assert_eq!(ear.listener.authority(), Authority::Degraded { since });
    ear.pass(ISOLATED_AFTER);
    assert_eq!(ear.listener.authority(), Authority::Isolated { since });
    let later = beat(&three, 2, ear.at);
    assert_eq!(ear.hear(reply(&three, &later, &[1, 2])), Authority::Healthy);
}

#[test]
fn a_server_that_brings_nothing_newer_is_left_before_the_beat_ends() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    let nothing = BeatReply { beat: Vec::new(), ..reply(&three, &beat(&three, 1, NOW), &[]) };
    ear.hear(nothing.clone());
    assert_eq!(ear.elsewhere, 0, "a control that makes no beats is none to leave");
    let first = reply(&three, &beat(&three, 1, ear.at), &[1, 2]);
    ear.hear(first.clone());
    ear.pass(LATE - Duration::from_millis(1));
    ear.hear(first.clone());
    assert_eq!(ear.elsewhere, 0, "it is too soon to tell");
    ear.pass(Duration::from_millis(1));
    assert_eq!((ear.hear(first.clone()), ear.elsewhere), (Authority::Healthy, 1));
    let alone = reply(&three, &beat(&three, 2, ear.at), &[1]);
    ear.hear(alone);
    assert_eq!(ear.elsewhere, 2, "what a minority says is nothing newer");
    assert_eq!(ear.hear(reply(&three, &beat(&three, 3, ear.at), &[2, 3])), Authority::Healthy);
    assert_eq!(ear.elsewhere, 2, "this one knows more");
    for stale in [TTL, ISOLATED_AFTER] {
        ear.pass(stale);
        ear.hear(nothing.clone());
    }
    assert_eq!(ear.elsewhere, 4);
}

#[test]
fn a_node_asks_when_half_of_a_beats_life_is_over_and_soon_after_elsewhere() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    let first = reply(&three, &beat(&three, 1, ear.at), &[1, 2]);
    ear.hear(first.clone());
    let half = ear.now + LATE;
    for passed in [8, 6] {
        ear.pass(Duration::from_secs(passed));
        ear.hear(first.clone());
        assert!(ear.listener.poll_timeout().unwrap() <= half + 2 * HALF_SPREAD);
    }
    assert!(ear.listener.poll_timeout().unwrap() >= half);
    for again in [ELSEWHERE / 2, POLL / 2] {
        ear.pass(ear.listener.poll_timeout().unwrap().since(ear.now));
        ear.hear(first.clone());
        assert!(ear.listener.poll_timeout().unwrap() >= ear.now + again, "once, soon");
        assert_eq!(ear.listener.authority(), Authority::Healthy);
    }
    assert_eq!(ear.elsewhere, 2);
}

/// A replica that is cut off from its database, and one that is not: the beat's life tells the node which is which.
#[test]
fn a_node_goes_from_a_stale_server_to_the_other_one_and_no_beat_ends() {
    let three = statement(1, &[1, 2, 3]);
    let urls = ["https://stale.example", "https://other.example"].map(|url| url.parse().unwrap());
    let held = HeldServers { servers: urls.iter().map(ControlUrl::to_string).collect() };
    for (seed, another_call_was_faster) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut servers = Servers::new(urls[0].clone(), held.clone(), seed);
        let mut ear = Ear::new();
        let old = reply(&three, &beat(&three, 1, ear.at), &[1, 2]);
        ear.hear(old.clone());
        let mut left = 0;
        for sequence in 2..20 {
            // As it asks by itself, and what answers takes its time.
            ear.pass(ear.listener.poll_timeout().unwrap().since(ear.now));
            ear.pass(Duration::from_secs(2));
            assert_eq!(ear.listener.authority(), Authority::Healthy, "seed {seed}");
            let from = servers.present().clone();
            let stale = from == urls[0];
            let newer = || reply(&three, &beat(&three, sequence, ear.at), &[1, 2]);
            ear.hear(if stale { old.clone() } else { newer() });
            if std::mem::take(&mut ear.elsewhere) > 0 {
                if another_call_was_faster {
                    servers.failed(std::slice::from_ref(&from), true);
                }
                left += u32::from(servers.leave(ear.now, &from));
            }
        }
        assert_eq!(servers.present(), &urls[1], "seed {seed}");
        assert!(left <= 1 && servers.changes() <= 1, "it stays there");
    }
}

#[test]
fn a_list_of_servers_is_heard_with_a_newer_beat_or_while_there_was_none() {
    let three = statement(1, &[1, 2, 3]);
    let named = vec!["https://control-2.example".to_owned()];
    let with = |reply: BeatReply| BeatReply { servers: named.clone(), ..reply };
    let mut ear = Ear::new();
    let nothing = with(BeatReply::default());
    let first = with(reply(&three, &beat(&three, 1, ear.at), &[1, 2]));
    let alone = with(reply(&three, &beat(&three, 1, ear.at), &[1]));
    for (reply, heard) in [
        (BeatReply::default(), None),
        (nothing.clone(), Some(false)),
        (alone.clone(), None),
        (first.clone(), Some(true)),
        (first, None),
        (nothing, None),
        (alone, None),
    ] {
        ear.hear(reply);
        let heard: Vec<_> = heard.map(|counts| (named.clone(), counts)).into_iter().collect();
        assert_eq!(std::mem::take(&mut ear.named), heard);
    }
}

#[test]
fn a_node_that_stood_still_counts_that_time() {
    let three = statement(1, &[1, 2, 3]);
    for (stood, isolated) in [(60, false), (310, false), (330, true), (1_000, true)] {
        let mut ear = Ear::new();
        let only = beat(&three, 1, ear.at);
        ear.hear(reply(&three, &only, &[1, 2]));
        ear.pass(Duration::from_secs(stood));
        let authority = ear.listener.authority();
        let since = only.expires_at;
        let expected =
            if isolated { Authority::Isolated { since } } else { Authority::Degraded { since } };
        assert_eq!(authority, expected, "{stood} s");
        // As late as if it had not stood still.
        ear.pass(Duration::from_secs(330_u64.saturating_sub(stood)));
        assert_eq!(ear.listener.authority(), Authority::Isolated { since }, "{stood} s");
    }
}

#[test]
fn a_minority_makes_no_beat() {
    let three = statement(1, &[1, 2, 3]);
    for signers in [&[][..], &[1], &[1, 1], &[1, 4], &[99]] {
        let mut ear = Ear::new();
        let beat = beat(&three, 1, ear.at);
        assert_eq!(ear.hear(reply(&three, &beat, signers)), Authority::Unheard, "{signers:?}");
        assert_eq!(ear.refused, Some(BeatRefusal::NoQuorum), "{signers:?}");
    }
}

#[test]
fn every_wrong_beat_is_refused_with_its_own_reason() {
    let three = statement(5, &[1, 2, 3]);
    let good = beat(&three, 7, NOW);
    let foreign = EpochStatement { cluster: ClusterId::from_u128(2), ..three.clone() };
    let half = EpochStatement { threshold: 1, ..three.clone() };
    let other = EpochStatement { previous: Some(Digest::of(b"x")), ..three.clone() };
    let unsigned = BeatReply {
        statement: seal(&three, &[&key(1)]),
        ..reply(&three, &beat(&three, 8, NOW), &[1, 2])
    };
    let at = |millis: i64| Timestamp::from_unix_millis(NOW.unix_millis() + millis);
    let next = beat(&three, 8, NOW);
    let of = |beat: &Beat| reply(&three, beat, &[1, 2]);
    let under = |statement: &EpochStatement| reply(statement, &beat(statement, 8, NOW), &[1, 2]);
    for (wrong, refusal) in [
        (unsigned, BeatRefusal::StatementNotTrusted),
        (under(&foreign), BeatRefusal::StatementInvalid),
        (under(&half), BeatRefusal::StatementInvalid),
        (under(&statement(4, &[1, 2, 3])), BeatRefusal::StatementOlder),
        (under(&other), BeatRefusal::StatementOlder),
        (of(&Beat { cluster: ClusterId::from_u128(2), ..next.clone() }), BeatRefusal::Foreign),
        (of(&Beat { epoch: 2, ..next.clone() }), BeatRefusal::Foreign),
        (of(&Beat { statement: Digest::of(b"x"), ..next.clone() }), BeatRefusal::Foreign),
        (of(&beat(&three, 8, at(5_001))), BeatRefusal::OutsideItsLife),
        (of(&beat(&three, 8, at(-30_000))), BeatRefusal::OutsideItsLife),
        (of(&Beat { expires_at: at(30_001), ..next.clone() }), BeatRefusal::OutsideItsLife),
        (of(&beat(&three, 6, NOW)), BeatRefusal::Older),
        (of(&Beat { snapshot_floor: 39, ..next.clone() }), BeatRefusal::Older),
        (of(&Beat { snapshot_floor: 41, ..good.clone() }), BeatRefusal::Equivocation),
    ] {
        let mut ear = Ear::new();
        assert_eq!(ear.hear(reply(&three, &good, &[1, 2])), Authority::Healthy);
        let known = ear.kept.clone();
        ear.hear(wrong);
        assert_eq!((ear.refused, ear.kept), (Some(refusal), known));
    }
}

#[test]
fn a_beat_that_was_held_back_gives_no_more_than_is_left_of_it() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    let held_back = beat(&three, 1, ear.at);
    ear.pass(Duration::from_secs(20));
    assert_eq!(ear.hear(reply(&three, &held_back, &[1, 2])), Authority::Healthy);
    ear.pass(Duration::from_secs(10));
    assert!(matches!(ear.listener.authority(), Authority::Degraded { .. }));
    // Said again, it gives nothing more.
    let again = ear.hear(reply(&three, &held_back, &[1, 2]));
    assert!(matches!(again, Authority::Degraded { .. }));
}

#[test]
fn a_calendar_that_is_set_back_lengthens_nothing() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    let beat = beat(&three, 1, ear.at);
    ear.hear(reply(&three, &beat, &[1, 2]));
    // The calendar now says an hour earlier; the monotonic clock goes on.
    ear.at = ear.at - Duration::from_secs(3_600);
    ear.pass(TTL);
    assert!(matches!(ear.listener.authority(), Authority::Degraded { .. }));
}

#[test]
fn after_a_restart_the_kept_beat_tells_where_it_goes_on() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    let heard = beat(&three, 4, ear.at);
    ear.hear(reply(&three, &heard, &[2, 3]));
    let kept = record::decode::<BeatFloor>(&record::encode(&ear.kept.unwrap())).unwrap();
    let since = heard.expires_at;
    for (later, authority) in [
        (TTL - Duration::from_millis(1), Authority::Healthy),
        (TTL, Authority::Degraded { since }),
        (TTL + ISOLATED_AFTER, Authority::Isolated { since }),
    ] {
        let mut ear = Ear::restarted(Some(kept.clone()), NOW + later);
        assert_eq!(ear.listener.authority(), authority);
        let left = (TTL + ISOLATED_AFTER) - later;
        let over = left == Duration::ZERO;
        let isolated_at = if over { Moment::default() } else { ear.now + left };
        assert_eq!(ear.listener.isolated_at(), Some(isolated_at));
        let older = beat(&three, 3, ear.at);
        ear.hear(reply(&three, &older, &[1, 2]));
        assert_eq!(ear.refused, Some(BeatRefusal::Older), "the floor is kept");
    }
    // The statement is known: it need not be sent again.
    let mut ear = Ear::restarted(Some(kept), NOW + TTL);
    let next = beat(&three, 5, ear.at);
    let short = BeatReply { statement: Vec::new(), ..reply(&three, &next, &[1, 2]) };
    assert_eq!(ear.hear(short), Authority::Healthy);
}

#[test]
fn what_is_not_durable_does_not_count() {
    let one = statement(0, &[99]);
    let mut listener = BeatListener::new(CLUSTER, 1);
    let now = Moment::from_micros(1);
    listener.handle_input(now, Input::ControlKeys(vec![control().public_key()]));
    listener.handle_input(now, Input::Restore { kept: None, at: NOW });
    assert_eq!(listener.poll_effect(), Some(Effect::Lasts { until: None }));
    assert!(matches!(listener.poll_effect(), Some(Effect::Ask(_))));
    let reply = reply(&one, &beat(&one, 1, NOW), &[99]);
    listener.handle_input(now, Input::Answered { reply: reply.clone(), at: NOW });
    assert!(matches!(listener.poll_effect(), Some(Effect::Persist(_))));
    listener.handle_input(now, Input::PersistFailed);
    assert_eq!((listener.authority(), listener.poll_effect()), (Authority::Unheard, None));
    listener.asked = true;
    listener.handle_input(now, Input::Answered { reply, at: NOW });
    assert!(matches!(listener.poll_effect(), Some(Effect::Persist(_))));
    listener.handle_input(now, Input::Persisted { at: NOW });
    assert_eq!(listener.authority(), Authority::Healthy);
}

#[test]
fn newer_replicas_take_over_and_the_old_ones_have_no_word_any_more() {
    let (old, new) = (statement(1, &[1, 2, 3]), statement(2, &[3, 4, 5]));
    let mut ear = Ear::new();
    let first = beat(&old, 1, ear.at);
    ear.hear(reply(&old, &first, &[1, 2]));
    let second = beat(&new, 2, ear.at);
    assert_eq!(ear.hear(reply(&new, &second, &[4, 5])), Authority::Healthy);
    assert_eq!(ear.listener.statement(), Some(&new));
    let stale = beat(&old, 3, ear.at);
    ear.hear(reply(&old, &stale, &[1, 2]));
    assert_eq!(ear.refused, Some(BeatRefusal::StatementOlder));
}

#[test]
fn a_denial_that_it_did_not_know_makes_the_node_ask_for_its_snapshot() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    let mut next = beat(&three, 1, ear.at);
    next.deny_version = 12;
    ear.hear(reply(&three, &next, &[1, 2]));
    next.sequence = 2;
    ear.hear(reply(&three, &next, &[1, 2]));
    (next.sequence, next.deny_version) = (3, 31);
    ear.hear(reply(&three, &next, &[1, 2]));
    assert_eq!(ear.denied, [12, 31]);
}

#[test]
fn it_asks_at_the_start_at_doorbells_and_in_time() {
    let mut listener = BeatListener::new(CLUSTER, 1);
    let mut now = Moment::from_micros(1);
    listener.handle_input(now, Input::Rung { sequence: 1 });
    assert_eq!(listener.poll_effect(), None, "nothing is known of the disk yet");
    listener.handle_input(now, Input::Restore { kept: None, at: NOW });
    assert_eq!(listener.poll_effect(), Some(Effect::Lasts { until: None }));
    assert!(matches!(listener.poll_effect(), Some(Effect::Ask(_))));
    listener.handle_input(now, Input::Rung { sequence: 2 });
    assert_eq!(listener.poll_effect(), None, "one at a time");
    listener.handle_input(now, Input::Failed);
    listener.handle_input(now, Input::Rung { sequence: 3 });
    assert!(matches!(listener.poll_effect(), Some(Effect::Ask(_))));
    // Nobody answers: it asks again and again, and never more rarely than a beat lasts.
    for _ in 0..20 {
        let next = listener.poll_timeout().unwrap();
        assert!(next.since(now) <= ANSWER_LIMIT);
        now = next;
        listener.handle_timeout(now);
        while listener.poll_effect().is_some() {}
    }
    assert!(POLL * 4 / 3 + GREATEST_RETRY < TTL, "one lost answer costs no beat");
    assert!(POLL * 4 / 3 < KEPT_IDLE, "and the connection is kept until it asks again");
}

#[test]
fn a_ring_for_a_beat_that_the_answer_does_not_have_yet_is_not_forgotten() {
    let three = statement(1, &[1, 2, 3]);
    let mut ear = Ear::new();
    let known = reply(&three, &beat(&three, 1, ear.at), &[1, 2]);
    ear.hear(known.clone());
    let nothing = BeatReply { beat: Vec::new(), ..known.clone() };
    for (answer, sequence) in [(known, 2), (nothing, 3)] {
        // Asked before it rang.
        ear.listener.asked = true;
        ear.listener.handle_input(ear.now, Input::Rung { sequence });
        ear.listener.handle_input(ear.now, Input::Answered { reply: answer, at: ear.at });
        let next = ear.listener.poll_timeout().unwrap();
        assert!(next.since(ear.now) <= FIRST_RETRY, "{:?}", next.since(ear.now));
    }
}

impl Ear {
    /// What was told since the last time: standing, sequence of the beat, seconds without one.
    fn told(&mut self) -> Vec<(AuthorityStanding, u64, u64)> {
        let told = std::mem::take(&mut self.changes);
        let told = told.into_iter();
        told.map(|change| (change.standing, change.sequence, change.without_ms / 1_000)).collect()
    }

    fn hear_next(&mut self, sequence: u64) {
        let three = statement(1, &[1, 2, 3]);
        self.hear(reply(&three, &beat(&three, sequence, self.at), &[1, 2]));
    }

    fn lapse(&mut self, sequence: u64) {
        self.pass(TTL + Duration::from_secs(1));
        self.hear_next(sequence);
    }
}

#[test]
fn a_lapse_is_told_with_how_long_it_was_and_the_beat_that_was_heard_last() {
    use AuthorityStanding::{Degraded, Healthy, Isolated};
    let mut ear = Ear::new();
    ear.hear_next(1);
    assert_eq!(ear.told(), [(Healthy, 1, 0)]);
    ear.pass(TTL);
    assert_eq!(ear.told(), [(Degraded, 1, 0)]);
    ear.pass(ISOLATED_AFTER);
    assert_eq!(ear.told(), [(Isolated, 1, 300)]);
    ear.pass(Duration::from_secs(60));
    ear.hear_next(2);
    assert_eq!(ear.told(), [(Healthy, 2, 360)]);
    // Who stood still finds out late, and says how late.
    ear.pass(TTL + Duration::from_secs(1_000));
    assert_eq!(ear.told(), [(Degraded, 2, 1_000), (Isolated, 2, 1_000)]);
}

#[test]
fn a_lapse_over_a_restart_goes_on_by_the_calendar_and_says_so() {
    use AuthorityStanding::{Degraded, Healthy, Isolated};
    let mut before = Ear::new();
    before.hear_next(1);
    let ended = before.kept.as_ref().unwrap().beat.expires_at;
    for (passed, standing) in [(40, Degraded), (400, Isolated)] {
        let at = ended + Duration::from_secs(passed);
        let mut ear = Ear::restarted(before.kept.clone(), at);
        assert!(ear.changes.iter().all(|change| change.restarted));
        assert_eq!(ear.told(), [(standing, 1, passed)]);
        ear.pass(Duration::from_secs(5));
        ear.hear_next(2);
        assert!(ear.changes.iter().all(|change| change.restarted));
        assert_eq!(ear.told(), [(Healthy, 2, passed + 5)]);
        ear.lapse(3);
        assert!(ear.changes.iter().all(|change| !change.restarted), "the next one is its own");
    }
    // Whoever told a lapse before may still have to tell its end.
    let mut ear = Ear::restarted(before.kept.clone(), NOW);
    assert_eq!(ear.told(), [(Healthy, 1, 0)]);
}

#[test]
fn so_many_lapses_of_an_hour_are_told_and_the_next_one_says_how_many_were_not() {
    let mut ear = Ear::new();
    ear.hear_next(1);
    ear.told();
    let most = u64::from(MAX_LAPSES_PER_HOUR);
    for sequence in 0..most + 3 {
        ear.lapse(2 + sequence);
    }
    assert!(ear.changes.iter().all(|change| change.left_out == 0));
    assert_eq!(ear.told().len() as u64, 2 * most, "begin and end of each that is told");
    // One more, which is as long as the hour.
    ear.pass(Duration::from_secs(3_600));
    ear.hear_next(2 + most + 3);
    assert_eq!(ear.told(), [], "it began too early");
    ear.lapse(2 + most + 4);
    let [degraded, healthy] = ear.changes[..] else { panic!("{:?}", ear.changes) };
    assert_eq!((degraded.left_out, healthy.left_out), (4, 0));
}

#[test]
fn control_that_cannot_record_changes_is_told_none() {
    let mut ear = Ear::new();
    let three = statement(1, &[1, 2, 3]);
    let of_before =
        BeatReply { records_changes: false, ..reply(&three, &beat(&three, 1, ear.at), &[1, 2]) };
    ear.hear(of_before);
    ear.pass(TTL);
    assert_eq!(ear.told(), []);
    // Which one it is is known over a restart, when there is nobody to ask.
    let at = ear.at + ISOLATED_AFTER;
    assert_eq!(Ear::restarted(ear.kept.clone(), at).told(), []);
    ear.hear_next(2);
    ear.pass(TTL);
    assert_eq!(ear.told().len(), 2);
    assert_eq!(Ear::restarted(ear.kept, at + ISOLATED_AFTER).told().len(), 1);
}
