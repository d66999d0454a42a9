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

use rap_mesh_core::resume::{RESUME_WITHIN, Shares};
use rap_proto::{
    ChannelKind, Lane, OrganizationId, PublicKey, ResourceId, SessionId,
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

/// INVARIANT: each flow has a place of its organization.
struct Named {
    flows: BTreeMap<FlowId, Kept>,
    places: Shares,
}

/// Whose a flow is, and what it was opened as. Whoever asks for it again has to ask for the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    opener: Opener,
    organization: OrganizationId,
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
    organization: OrganizationId,
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
        let AccessClaims { organization, session, resource, .. } = *claims;
        Self { opener, organization, session, resource, channel }
    }
}

impl KeptFlows {
    /// For `most` flows, whose organizations share the places.
    pub(crate) fn new(most: usize, store: Store) -> Self {
        let named = Named { flows: BTreeMap::new(), places: Shares::new(most) };
        Self { named: Arc::new(Mutex::new(named)), store: Arc::new(store) }
    }

    /// `None` when the owner's organization has as many as it may, or when the name is taken.
    pub(crate) fn name(&self, id: FlowId, owner: Owner) -> Option<Name> {
        let mut named = locked(&self.named);
        if named.flows.contains_key(&id) || !named.places.take(owner.organization, 1) {
            return None;
        }
        named.flows.insert(id, Kept { owner, flow: None });
        Some(Name { named: self.named.clone(), id, organization: owner.organization })
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
        let (id, organization) = (name.id, name.organization);
        let store = self.store.of(organization);
        let (send, recv, flow) = lasting(leg, Arc::new(waiting), store, Some(Box::new(name)));
        if let Some(kept) = locked(&self.named).flows.get_mut(&id) {
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
            let kept = named.flows.get(&id).ok_or(NotFound::Gone)?;
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
    // Also when whoever answers is ended meanwhile.
    let _withdrawn = offer.map(|_| Withdrawn { lasting: lasting.clone(), generation });
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
    if answered {
        lasting.go_on((send, recv, place), generation, received)
    } else {
        abandon(send, recv);
        false
    }
}

/// Takes an offer back that nothing came of.
struct Withdrawn {
    lasting: Lasting,
    generation: u32,
}

impl Drop for Withdrawn {
    fn drop(&mut self) {
        self.lasting.withdraw(self.generation);
    }
}

/// A name that nobody can guess. `None` when there is no randomness.
pub(crate) fn new_name() -> Option<FlowId> {
    let mut random = [0; 16];
    rap_pki::tls::provider().secure_random.fill(&mut random).ok()?;
    Some(FlowId::from_random(random))
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut named = locked(&self.named);
        named.flows.remove(&self.id);
        named.places.give(self.organization, 1);
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
                    biased;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::{Signer as _, key::LocalKey};

    use super::*;

    fn owner(organization: u128) -> Owner {
        let key = LocalKey::from_random(&[7; 32]).unwrap().public_key();
        Owner {
            opener: Opener::Client(key, Lane::Bulk),
            organization: OrganizationId::from_u128(organization),
            session: SessionId::from_u128(1),
            resource: ResourceId::from_u128(1),
            channel: ChannelKind::Stream,
        }
    }

    #[test]
    fn an_organization_that_names_all_it_can_leaves_names_to_the_others() {
        let kept = KeptFlows::new(8, Store::default());
        let mut next = 0;
        let mut name_all = |organization| {
            let all = std::iter::from_fn(|| {
                next += 1;
                kept.name(FlowId::from_random([next; 16]), owner(organization))
            });
            all.take(9).collect::<Vec<Name>>()
        };
        let (first, second) = (name_all(1), name_all(2));
        assert_eq!((first.len(), second.len()), (4, 2));
        drop(first);
        assert_eq!(name_all(2).len(), 2, "what is given back is shared again");
        assert!(kept.name(FlowId::from_random([1; 16]), owner(1)).is_some());
    }

    #[test]
    fn a_name_is_taken_once() {
        let kept = KeptFlows::new(8, Store::default());
        let name = kept.name(FlowId::from_random([1; 16]), owner(1));
        assert!(kept.name(FlowId::from_random([1; 16]), owner(1)).is_none());
        drop(name);
        assert_eq!(locked(&kept.named).places.taken(), 0);
    }
}
