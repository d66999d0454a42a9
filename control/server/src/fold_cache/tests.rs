#![allow(clippy::unwrap_used)]

use std::{ops::Range, sync::Arc};

use rap_events::{
    Append, Envelope, EventCodec as _, MemoryLog, StreamId, Tree as _,
    cluster::{ClusterBootstrapped, ClusterEvent, SnapshotsRenewed},
    log::StreamWrite,
};
use rap_proto::{CommandId, Timestamp};
use tokio::sync::watch;

use super::*;
use crate::{actors::fold_keeper::leave, living::Living};

const CLUSTER: ClusterId = ClusterId::from_u128(1);

/// A log whose events each renew the snapshots of one cluster at some time of their own.
async fn log(events: u64, from: i64) -> MemoryLog {
    let log = MemoryLog::new();
    grow(&log, 0..events, from).await;
    log
}

async fn grow(log: &MemoryLog, revisions: Range<u64>, from: i64) {
    let stream = StreamId::new("cluster", CLUSTER.uuid());
    for revision in revisions {
        let event = match revision {
            0 => ClusterEvent::from(ClusterBootstrapped {
                cluster: CLUSTER,
                ca_certificate: b"certificate".to_vec().into(),
                control_keys: Vec::new(),
                setup_code: Digest::of(b"code").into(),
            }),
            _ => SnapshotsRenewed {}.into(),
        };
        let write = StreamWrite {
            stream: stream.clone(),
            expected: revision,
            events: vec![event.to_new_event(None)],
        };
        let appended = log.append(Append {
            request_hash: Digest::of(b"request"),
            ..Append::plain(
                CommandId::from_u128(u128::from(revision) + 1),
                Timestamp::from_unix_millis(from + i64::try_from(revision).unwrap()),
                vec![write],
            )
        });
        appended.await.unwrap();
    }
}

async fn folded(log: &MemoryLog, through: u64) -> Folded {
    let mut folded = Folded::default();
    let events: Vec<Envelope> = log.read(0, usize::MAX).await.unwrap();
    for envelope in events.iter().filter(|envelope| envelope.position <= through) {
        folded.state.fold(envelope).unwrap();
        folded.source.take(envelope);
    }
    folded
}

async fn refusal(dir: &Path, cluster: ClusterId, log: &MemoryLog) -> String {
    read(&dir.join(FILE), cluster, log).await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_was_folded_is_found_again_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(300, 0).await;
    assert!(load(dir.path(), CLUSTER, &log).await.is_none(), "nothing was kept");
    let half = folded(&log, 200).await;
    store(dir.path(), CLUSTER, &half.state, half.source.frontier()).unwrap();
    let kept = load(dir.path(), CLUSTER, &log).await.unwrap();
    assert_eq!(kept.state.position(), 200);
    let resumed = crate::actors::projection::resume(&log, 300, kept).await.unwrap();
    let whole = folded(&log, 300).await;
    assert_eq!(resumed.state.to_bytes(), whole.state.to_bytes());
    assert_eq!(resumed.source.frontier().root(), log.frontier().await.unwrap().root());
}

#[tokio::test]
async fn a_cache_that_does_not_match_is_left_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let log = log(300, 0).await;
    let half = folded(&log, 200).await;
    store(dir.path(), CLUSTER, &half.state, half.source.frontier()).unwrap();
    let good = fs::read(&path).unwrap();

    // The log was rewritten, or is shorter than what was folded.
    let rewritten = self::log(300, 1).await;
    assert!(refusal(dir.path(), CLUSTER, &rewritten).await.contains("did not grow"));
    let shorter = self::log(199, 0).await;
    assert!(refusal(dir.path(), CLUSTER, &shorter).await.contains("did not grow"));
    assert!(refusal(dir.path(), ClusterId::from_u128(2), &log).await.contains("cluster"));

    // Any byte of it that is not as it was written.
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        fs::write(&path, &bytes).unwrap();
        assert!(read(&path, CLUSTER, &log).await.is_err(), "byte {at}");
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(refusal(dir.path(), CLUSTER, &log).await.contains("damaged"));

    // Of the release before, and of the one behind.
    let stored = || codec::decode::<Stored>(&good, good.len()).unwrap();
    for other in [
        Stored { fold: FOLD_VERSION - 1, ..stored() },
        Stored { fold: FOLD_VERSION + 1, ..stored() },
        Stored { format: FORMAT - 1, ..stored() },
        Stored { program: "0.0.1".to_owned(), ..stored() },
    ] {
        fs::write(&path, codec::encode(&other)).unwrap();
        assert!(refusal(dir.path(), CLUSTER, &log).await.contains("another release"));
        assert!(load(dir.path(), CLUSTER, &log).await.is_none());
    }

    fs::write(&path, &good).unwrap();
    assert!(load(dir.path(), CLUSTER, &log).await.is_some());
}

