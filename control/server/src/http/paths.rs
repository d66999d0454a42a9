//! What the platform says of the paths between its nodes.

use rap_control_core::{Action, Target};
use rap_events::cluster::{Cluster, ClusterCommand};
use rap_proto::{
    api::{Changed, PlatformPaths, SetPlatformPaths},
    paths::PathRule,
};

use super::{answer::Done, call::Call, failure::Failure};

pub(super) async fn get(call: Call) -> Result<PlatformPaths, Failure> {
    call.allow(Action::ReadPlatformPaths, Target::Platform)?;
    let cluster = call.state.cluster();
    let PathRule { direct, audited } = cluster.paths;
    Ok(PlatformPaths { direct, audited, revision: cluster.revision })
}

pub(super) async fn set(call: Call, body: SetPlatformPaths) -> Result<Done<Changed>, Failure> {
    call.allow(Action::RulePlatformPaths, Target::Platform)?;
    let SetPlatformPaths { direct, audited } = body;
    let rule = PathRule { direct, audited };
    let mut work = call.work();
    let mut loaded = work.load::<Cluster>(call.app.custody.cluster.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, ClusterCommand::RulePaths { rule })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}
