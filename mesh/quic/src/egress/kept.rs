//! The lasting flows of an egress: each belongs to the entry that opened it, and finds its way back
//! under its name.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rap_mesh_core::resume::{Budget, RESUME_WITHIN};
use rap_proto::{ChannelKind, ResourceId, SessionId, token::AccessClaims, wire::resume::FlowId};

use super::Origin;
use crate::{
    mesh::{Mesh, locked},
    pipe::{Keeper, Lasting, WeakLasting},
};

#[derive(Default)]
pub(crate) struct KeptFlows {
    flows: Mutex<BTreeMap<FlowId, Kept>>,
    pub(super) budget: Arc<Mutex<Budget>>,
}

/// A flow, and what it was opened as. Whoever asks for it again has to ask for the same.
struct Kept {
    origin: Origin,
    session: SessionId,
    resource: ResourceId,
    channel: ChannelKind,
    /// Set once the opening was answered.
    flow: Option<WeakLasting>,
}

/// A name that is taken, until this is dropped.
pub(super) struct Name {
    mesh: Arc<Mesh>,
    id: FlowId,
}

/// Why a flow is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotFound {
    /// It ended, or was never here.
    Gone,
    /// It belongs to another node, session or lane.
    Foreign,
}

impl KeptFlows {
    /// `None` when there are too many, or when the name is taken.
    pub(super) fn name(
        mesh: &Arc<Mesh>,
        id: FlowId,
        origin: Origin,
        claims: &AccessClaims,
        channel: ChannelKind,
    ) -> Option<Name> {
        let mut flows = locked(&mesh.kept.flows);
        if flows.len() >= mesh.limits.lasting_flows || flows.contains_key(&id) {
            return None;
        }
        let AccessClaims { session, resource, .. } = *claims;
        flows.insert(id, Kept { origin, session, resource, channel, flow: None });
        Some(Name { mesh: mesh.clone(), id })
    }

    pub(super) fn set(&self, id: FlowId, flow: &Lasting) {
        if let Some(kept) = locked(&self.flows).get_mut(&id) {
            kept.flow = Some(flow.downgrade());
        }
    }

    pub(super) fn find(
        &self,
        id: FlowId,
        origin: Origin,
        claims: &AccessClaims,
        channel: ChannelKind,
    ) -> Result<Lasting, NotFound> {
        let flows = locked(&self.flows);
        let kept = flows.get(&id).ok_or(NotFound::Gone)?;
        let same = kept.origin == origin
            && kept.session == claims.session
            && kept.resource == claims.resource
            && kept.channel == channel;
        if !same {
            return Err(NotFound::Foreign);
        }
        kept.flow.as_ref().and_then(WeakLasting::upgrade).ok_or(NotFound::Gone)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        locked(&self.mesh.kept.flows).remove(&self.id);
    }
}

/// Waits for the entry to come back.
pub(super) struct Waiting {
    pub(super) mesh: Arc<Mesh>,
}

impl Keeper for Waiting {
    fn lost(self: Arc<Self>, flow: Lasting) {
        // A flow that ends meanwhile is kept by nobody.
        let flow = flow.downgrade();
        let mesh = self.mesh.clone();
        self.mesh.spawn(async move {
            tokio::select! {
                // Whoever passes its bytes ends it.
                () = mesh.leaving.cancelled() => {}
                () = tokio::time::sleep(RESUME_WITHIN) => {
                    if let Some(flow) = flow.upgrade() {
                        flow.expire();
                    }
                }
            }
        });
    }
}
