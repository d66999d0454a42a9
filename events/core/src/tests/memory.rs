use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Waker},
};

use futures_util::{FutureExt as _, future::join};
use rap_proto::{CommandId, Timestamp};

use super::executor::block_on;
use crate::{
    BeatTable, LeaseTable as _,
    conformance::{self, lease::Leased},
    lease::{LeaseChange, Renewal, RenewalOutcome},
    log::{Append, AppendError, Log, NewEvent, ReadError, StreamId, StreamWrite},
    memory::{MAX_WAITERS, MemoryLog},
    tree::Tree as _,
};

#[test]
fn the_memory_log_conforms() {
    block_on(conformance::run_all(async || Arc::new(MemoryLog::new()) as Arc<dyn Log>));
}

#[test]
fn the_memory_logs_beats_conform() {
    block_on(conformance::beat::run_all(async || Arc::new(MemoryLog::new()) as Arc<dyn BeatTable>));
}

#[test]
fn the_memory_logs_sealed_heads_conform() {
    block_on(conformance::heads::run(Arc::new(MemoryLog::new())));
}

#[test]
fn the_memory_logs_subject_keys_conform() {
    let log = Arc::new(MemoryLog::new());
    block_on(conformance::subjects::run(log.clone(), log));
}

#[test]
fn the_memory_logs_leases_conform() {
    block_on(conformance::lease::run_all(async || {
        let clock = Arc::new(AtomicI64::new(1_000));
        let read = Arc::clone(&clock);
        let now = move || Timestamp::from_unix_millis(read.load(Ordering::SeqCst));
        let log = Arc::new(MemoryLog::with_clock(now));
        let pass = move |millis: u64| {
            clock.fetch_add(i64::try_from(millis).unwrap(), Ordering::SeqCst);
            std::future::ready(()).boxed()
        };
        Leased { log: log.clone(), table: log, pass: Box::new(pass) }
    }));
}

#[test]
fn without_a_clock_no_lease_expires() {
    let log = MemoryLog::new();
    let lease = StreamId::new("lease", uuid::Uuid::from_u128(1));
    let holder = uuid::Uuid::from_u128(2);
    let change = LeaseChange::Grant {
        lease: lease.clone(),
        generation: 1,
        holder,
        ttl_ms: 1,
        timeline: None,
    };
    let append = Append { leases: vec![change], ..super::handler::empty_append() };
    block_on(log.append(append)).unwrap();
    let renewal = Renewal { lease, generation: 1, holder };
    let renewed = block_on(log.renew(vec![renewal])).unwrap();
    assert_eq!(renewed.outcomes, [RenewalOutcome::Renewed { remaining_ms: 1 }]);
}

#[test]
fn what_was_decided_before_a_failover_is_refused() {
    let log = MemoryLog::new();
    let lease = StreamId::new("lease", uuid::Uuid::from_u128(1));
    let grant = |generation, timeline| {
        let (lease, holder) = (lease.clone(), uuid::Uuid::from_u128(2));
        let timeline = Some(timeline);
        let change = LeaseChange::Grant { lease, generation, holder, ttl_ms: 0, timeline };
        Append { leases: vec![change], ..super::handler::empty_append() }
    };
    let before = block_on(log.read_leases("lease", None, 1)).unwrap().at.timeline;
    log.fail_over();
    let refused = block_on(log.append(grant(1, before)));
    assert_eq!(refused, Err(AppendError::TimelineChanged { timeline: before + 1 }));
    assert!(block_on(log.append(grant(1, before + 1))).is_ok());
    assert_eq!(block_on(log.read_leases("lease", None, 1)).unwrap().rows.len(), 1, "all is there");
}

#[test]
fn what_a_standby_did_not_hear_of_is_lost_and_another_event_takes_its_place() {
    let log = MemoryLog::new();
    let store = |number: u128, expected| {
        let stream = StreamId::new("thing", uuid::Uuid::from_u128(1));
        let event = NewEvent {
            event_type: format!("thing.{number}"),
            schema: 1,
            payload: bytes::Bytes::new(),
            organization: None,
        };
        let writes = vec![StreamWrite { stream, expected, events: vec![event] }];
        let command = CommandId::from_u128(number);
        block_on(log.append(Append::plain(command, Timestamp::default(), writes))).unwrap().last
    };
    assert_eq!(store(1, 0), 1);
    let standby = log.standby();
    assert_eq!((standby.head(), store(2, 1)), (1, 2));
    let roots = || block_on(log.frontier()).unwrap().root();
    let (lost, root) = (block_on(log.read(1, 1)).unwrap(), roots());
    log.fail_over_to(standby);
    assert_eq!(block_on(log.head()).unwrap(), 1);
    assert!(block_on(log.command(CommandId::from_u128(2))).unwrap().is_none());
    assert_eq!(store(3, 1), 2, "the position is free again");
    assert_ne!((block_on(log.read(1, 1)).unwrap(), roots()), (lost, root));
    assert_eq!(block_on(log.read_leases("thing", None, 1)).unwrap().at.timeline, 2);
}

#[test]
#[should_panic(expected = "nobody will wake it")]
fn a_log_that_wakes_nobody_would_be_noticed() {
    let log = MemoryLog::new();
    let _ = block_on(log.wait_beyond(0));
}

#[test]
fn too_many_waiters_are_refused_and_dropped_ones_do_not_count() {
    let log = MemoryLog::new();
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting: Vec<_> = (0..MAX_WAITERS).map(|_| log.wait_beyond(0)).collect();
    assert!(waiting.iter_mut().all(|wait| wait.poll_unpin(&mut context).is_pending()));
    let refused = block_on(log.wait_beyond(0));
    assert!(matches!(refused, Err(ReadError::Unavailable(_))));
    waiting.pop();
    let mut last = log.wait_beyond(0);
    assert!(last.poll_unpin(&mut context).is_pending());
}

#[test]
fn two_waiters_are_both_woken() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new());
    let append = super::handler::append_one(&log);
    let ((one, two), ()) = block_on(join(join(log.wait_beyond(0), log.wait_beyond(0)), append));
    assert_eq!((one, two), (Ok(1), Ok(1)));
}