#[tokio::test]
async fn a_state_and_another_tree_are_not_kept_together() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(10, 0).await;
    let (five, ten) = (folded(&log, 5).await, folded(&log, 10).await);
    let refused = store(dir.path(), CLUSTER, &five.state, ten.source.frontier());
    assert!(matches!(refused, Err(NotKept::OtherTree { events: 10, position: 5 })));
    assert!(!dir.path().join(FILE).exists());
}

/// A shelf, states of three positions, and where what is kept lies.
struct Kept {
    shelf: Shelf,
    log: MemoryLog,
    dir: tempfile::TempDir,
}

impl Kept {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path(), CLUSTER);
        Self { shelf, log: log(30, 0).await, dir }
    }

    async fn store(&self, generation: Generation, position: u64) {
        let Folded { state, source } = folded(&self.log, position).await;
        self.shelf.store(generation, &state, source.frontier());
    }

    /// The position of what the next start would go on from.
    async fn lies_there(&self) -> Option<u64> {
        let kept = load(self.dir.path(), CLUSTER, &self.log).await;
        kept.map(|kept| kept.state.position())
    }

    /// From now on nothing can be written.
    fn obstruct(&self) {
        fs::create_dir(self.dir.path().join(FILE).with_extension("new")).unwrap();
    }
}

#[tokio::test]
async fn a_state_that_was_taken_before_an_exchange_is_not_kept_after_it() {
    let kept = Kept::new().await;
    let before = kept.shelf.generation();
    kept.store(before, 10).await;
    let rebuilt = kept.shelf.begin_generation();
    assert_eq!(rebuilt, kept.shelf.generation());
    // It was taken before the exchange, and comes before or behind what was rebuilt.
    kept.store(before, 30).await;
    assert_eq!(kept.lies_there().await, Some(10));
    kept.store(rebuilt, 20).await;
    kept.store(before, 30).await;
    assert_eq!(kept.lies_there().await, Some(20), "what was rebuilt");
    kept.store(rebuilt, 30).await;
    assert_eq!(kept.lies_there().await, Some(30));
    kept.store(rebuilt, 20).await;
    assert_eq!(kept.lies_there().await, Some(30), "the newest one stays");
}

#[tokio::test]
async fn what_cannot_be_replaced_after_an_exchange_is_removed() {
    let kept = Kept::new().await;
    let first = kept.shelf.generation();
    kept.store(first, 10).await;
    kept.obstruct();
    kept.store(first, 20).await;
    kept.shelf.give_up();
    assert_eq!(kept.lies_there().await, Some(10), "nothing speaks against it");
    let rebuilt = kept.shelf.begin_generation();
    kept.store(rebuilt, 20).await;
    assert_eq!(kept.lies_there().await, None);
    assert!(!kept.dir.path().join(FILE).exists());
}

#[tokio::test]
async fn whoever_has_nothing_to_keep_after_an_exchange_removes_what_was_before() {
    let kept = Kept::new().await;
    // What an earlier start left is of the first generation.
    let Folded { state, source } = folded(&kept.log, 10).await;
    store(kept.dir.path(), CLUSTER, &state, source.frontier()).unwrap();
    kept.shelf.give_up();
    assert_eq!(kept.lies_there().await, Some(10));
    let rebuilt = kept.shelf.begin_generation();
    kept.shelf.give_up();
    assert!(!kept.dir.path().join(FILE).exists());
    kept.shelf.give_up();
    kept.store(rebuilt, 20).await;
    kept.shelf.give_up();
    assert_eq!(kept.lies_there().await, Some(20), "what was rebuilt stays");
}

/// The primary lost what was folded last, others came in its place, and this replica did not notice.
#[tokio::test]
async fn a_state_of_lost_events_is_not_taken_for_one_of_what_stands_in_their_place() {
    for others in 2..=4 {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::new(dir.path(), CLUSTER));
        let log = log(3, 0).await;
        let standby = log.standby();
        grow(&log, 3..5, 0).await;
        let Folded { state, source } = folded(&log, 5).await;
        let (states, _) = watch::channel(Arc::new(state));
        let living = Living::new(states, source);
        leave(&living, &shelf).await;
        assert_eq!(load(dir.path(), CLUSTER, &log).await.unwrap().state.position(), 5);

        log.fail_over_to(standby);
        grow(&log, 3..3 + others, 1_000).await;
        leave(&living, &shelf).await;
        assert!(load(dir.path(), CLUSTER, &log).await.is_none(), "{others}");
    }
}

/// Whoever goes on from a cache follows from its last event, and not from another one there.
#[tokio::test]
async fn what_is_taken_from_a_cache_knows_its_last_event() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(10, 0).await;
    let half = folded(&log, 5).await;
    store(dir.path(), CLUSTER, &half.state, half.source.frontier()).unwrap();
    let kept = load(dir.path(), CLUSTER, &log).await.unwrap();
    assert!(kept.source.leaf().is_some());
    assert_eq!(kept.source.leaf(), half.source.leaf());
}
