//! A log that the real aggregates write, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use rap_control_core::State;
use rap_events::{
    Actor, Aggregate, EventCodec as _, StreamId,
    log::{Envelope, NewEvent},
    node::{NodeCommand, Offer},
};
use rap_proto::{
    Capability, CommandId, JoinTokenId, NodeRole, OrganizationId, PoolId, PublicKey, Timestamp,
    snapshot::RoleScope,
};
use uuid::Uuid;

use crate::Outcome;

/// Any moment: nothing here lasts long.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_millis(1_795_422_600_000);

/// How one of many nodes asks to be enrolled. Without an organization it is the platform's.
pub(crate) fn requested(
    number: u32,
    key: PublicKey,
    (organization, role, pools): (Option<OrganizationId>, NodeRole, BTreeSet<PoolId>),
) -> Outcome<NodeCommand> {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 0).to_bits() + number);
    let organizations = organization.map(|organization| [organization].into());
    Ok(NodeCommand::Request {
        name: format!("n{number}").parse()?,
        key,
        addresses: vec![SocketAddr::from((address, 4433))],
        capabilities: BTreeSet::from([Capability::RouteMesh]),
        bus_key: format!("UBUS{number}"),
        agent_version: "0.1.0".to_owned(),
        join_token: JoinTokenId::from_u128(9),
        offer: Offer {
            organization,
            roles: vec![RoleScope { role, organizations }],
            pools,
            auto_approve: true,
        },
    })
}

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
