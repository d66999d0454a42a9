//! A log that the real aggregates write, in memory.

use std::collections::BTreeMap;

use rap_control_core::State;
use rap_events::{
    Actor, Aggregate, EventCodec as _, StreamId,
    log::{Envelope, NewEvent},
};
use rap_proto::{CommandId, Timestamp};
use uuid::Uuid;

use crate::Outcome;

/// Any moment: nothing here lasts long.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_millis(1_795_422_600_000);

/// The events so far, and the state after them.
#[derive(Default)]
pub(crate) struct Platform {
    pub(crate) log: Vec<Envelope>,
    pub(crate) state: State,
    revisions: BTreeMap<StreamId, u64>,
}

impl Platform {
    /// Gives a new aggregate its commands, in order, as one command of the log.
    pub(crate) fn create<A: Aggregate>(
        &mut self,
        id: Uuid,
        commands: impl IntoIterator<Item = A::Command>,
    ) -> Outcome<()>
    where
        A::Rejection: std::fmt::Debug,
    {
        let mut aggregate = A::default();
        for command in commands {
            let events = aggregate
                .decide(command, NOW)
                .map_err(|rejection| format!("refused: {rejection:?}"))?;
            for event in &events {
                aggregate.evolve(event);
                self.push(A::stream(id), event.to_new_event(aggregate.organization()))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, stream: StreamId, new: NewEvent) -> Outcome<()> {
        let revision = self.revisions.entry(stream.clone()).or_default();
        *revision += 1;
        let position = self.log.len() as u64 + 1;
        let envelope = Envelope {
            position,
            stream,
            revision: *revision,
            event_type: new.event_type,
            schema: new.schema,
            payload: new.payload,
            organization: new.organization,
            actor: Actor::System { process: "bench".to_owned() },
            allowed: None,
            command: CommandId::from_u128(position.into()),
            causation: None,
            at: NOW,
        };
        self.state.fold(&envelope)?;
        self.log.push(envelope);
        Ok(())
    }
}
