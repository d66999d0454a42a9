//! The snapshots of all nodes, renewed before their time.

use rap_control_core::{Action, Target};
use rap_events::cluster::{Cluster, ClusterCommand};
use rap_proto::api::Changed;

use super::{answer::Done, call::Call, endpoint::Nothing, failure::Failure};

/// Every node's snapshot becomes a newer one that says the same.
pub(super) async fn renew(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    call.allow(Action::RenewSnapshots, Target::Platform)?;
    let mut work = call.work();
    let mut loaded = work.load::<Cluster>(call.app.custody.cluster.uuid()).await?;
    work.decide(&mut loaded, ClusterCommand::RenewSnapshots)?;
    call.commit(work, Changed { revision: loaded.revision }).await
}
