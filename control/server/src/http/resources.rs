//! Resources: what users may reach, as admins see them, and as users do.

use rap_control_core::{
    Action, Target,
    access::{self, Outlook, TestedResource},
    state::Resource as Found,
};
use rap_events::{
    Aggregate as _, StreamId, keys, pool,
    resource::{self, ResourceCommand},
    vpn_connection::VpnConnection,
};
use rap_proto::{
    OrganizationId, PoolId, ResourceId, VpnConnectionId,
    api::{
        ChangeResource, Changed, NewResource, Page, Problem, ProblemCode, Reachable, Reference,
        Resource, SetResourceConnection, TargetSpec,
    },
    snapshot,
};

use super::{
    answer::Done,
    availability,
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, invalid, not_found},
    page,
    reference::{self, organization_of},
};
use crate::work::Work;

pub(super) async fn list(call: Call) -> Result<Page<Resource>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::ReadResource, Target::Organization(organization))?;
    let resources = call.state.within(organization).resources().iter();
    let outlook = availability::outlook(&call, organization);
    page::of(&call, resources, |r| r.name.clone(), |r| show(&call, &outlook, r))
}

pub(super) async fn get(call: Call) -> Result<Resource, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ReadResource, Target::Resource(id))?;
    let found = call.state.within(organization).resources().get(id).ok_or_else(not_found)?;
    Ok(show(&call, &availability::outlook(&call, organization), found))
}

/// What the caller may connect to, in every organization.
pub(super) async fn reachable(call: Call) -> Result<Page<Reachable>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let principal = call.principal()?;
    let user = principal.user().ok_or_else(not_found)?;
    let mut found: Vec<Reachable> = principal
        .organizations(&call.state)
        .into_iter()
        .filter_map(|id| call.state.organizations().get(id))
        .flat_map(|organization| {
            access::reachable(&call.state, organization.id, user)
                .filter(|resource| call.may(Action::UseResource, Target::Resource(resource.id)))
                .map(|resource| Reachable {
                    id: resource.id,
                    name: resource.name.clone(),
                    kind: resource.kind,
                    organization: organization.id,
                    organization_name: organization.name.clone(),
                    availability: None,
                })
                .collect::<Vec<_>>()
        })
        .collect();
    found.sort_by_key(|resource| resource.id);
    let mut page = page::of(&call, found.into_iter(), |resource| resource.id, |resource| resource)?;
    availability::fill(&call, &mut page.items);
    Ok(page)
}

pub(super) async fn create(call: Call, body: NewResource) -> Result<Done<Resource>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::CreateResource, Target::Organization(organization))?;
    reference::check_name(&body.name)?;
    let mut work = call.work();
    let pool = pool_of(&call, &mut work, organization, &body.pool).await?;
    check_local(&call, &body.target, pool)?;
    let id = call.fresh(ResourceId::new);
    let mut loaded = work.load::<resource::Resource>(id.uuid()).await?;
    let command = ResourceCommand::Create {
        organization,
        name: body.name.clone(),
        kind: body.kind,
        target: to_target(&body.target),
        pool,
    };
    work.decide(&mut loaded, command)?;
    work.decide(&mut loaded, ResourceCommand::Label { labels: body.labels.clone() })?;
    work.claim(keys::resource_name(organization, &body.name));
    let answer = Resource {
        id,
        organization,
        name: body.name,
        kind: body.kind,
        target: body.target,
        pool,
        pool_name: pool_name(&call, organization, pool)?,
        labels: body.labels,
        connection: None,
        connection_name: None,
        availability: None,
        revision: loaded.revision,
    };
    call.commit(work, answer).await
}

