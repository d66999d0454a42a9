//! The agent's actors. Each is the shell of one machine; they know each other by [`Slot`]s, and
//! any one of them can die and be started again without the others.

pub(crate) mod beat;
pub(crate) mod fetcher;
pub(crate) mod identity;
pub(crate) mod leases;
pub(crate) mod link;
pub(crate) mod mesh;
pub(crate) mod peers;
pub(crate) mod snapshots;
pub(crate) mod spool;
pub(crate) mod status;
pub(crate) mod telemetry;
pub(crate) mod witness;
pub(crate) mod workload;

use std::sync::Arc;

use actix::Message;
use rap_agent_core::{record::HeldCredentials, standing::RevokedBy};
use rap_mesh::BulkThreads;

use crate::{
    RunOptions,
    actors::{
        beat::BeatActor, fetcher::FetcherActor, identity::IdentityActor, leases::LeaseActor,
        link::LinkActor, mesh::MeshActor, peers::PeerActor, snapshots::SnapshotActor,
        spool::SpoolActor, status::StatusActor, telemetry::TelemetryActor, witness::WitnessActor,
        workload::WorkloadActor,
    },
    board::Board,
    clock::Clock,
    control::{ControlClient, Reach},
    ground::{Ground, Lost, offload},
    shell::Slot,
    state::State,
};

/// What every actor is made from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) options: Arc<RunOptions>,
    pub(crate) ground: Arc<dyn Ground>,
    /// The ground's.
    pub(crate) clock: Clock,
    pub(crate) control: Reach,
    pub(crate) ca: rap_proto::Digest,
    pub(crate) cluster: rap_proto::ClusterId,
    pub(crate) node: rap_proto::NodeId,
    pub(crate) state: State,
    pub(crate) board: Board,
    /// Where the mesh moves bulk.
    pub(crate) bulk: Arc<BulkThreads>,
}

impl Parts {
    /// Random bits for what is no secret.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bits = [0; N];
        self.ground.fill(&mut bits);
        bits
    }

    /// See [`offload`].
    pub(crate) fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, Lost>> + Send + 'static {
        offload(&*self.ground, work)
    }

    /// What a machine's pauses are drawn from.
    pub(crate) fn seed(&self) -> u64 {
        u64::from_le_bytes(self.random())
    }

    pub(crate) fn show_servers(&self) {
        self.board.update(|report| self.control.servers.show(&mut report.control));
    }

    /// A new client of the control plane, with the credentials of the moment.
    pub(crate) fn control_client(&self) -> Result<ControlClient, String> {
        let held = self.state.credentials().map_err(|error| error.to_string())?;
        let held = held.ok_or("the credentials are gone")?;
        ControlClient::authenticated(self.control.clone(), &held.credentials, &self.state.key)
            .map_err(|error| error.to_string())
    }
}

/// Where each actor is found.
#[derive(Clone, Default)]
pub(crate) struct Crew {
    pub(crate) identity: Slot<IdentityActor>,
    pub(crate) snapshots: Slot<SnapshotActor>,
    pub(crate) fetcher: Slot<FetcherActor>,
    pub(crate) witness: Slot<WitnessActor>,
    pub(crate) beat: Slot<BeatActor>,
    pub(crate) link: Slot<LinkActor>,
    pub(crate) spool: Slot<SpoolActor>,
    pub(crate) workload: Slot<WorkloadActor>,
    pub(crate) mesh: Slot<MeshActor>,
    pub(crate) leases: Slot<LeaseActor>,
    pub(crate) status: Slot<StatusActor>,
    pub(crate) telemetry: Slot<TelemetryActor>,
    pub(crate) peers: Slot<PeerActor>,
}

/// Newer credentials, already checked and kept.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct Renewed(pub(crate) Arc<HeldCredentials>);

/// The node is no longer part of the cluster.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Revoked(pub(crate) RevokedBy);

/// Dies as a mistake in an actor would: for tests of the guardian.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Die;

#[cfg(test)]
macro_rules! mortal {
    ($($actor:ty),* $(,)?) => {$(
        impl actix::Handler<Die> for $actor {
            type Result = ();

            fn handle(&mut self, _: Die, _: &mut Self::Context) {
                panic!("told to die by a test");
            }
        }
    )*};
}

#[cfg(test)]
mortal!(
    BeatActor,
    FetcherActor,
    IdentityActor,
    LeaseActor,
    LinkActor,
    MeshActor,
    PeerActor,
    SnapshotActor,
    SpoolActor,
    StatusActor,
    TelemetryActor,
    WitnessActor,
    WorkloadActor,
);
