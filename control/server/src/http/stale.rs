//! What the platform says of sessions at nodes that are cut off from control.

use rap_control_core::{Action, Target};
use rap_events::cluster::{Cluster, ClusterCommand};
use rap_proto::api::{Changed, PlatformStale, SetPlatformStale};

use super::{answer::Done, call::Call, failure::Failure};

pub(super) async fn get(call: Call) -> Result<PlatformStale, Failure> {
    call.allow(Action::ReadPlatformStale, Target::Platform)?;
    let cluster = call.state.cluster();
    Ok(PlatformStale { policy: cluster.stale, revision: cluster.revision })
}

pub(super) async fn set(call: Call, body: SetPlatformStale) -> Result<Done<Changed>, Failure> {
    call.allow(Action::RulePlatformStale, Target::Platform)?;
    let mut work = call.work();
    let mut loaded = work.load::<Cluster>(call.app.custody.cluster.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, ClusterCommand::RuleStale { policy: body.policy })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}
