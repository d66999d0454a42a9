use std::{
    sync::Arc,
    task::{Context, Waker},
};

use futures_util::{FutureExt as _, future::join};

use super::executor::block_on;
use crate::{
    conformance,
    log::{Log, ReadError},
    memory::{MAX_WAITERS, MemoryLog},
};

#[test]
fn the_memory_log_conforms() {
    block_on(conformance::run_all(async || Arc::new(MemoryLog::new()) as Arc<dyn Log>));
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