pub(super) async fn change(call: Call, body: ChangeResource) -> Result<Done<Changed>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ChangeResource, Target::Resource(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<resource::Resource>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let created = loaded.state.created.clone().ok_or_else(not_found)?;
    let pool = match &body.pool {
        None => created.pool,
        Some(named) => pool_of(&call, &mut work, organization, named).await?,
    };
    let spec = body.target.unwrap_or(from_target(&created.target));
    check_local(&call, &spec, pool)?;
    let command = ResourceCommand::Change {
        kind: body.kind.unwrap_or(created.kind),
        target: to_target(&spec),
        pool,
    };
    work.decide(&mut loaded, command)?;
    if let Some(labels) = body.labels {
        work.decide(&mut loaded, ResourceCommand::Label { labels })?;
    }
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn carry(
    call: Call,
    body: SetResourceConnection,
) -> Result<Done<Changed>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ChangeResource, Target::Resource(id))?;
    let mut work = call.work();
    let connection = match &body.connection {
        None => None,
        Some(named) => Some(connection_of(&call, &mut work, organization, named).await?),
    };
    let mut loaded = work.load::<resource::Resource>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, ResourceCommand::Carry { connection })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn remove(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::RemoveResource, Target::Resource(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<resource::Resource>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    access::check_resource_removal(&call.state, organization, id)
        .map_err(|why| tested(&call, organization, &why))?;
    let name = loaded.state.created.as_ref().map(|created| created.name.clone());
    work.decide(&mut loaded, ResourceCommand::Remove)?;
    if let Some(name) = name {
        work.release(keys::resource_name(organization, &name));
    }
    call.commit(work, Gone {}).await
}

/// Which test it is, only those are told who may read it.
fn tested(call: &Call, organization: OrganizationId, why: &TestedResource) -> Failure {
    let detail = match call.may(Action::ReadPolicy, Target::Organization(organization)) {
        true => why.to_string(),
        false => "a test of a policy asks about it".to_owned(),
    };
    Problem::new(ProblemCode::Rejected, detail).rule("resource.in_test").into()
}

/// The pool that a body names. It must still be there when the command is appended.
async fn pool_of(
    call: &Call,
    work: &mut Work,
    organization: OrganizationId,
    named: &Reference,
) -> Result<PoolId, Failure> {
    let absent = || invalid("pool", "pool_exists", "the organization has no such egress pool");
    let found = reference::pool(&call.state, organization, named).ok_or_else(absent)?;
    let loaded = work.load::<pool::Pool>(found.id.uuid()).await?;
    if loaded.state.removed {
        return Err(absent());
    }
    work.hold_at(StreamId::new(pool::Pool::CATEGORY, found.id.uuid()), loaded.revision);
    Ok(found.id)
}

/// The organization's connection that a body names, if the caller may see it. It must still be there
/// when the command is appended.
async fn connection_of(
    call: &Call,
    work: &mut Work,
    organization: OrganizationId,
    named: &Reference,
) -> Result<VpnConnectionId, Failure> {
    let absent =
        || invalid("connection", "connection_exists", "the organization has no such connection");
    let found = reference::vpn_connection(&call.state, organization, named)
        .filter(|found| call.may(Action::ReadVpnConnection, Target::VpnConnection(found.id)))
        .ok_or_else(absent)?;
    let loaded = work.load::<VpnConnection>(found.id.uuid()).await?;
    if loaded.state.removed {
        return Err(absent());
    }
    work.hold_at(StreamId::new(VpnConnection::CATEGORY, found.id.uuid()), loaded.revision);
    Ok(found.id)
}

/// Dialling a node's own network is more than an organization may allow on others' nodes.
fn check_local(call: &Call, target: &TargetSpec, pool: PoolId) -> Result<(), Failure> {
    if target.allow_local {
        call.allow(Action::AllowLocalTarget, Target::Pool(pool))?;
    }
    Ok(())
}

fn target(call: &Call) -> Result<(OrganizationId, ResourceId), Failure> {
    let organization = organization_of(call)?;
    let named = call.reference("resource")?;
    let found = reference::resource(&call.state, organization, &named).ok_or_else(not_found)?;
    Ok((organization, found.id))
}

fn pool_name(
    call: &Call,
    organization: OrganizationId,
    pool: PoolId,
) -> Result<rap_proto::Name, Failure> {
    let found = call.state.within(organization).pools().get(pool);
    found.map(|pool| pool.name.clone()).ok_or_else(|| not_found().into())
}

fn to_target(spec: &TargetSpec) -> snapshot::Target {
    let TargetSpec { host, port, allow_local } = spec.clone();
    snapshot::Target { host, port, allow_local }
}

fn from_target(target: &snapshot::Target) -> TargetSpec {
    let snapshot::Target { host, port, allow_local } = target.clone();
    TargetSpec { host, port, allow_local }
}

fn show(call: &Call, outlook: &Outlook<'_>, resource: &Found) -> Resource {
    let within = call.state.within(resource.organization);
    let pool = within.pools().get(resource.pool);
    let connection = resource.carried.and_then(|id| within.vpn_connections().get(id));
    Resource {
        id: resource.id,
        organization: resource.organization,
        name: resource.name.clone(),
        kind: resource.kind,
        target: from_target(&resource.target),
        pool: resource.pool,
        pool_name: pool.map_or_else(|| resource.name.clone(), |pool| pool.name.clone()),
        labels: resource.labels.clone(),
        connection: resource.carried,
        connection_name: connection.map(|connection| connection.name.clone()),
        availability: Some(outlook.of(resource)),
        revision: resource.stamp.revision,
    }
}
