//! What the platform says of its nodes' peers and of what makes a path the better one.

use rap_control_core::{Action, Target};
use rap_events::cluster::{Cluster, ClusterCommand};
use rap_proto::{
    api::{Changed, PlatformMesh, SetPlatformMesh},
    mesh::MeshRule,
};

use super::{
    answer::Done,
    call::Call,
    failure::{Failure, invalid},
};

pub(super) async fn get(call: Call) -> Result<PlatformMesh, Failure> {
    call.allow(Action::ReadPlatformMesh, Target::Platform)?;
    let cluster = call.state.cluster();
    let MeshRule { peers, weights } = cluster.mesh.clone();
    Ok(PlatformMesh { peers, weights, revision: cluster.revision })
}

pub(super) async fn set(call: Call, body: SetPlatformMesh) -> Result<Done<Changed>, Failure> {
    call.allow(Action::RulePlatformMesh, Target::Platform)?;
    let SetPlatformMesh { peers, weights } = body;
    let rule = MeshRule { peers, weights };
    // The command would be rejected; this one names the field.
    rule.check().map_err(|fault| invalid(&fault.field(), fault.rule(), fault.to_string()))?;
    let mut work = call.work();
    let mut loaded = work.load::<Cluster>(call.app.custody.cluster.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, ClusterCommand::RuleMesh { rule })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}
