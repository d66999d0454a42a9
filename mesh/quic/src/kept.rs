//! The lasting flows of an egress, or of an entry: each belongs to the entry, or to the client,
//! that opened it, and finds its way back under its name.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rap_mesh_core::resume::RESUME_WITHIN;
use rap_proto::{
    ChannelKind, Lane, PublicKey, ResourceId, SessionId,
    token::AccessClaims,
    wire::resume::{FlowId, Resume},
};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    egress::Origin,
    frames::{ANSWER_LIMIT, write_frame},
    mesh::{Mesh, locked},
    pipe::{Inlet, Keeper, Lasting, Leg, Outlet, Store, Unsent, WeakLasting, abandon, lasting},
};

pub(crate) struct KeptFlows {
    named: Arc<Mutex<Named>>,
    store: Arc<Store>,
}

type Named = BTreeMap<FlowId, Kept>;

/// Whose a flow is, and what it was opened as. Whoever asks for it again has to ask for the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    opener: Opener,
    session: SessionId,
    resource: ResourceId,
    channel: ChannelKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    Entry(Origin),
    /// Whoever holds this key.
    Client(PublicKey, Lane),
}

struct Kept {
    owner: Owner,
    /// Set once the opening was answered.
    flow: Option<WeakLasting>,
}

/// A name that is taken, until this is dropped.
pub(crate) struct Name {
    named: Arc<Mutex<Named>>,
    id: FlowId,
}

/// Why a flow is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// It ended, or was never here.
    Gone,
    /// It belongs to another node, client, session or lane.
    Foreign,
}

impl Owner {
    pub(crate) fn new(opener: Opener, claims: &AccessClaims, channel: ChannelKind) -> Self {
        Self { opener, session: claims.session, resource: claims.resource, channel }
    }
}

impl KeptFlows {
    pub(crate) fn new(store: Store) -> Self {
        Self { named: Arc::default(), store: Arc::new(store) }
    }

    /// `None` when there are `most`, or when the name is taken.
    pub(crate) fn name(&self, most: usize, id: FlowId, owner: Owner) -> Option<Name> {
        let mut named = locked(&self.named);
        if named.len() >= most || named.contains_key(&id) {
            return None;
        }
        named.insert(id, Kept { owner, flow: None });
        Some(Name { named: self.named.clone(), id })
    }

    /// Makes a lasting flow of the connection on which its opening was answered, which has this place.
    /// `None` when something came that does not belong to it.
    pub(crate) fn keep(
        &self,
        name: Name,
        (send, recv, place): (Outlet, Inlet, impl Any + Send),
        waiting: Waiting,
    ) -> Option<(Outlet, Inlet, Lasting)> {
        let leg = Leg::new(send, recv)?.in_place(place);
        let id = name.id;
        let (send, recv, flow) =
            lasting(leg, Arc::new(waiting), self.store.clone(), Some(Box::new(name)));
        if let Some(kept) = locked(&self.named).get_mut(&id) {
            kept.flow = Some(flow.downgrade());
        }
        Some((send, recv, flow))
    }

    /// The flow that `owner` asks for with this generation. A connection that a later one has
    /// overtaken finds nothing.
    pub(crate) fn find(
        &self,
        id: FlowId,
        owner: Owner,
        generation: u32,
    ) -> Result<Lasting, NotFound> {
        let flow = {
            let named = locked(&self.named);
            let kept = named.get(&id).ok_or(NotFound::Gone)?;
            if kept.owner != owner {
                return Err(NotFound::Foreign);
            }
            kept.flow.as_ref().and_then(WeakLasting::upgrade).ok_or(NotFound::Gone)?
        };
        if generation > flow.generation() { Ok(flow) } else { Err(NotFound::Gone) }
    }
}

/// Answers whoever asked for a flow, and gives it the connection that was asked on, which has this
/// place. Until the answer is out the old one stays, if it is there; when it is not taken in time, or
/// when a newer one is asked for, everything is as before. Without a number the answer is that there is
/// nothing to go on with. Returns whether the flow goes on.
pub(crate) async fn hand_over<T: Serialize>(
    lasting: &Lasting,
    (mut send, recv, place): (Outlet, Inlet, impl Any + Send),
    Resume { generation, received, .. }: Resume,
    answer: impl FnOnce(Option<u64>) -> T,
) -> bool {
    let offer = lasting.offer(generation).ok();
    let reply = answer(offer);
    let answering = async {
        write_frame(&mut send, &reply).await?;
        if offer.is_none() {
            send.finish().await;
        }
        Ok::<(), Unsent>(())
    };
    // Until it is taken the flow counts as one that somebody comes for.
    let answered = matches!(timeout(ANSWER_LIMIT, answering).await, Ok(Ok(())));
    let Some(_) = offer else { return false };
    let goes_on = if answered {
        lasting.go_on((send, recv, place), generation, received)
    } else {
        abandon(send, recv);
        false
    };
    lasting.withdraw(generation);
    goes_on
}

/// A name that nobody can guess. `None` when there is no randomness.
pub(crate) fn new_name() -> Option<FlowId> {
    let mut random = [0; 16];
    rap_pki::tls::provider().secure_random.fill(&mut random).ok()?;
    Some(FlowId::from_random(random))
}

impl Drop for Name {
    fn drop(&mut self) {
        locked(&self.named).remove(&self.id);
    }
}

/// Waits for whoever opened a flow to come back, for as long as that is expected.
pub(crate) struct Waiting {
    mesh: Arc<Mesh>,
    /// One task waits for the flow, however often it loses a connection.
    attended: AtomicBool,
    is_expected: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Waiting {
    pub(crate) fn new(
        mesh: &Arc<Mesh>,
        is_expected: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let (attended, is_expected) = (AtomicBool::new(false), Box::new(is_expected));
        Self { mesh: mesh.clone(), attended, is_expected }
    }
}

impl Keeper for Waiting {
    fn lost(self: Arc<Self>, flow: Lasting) {
        if self.attended.swap(true, Ordering::Relaxed) {
            return;
        }
        // A flow that ends meanwhile is kept by nobody.
        let flow = flow.downgrade();
        let mesh = self.mesh.clone();
        self.mesh.spawn(async move {
            let mut pause = RESUME_WITHIN;
            loop {
                tokio::select! {
                    // Whoever passes its bytes ends it.
                    () = mesh.leaving.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                match flow.upgrade() {
                    Some(flow) if !flow.expire() => pause = flow.may_rest_for(),
                    Some(_) | None => return,
                }
            }
        });
    }

    fn is_hopeful(&self) -> bool {
        (self.is_expected)()
    }
}
