use std::collections::BTreeSet;

use rap_proto::{NodeId, OrganizationId, Timestamp};

use super::{
    Created, DrainRequested, LeaseFenced, LeaseGranted, LeaseReleased, MAX_CONNECTION_NODES,
    NodesAllowed, VpnConnection, VpnConnectionCommand as Command, VpnConnectionCreated,
    VpnConnectionDisabled, VpnConnectionEnabled, VpnConnectionEvent as Event,
    VpnConnectionRejection as Rejection, VpnConnectionRemoved,
};
use crate::{Aggregate, lease::Granted};

impl Aggregate for VpnConnection {
    const CATEGORY: &'static str = "vpn_connection";
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(&self, command: Command, _: Timestamp) -> Result<Vec<Event>, Rejection> {
        let Some(created) = &self.created else { return create(command) };
        match command {
            Command::Create { .. } => Err(Rejection::AlreadyExists),
            Command::Remove if self.removed => Ok(Vec::new()),
            _ if self.removed => Err(Rejection::NotFound),
            Command::Remove if self.tenure.present.is_some() => Err(Rejection::LeaseHeld),
            Command::Remove => Ok(vec![VpnConnectionRemoved {}.into()]),
            Command::AllowNodes { nodes } => self.allow(nodes),
            Command::Enable if self.enabled => Ok(Vec::new()),
            Command::Enable => Ok(vec![VpnConnectionEnabled {}.into()]),
            Command::Disable if !self.enabled => Ok(Vec::new()),
            Command::Disable => Ok(vec![VpnConnectionDisabled {}.into()]),
            Command::GrantLease { node, generation, granted_at, valid_until } => {
                let event = LeaseGranted { node, generation, granted_at, valid_until };
                self.grant(event, created.class.ttl_ms())
            }
            Command::ReleaseLease { generation, reason, released_at } => {
                let released_at = self.tenure.check_end(generation, released_at)?;
                Ok(vec![LeaseReleased { generation, reason, released_at }.into()])
            }
            Command::FenceLease { generation, reason, valid_until } => {
                let valid_until = self.tenure.check_end(generation, valid_until)?;
                Ok(vec![LeaseFenced { generation, reason, valid_until }.into()])
            }
            Command::RequestDrain => Ok(match &self.tenure.present {
                Some(held) if !self.drain_requested => {
                    vec![DrainRequested { generation: held.generation }.into()]
                }
                _ => Vec::new(),
            }),
        }
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Created(event) => {
                let VpnConnectionCreated { organization, name, class, nodes, enabled } =
                    event.clone();
                self.created = Some(Created { organization, name, class });
                self.nodes = nodes;
                self.enabled = enabled;
            }
            Event::NodesAllowed(event) => self.nodes = event.nodes.clone(),
            Event::Enabled(_) => self.enabled = true,
            Event::Disabled(_) => self.enabled = false,
            Event::LeaseGranted(event) => {
                self.tenure.grant(granted(event));
                self.drain_requested = false;
            }
            Event::LeaseReleased(event) => self.tenure.end(event.released_at),
            Event::LeaseFenced(event) => self.tenure.end(event.valid_until),
            Event::DrainRequested(_) => self.drain_requested = true,
            Event::Removed(_) => self.removed = true,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.created.as_ref().map(|created| created.organization)
    }
}

fn create(command: Command) -> Result<Vec<Event>, Rejection> {
    let Command::Create { organization, name, class, nodes, enabled } = command else {
        return Err(Rejection::NotFound);
    };
    check_nodes(&nodes)?;
    Ok(vec![VpnConnectionCreated { organization, name, class, nodes, enabled }.into()])
}

impl VpnConnection {
    fn allow(&self, nodes: BTreeSet<NodeId>) -> Result<Vec<Event>, Rejection> {
        check_nodes(&nodes)?;
        if nodes == self.nodes {
            return Ok(Vec::new());
        }
        Ok(vec![NodesAllowed { nodes }.into()])
    }

    fn grant(&self, event: LeaseGranted, ttl_ms: u32) -> Result<Vec<Event>, Rejection> {
        if !self.enabled {
            return Err(Rejection::Disabled);
        }
        if !self.allows(event.node) {
            return Err(Rejection::NodeNotAllowed);
        }
        self.tenure.check_grant(&granted(&event), ttl_ms)?;
        Ok(vec![event.into()])
    }
}

fn granted(event: &LeaseGranted) -> Granted {
    Granted {
        generation: event.generation,
        holder: event.node.uuid(),
        granted_at: event.granted_at,
        valid_until: event.valid_until,
    }
}

fn check_nodes(nodes: &BTreeSet<NodeId>) -> Result<(), Rejection> {
    if nodes.len() > MAX_CONNECTION_NODES {
        return Err(Rejection::TooManyEntries);
    }
    Ok(())
}
