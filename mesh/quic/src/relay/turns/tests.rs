#![allow(clippy::unwrap_used)]

use std::pin::pin;

use futures_util::FutureExt as _;
use rap_mesh_core::bounds::Bound;
use rap_proto::NodeId;

use super::*;

/// The turns of an interactive flow within this bound, and of one of bulk, at one relay.
fn flows(flow: Bound) -> (Arc<Turns>, Carried, Carried) {
    let turns = Arc::new(Turns::new(Limits { flow, ..Limits::RELAY }, Clock::start()));
    let whose = Whose { asker: NodeId::from_u128(1), organization: None };
    let keys = turns.begin(1, Lane::Interactive, whose).unwrap();
    let bulk = turns.begin(2, Lane::Bulk, whose).unwrap();
    (turns, keys, bulk)
}

const WIDE: Bound = Limits::RELAY.flow;

#[tokio::test]
async fn a_stream_that_has_more_lets_nobody_below_between() {
    let (turns, keys, bulk) = flows(WIDE);
    let mut turn = Gate::turn(&keys.up).await;
    let mut waits = pin!(Gate::turn(&bulk.up));
    for _ in 0..3 {
        rap_splice::Turn::passed(&mut turn, 1_000);
        assert!(waits.as_mut().now_or_never().is_none());
        rap_splice::Turn::again(&mut turn).await;
    }
    assert_eq!(turns.status().bytes, 3_000, "each part is counted once");
    assert!(waits.as_mut().now_or_never().is_none());
    drop(turn);
    assert!(waits.now_or_never().is_some());
    assert_eq!(turns.status().bytes, 3_000);
}

#[tokio::test]
async fn a_stream_that_is_at_its_bound_stops_nobody() {
    // A hundred kilobytes in a second, and 5,000 at once.
    let (turns, keys, bulk) = flows(Bound::new(1_000, 800_000));
    let mut turn = Gate::turn(&keys.up).await;
    rap_splice::Turn::passed(&mut turn, 100_000);
    let mut waits = pin!(Gate::turn(&bulk.up));
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(rap_splice::Turn::again(&mut turn).now_or_never().is_none());
    assert!(waits.now_or_never().is_some());
    assert_eq!(turns.status().held_back, 1);
}

/// What was granted at the last moment is for nobody.
#[tokio::test]
async fn whoever_gives_up_waiting_for_its_next_turn_holds_none() {
    let (_turns, keys, bulk) = flows(WIDE);
    let mut turn = bulk.up.next_turn().await;
    let first = keys.up.next_turn().await;
    assert!(turn.again().now_or_never().is_none());
    drop(first);
    drop(turn);
    assert_eq!(bulk.up.waiter.granted.load(Ordering::Relaxed), 0);
    let mut next = pin!(bulk.up.next_turn());
    let keys = keys.up.next_turn().await;
    assert!(next.as_mut().now_or_never().is_none());
    drop(keys);
    assert!(next.now_or_never().is_some());
}
