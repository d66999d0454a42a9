#![allow(clippy::unwrap_used)]

use rap_events::{
    Actor, EventCodec as _, StreamId,
    cluster::{ClusterEvent, SnapshotsRenewed},
};
use rap_proto::{CommandId, Timestamp};

use super::*;

fn event(position: u64) -> Envelope {
    let new = ClusterEvent::from(SnapshotsRenewed {}).to_new_event(None);
    Envelope {
        position,
        stream: StreamId::new("cluster", uuid::Uuid::from_u128(1)),
        revision: position,
        event_type: new.event_type,
        schema: new.schema,
        payload: new.payload,
        organization: None,
        actor: Actor::Setup,
        command: CommandId::from_u128(u128::from(position)),
        causation: None,
        allowed: None,
        at: Timestamp::default(),
    }
}

fn folded(through: u64) -> State {
    let mut state = State::default();
    (1..=through).for_each(|position| state.fold(&event(position)).unwrap());
    state
}

fn source(through: u64) -> Source {
    let mut source = Source::default();
    (1..=through).for_each(|position| source.take(&event(position)));
    source
}

fn start() -> (Living, watch::Receiver<Arc<State>>) {
    let (sender, states) = watch::channel(Arc::new(State::default()));
    (Living::new(sender, Source::default()), states)
}

#[tokio::test]
async fn what_is_exchanged_is_served_at_once_and_folded_on() {
    let (living, states) = start();
    living.hold().await.fold((1..=3).map(event).collect()).unwrap();
    let held = living.hold().await;
    assert_eq!(held.position(), 3);
    let replaced = held.exchange(folded(3), folded(3), source(3));
    assert_eq!(replaced.published().position(), 3);
    for position in 4..=9 {
        living.hold().await.fold(vec![event(position)]).unwrap();
        assert_eq!(states.borrow().to_bytes(), folded(position).to_bytes(), "{position}");
        assert_eq!(living.hold().await.source().frontier(), source(position).frontier());
    }
}

#[tokio::test]
async fn nothing_is_folded_while_somebody_holds_it_and_turns_are_taken_in_order() {
    let (living, states) = start();
    let held = living.hold().await;
    let folding = async {
        living.hold().await.fold(vec![event(1)]).unwrap();
        states.borrow().position()
    };
    let letting_go = async {
        tokio::task::yield_now().await;
        let seen = states.borrow().position();
        drop(held);
        seen
    };
    assert_eq!(tokio::join!(folding, letting_go), (1, 0));
}

#[tokio::test]
async fn whoever_begins_anew_goes_on_from_what_is_published() {
    let (living, states) = start();
    living.hold().await.fold((1..=2).map(event).collect()).unwrap();
    // The second of these cannot be folded: one state is left half folded.
    let corrupt = living.hold().await.fold(vec![event(3), event(5)]).unwrap_err();
    assert!(matches!(corrupt, Corrupt::Gap { last: 3, next: 5 }), "{corrupt}");
    assert_eq!(states.borrow().position(), 2);
    living.hold().await.begin_anew();
    living.hold().await.fold((3..=4).map(event).collect()).unwrap();
    living.hold().await.fold(vec![event(5)]).unwrap();
    assert_eq!(states.borrow().to_bytes(), folded(5).to_bytes());
    // What was folded twice is in the tree once.
    assert_eq!(living.hold().await.source().frontier(), source(5).frontier());
}
