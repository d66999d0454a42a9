use rap_events::cluster::ClusterCommand;
use rap_proto::Timestamp;

use super::{ProcessCommand, Step, command_id};
use crate::{snapshot::SNAPSHOT_RENEWAL, state::State};

const NAME: &str = "snapshot-renewal";

/// Renews every snapshot long before the oldest of them expires.
pub(super) fn renew(state: &State, now: Timestamp) -> impl Iterator<Item = Step> {
    let cluster = state.cluster();
    let is_due = now >= cluster.renewed_at + SNAPSHOT_RENEWAL;
    cluster.id.filter(|_| is_due).into_iter().map(move |id| Step {
        process: NAME,
        id: command_id(NAME, id.uuid(), cluster.renewed),
        causation: Some(cluster.renewed),
        command: ProcessCommand::Cluster(id, ClusterCommand::RenewSnapshots),
    })
}
