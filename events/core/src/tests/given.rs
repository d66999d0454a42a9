//! Given these events, when this command comes, then those events follow.

use std::fmt::Debug;

use rap_proto::Timestamp;

use crate::{Aggregate, EventCodec};

/// When every command comes that does not say otherwise.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_millis(1_790_000_000_000);

pub(crate) struct Given<A> {
    state: A,
    now: Timestamp,
}

pub(crate) struct Outcome<A: Aggregate> {
    given: A,
    result: Result<Vec<A::Event>, A::Rejection>,
}

/// The state after `events`, each of which is stored and read again on its way.
pub(crate) fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let mut state = A::default();
    for event in events {
        let stored = event.to_new_event(None);
        let read = A::Event::decode(&stored.event_type, stored.schema, &stored.payload);
        state.evolve(&read.expect("what was written can be read"));
    }
    Given { state, now: NOW }
}

impl<A: Aggregate> Given<A> {
    pub(crate) fn at(self, now: Timestamp) -> Self {
        Self { now, ..self }
    }

    pub(crate) fn state(self) -> A {
        self.state
    }

    pub(crate) fn when(self, command: A::Command) -> Outcome<A> {
        let result = self.state.decide(command, self.now);
        Outcome { given: self.state, result }
    }
}

impl<A: Aggregate> Outcome<A>
where
    A::Rejection: PartialEq + Debug,
{
    /// Exactly these events follow. Returns the state after them.
    #[track_caller]
    pub(crate) fn then(self, expected: impl IntoIterator<Item = A::Event>) -> A {
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(self.result.as_ref(), Ok(&expected));
        let mut state = self.given;
        expected.iter().for_each(|event| state.evolve(event));
        state
    }

    /// It is so already: the command changes nothing.
    #[track_caller]
    pub(crate) fn nothing(self) {
        self.then([]);
    }

    #[track_caller]
    pub(crate) fn rejected(self, expected: A::Rejection) {
        assert_eq!(self.result, Err(expected));
    }
}
