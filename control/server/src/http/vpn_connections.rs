//! Connections that one node at a time carries: what is wanted. Who carries one is decided
//! elsewhere.

use std::collections::BTreeSet;

use rap_control_core::{Action, Target, lease::Reason, state::VpnConnection as Found};
use rap_events::{
    keys,
    vpn_connection::{self, VpnConnectionCommand},
};
use rap_proto::{
    NodeId, OrganizationId, VpnConnectionId,
    api::{
        Changed, NewVpnConnection, Page, Problem, ProblemCode, Reference, SetVpnConnectionNodes,
        VpnConnection,
    },
};

use super::{
    answer::Done,
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, invalid, not_found},
    page,
    reference::{self, organization_of},
};

pub(super) async fn list(call: Call) -> Result<Page<VpnConnection>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::ReadVpnConnection, Target::Organization(organization))?;
    let connections = call.state.within(organization).vpn_connections().iter();
    page::of(&call, connections, |found| found.name.clone(), |found| show(&call, found))
}

pub(super) async fn get(call: Call) -> Result<VpnConnection, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ReadVpnConnection, Target::VpnConnection(id))?;
    let found = call.state.within(organization).vpn_connections().get(id);
    found.map(|found| show(&call, found)).ok_or_else(|| not_found().into())
}

pub(super) async fn create(
    call: Call,
    body: NewVpnConnection,
) -> Result<Done<VpnConnection>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::CreateVpnConnection, Target::Organization(organization))?;
    reference::check_name(&body.name)?;
    let nodes = own_nodes(&call, organization, &body.nodes)?;
    let id = call.fresh(VpnConnectionId::new);
    let (name, class, enabled) = (body.name, body.class, body.enabled);
    let mut work = call.work();
    let mut loaded = work.load::<vpn_connection::VpnConnection>(id.uuid()).await?;
    let command = VpnConnectionCommand::Create {
        organization,
        name: name.clone(),
        class,
        nodes: nodes.clone(),
        enabled,
    };
    work.decide(&mut loaded, command)?;
    work.claim(keys::vpn_connection_name(organization, &name));
    let answer = VpnConnection {
        id,
        organization,
        name,
        class,
        nodes: nodes.into_iter().collect(),
        enabled,
        held: false,
        node: None,
        draining: false,
        reason: None,
        generation: 0,
        revision: loaded.revision,
    };
    call.commit(work, answer).await
}

pub(super) async fn set_nodes(
    call: Call,
    body: SetVpnConnectionNodes,
) -> Result<Done<Changed>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ChangeVpnConnection, Target::VpnConnection(id))?;
    let nodes = own_nodes(&call, organization, &body.nodes)?;
    change(call, id, VpnConnectionCommand::AllowNodes { nodes }).await
}

pub(super) async fn enable(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let (_, id) = target(&call)?;
    call.allow(Action::ChangeVpnConnection, Target::VpnConnection(id))?;
    change(call, id, VpnConnectionCommand::Enable).await
}

pub(super) async fn disable(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let (_, id) = target(&call)?;
    call.allow(Action::ChangeVpnConnection, Target::VpnConnection(id))?;
    change(call, id, VpnConnectionCommand::Disable).await
}

pub(super) async fn drain(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let (_, id) = target(&call)?;
    call.allow(Action::DrainVpnConnection, Target::VpnConnection(id))?;
    change(call, id, VpnConnectionCommand::RequestDrain).await
}

pub(super) async fn remove(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::RemoveVpnConnection, Target::VpnConnection(id))?;
    let within = call.state.within(organization);
    if within.resources().iter().any(|found| found.carried == Some(id)) {
        return Err(Problem::new(ProblemCode::Rejected, "it carries resources")
            .rule("vpn_connection.in_use")
            .into());
    }
    let mut work = call.work();
    let mut loaded = work.load::<vpn_connection::VpnConnection>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, VpnConnectionCommand::Remove)?;
    if let Some(created) = &loaded.state.created {
        work.release(keys::vpn_connection_name(organization, &created.name));
    }
    call.commit(work, Gone {}).await
}

async fn change(
    call: Call,
    id: VpnConnectionId,
    command: VpnConnectionCommand,
) -> Result<Done<Changed>, Failure> {
    let mut work = call.work();
    let mut loaded = work.load::<vpn_connection::VpnConnection>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, command)?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

/// An organization names its own nodes; of any other it does not learn that it is there.
fn own_nodes(
    call: &Call,
    organization: OrganizationId,
    named: &[Reference],
) -> Result<BTreeSet<NodeId>, Failure> {
    let own = |(at, named): (usize, &Reference)| {
        reference::node(&call.state, named)
            .filter(|node| node.organization == Some(organization) && node.is_approved())
            .map(|node| node.id)
            .ok_or_else(|| invalid(&format!("nodes[{at}]"), "node_exists", "no such node"))
    };
    named.iter().enumerate().map(own).collect()
}

fn target(call: &Call) -> Result<(OrganizationId, VpnConnectionId), Failure> {
    let organization = organization_of(call)?;
    let named = call.reference("connection")?;
    let found =
        reference::vpn_connection(&call.state, organization, &named).ok_or_else(not_found)?;
    Ok((organization, found.id))
}

fn show(call: &Call, found: &Found) -> VpnConnection {
    let holder = found.lease.and_then(|lease| call.state.nodes().get(lease.node));
    let own = holder.filter(|node| node.organization == Some(found.organization));
    VpnConnection {
        id: found.id,
        organization: found.organization,
        name: found.name.clone(),
        class: found.class,
        nodes: found.nodes.iter().copied().collect(),
        enabled: found.enabled,
        held: found.lease.is_some(),
        node: own.map(|node| node.id),
        draining: found.lease.is_some_and(|lease| lease.drain_requested),
        reason: reason(call, found).map(|reason| reason.to_string()),
        generation: found.generation,
        revision: found.stamp.revision,
    }
}

/// What nobody wants needs no grantor to say why nobody carries it.
fn reason(call: &Call, found: &Found) -> Option<Reason> {
    let wanted = found.enabled || found.lease.is_some();
    if wanted { call.app.lease_desk.reason(found.id) } else { Some(Reason::Disabled) }
}
