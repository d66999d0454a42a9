//! Egress pools: the logical places that resources are reached from.

use rap_control_core::{Action, Target, state::Pool as Found};
use rap_events::{
    keys,
    pool::{self, PoolCommand},
};
use rap_proto::{
    OrganizationId, PoolId,
    api::{NewPool, Page, Pool, Problem, ProblemCode},
};

use super::{
    answer::Done,
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, not_found},
    page,
    reference::{self, organization_of},
};

pub(super) async fn list(call: Call) -> Result<Page<Pool>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::ReadPool, Target::Organization(organization))?;
    let pools = call.state.within(organization).pools().iter();
    page::of(&call, pools, |pool| pool.name.clone(), |pool| show(&call, pool))
}

pub(super) async fn get(call: Call) -> Result<Pool, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ReadPool, Target::Pool(id))?;
    let found = call.state.within(organization).pools().get(id);
    found.map(|pool| show(&call, pool)).ok_or_else(|| not_found().into())
}

pub(super) async fn create(call: Call, body: NewPool) -> Result<Done<Pool>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::CreatePool, Target::Organization(organization))?;
    reference::check_name(&body.name)?;
    let id = call.fresh(PoolId::new);
    let mut work = call.work();
    let mut loaded = work.load::<pool::Pool>(id.uuid()).await?;
    work.decide(&mut loaded, PoolCommand::Create { organization, name: body.name.clone() })?;
    work.claim(keys::pool_name(organization, &body.name));
    let revision = loaded.revision;
    call.commit(work, Pool { id, organization, name: body.name, nodes: 0, revision }).await
}

pub(super) async fn remove(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::RemovePool, Target::Pool(id))?;
    if call.state.within(organization).resources().iter().any(|found| found.pool == id) {
        return Err(Problem::new(ProblemCode::Rejected, "resources are reached from it")
            .rule("pool.in_use")
            .into());
    }
    let mut work = call.work();
    let mut loaded = work.load::<pool::Pool>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let (organization, name) = (loaded.state.organization, loaded.state.name.clone());
    work.decide(&mut loaded, PoolCommand::Remove)?;
    if let (Some(organization), Some(name)) = (organization, name) {
        work.release(keys::pool_name(organization, &name));
    }
    call.commit(work, Gone {}).await
}

fn target(call: &Call) -> Result<(OrganizationId, PoolId), Failure> {
    let organization = organization_of(call)?;
    let named = call.reference("pool")?;
    let found = reference::pool(&call.state, organization, &named);
    found.map(|pool| (organization, pool.id)).ok_or_else(|| not_found().into())
}

fn show(call: &Call, pool: &Found) -> Pool {
    Pool {
        id: pool.id,
        organization: pool.organization,
        name: pool.name.clone(),
        nodes: u32::try_from(call.state.nodes().in_pool(pool.id).count()).unwrap_or(u32::MAX),
        revision: pool.stamp.revision,
    }
}
