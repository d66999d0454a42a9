//! The clients that are served, and the connections that join them: on TCP each channel is a
//! connection of its own, which proves that it belongs to a session's client.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rap_mesh_core::{admission::claimed, refusals::refusal};
use rap_proto::{
    PublicKey, RefusalCode, SessionId,
    observation::{Claimed, EndReason},
    wire::client::{ChannelReply, JoinSession},
};
use tokio::sync::mpsc;

use super::{Admitted, Client};
use crate::{
    frames::{HELLO_TIMEOUT, read_frame_within, write_frame},
    mesh::{Mesh, locked},
    pipe::{Inlet, Outlet},
    tcp::Secured,
};

/// Connections that have joined a client and that it has not looked at; more wait.
pub(super) const JOINING: usize = 16;

/// A channel's two directions, before its first frame.
pub(super) type Joined = (Outlet, Inlet);

/// INVARIANT: holds exactly the clients that are being served; `Known` takes its own out.
#[derive(Default)]
pub(crate) struct Clients {
    served: Mutex<BTreeMap<(SessionId, u64), Served>>,
    next: AtomicU64,
}

#[derive(Clone)]
struct Served {
    client: Arc<Client>,
    joining: mpsc::Sender<Joined>,
}

/// A client's place among those that are served.
pub(super) struct Known {
    mesh: Arc<Mesh>,
    place: (SessionId, u64),
}

impl Clients {
    pub(super) fn add(
        &self,
        mesh: &Arc<Mesh>,
        session: SessionId,
        client: Arc<Client>,
        joining: mpsc::Sender<Joined>,
    ) -> Known {
        let place = (session, self.next.fetch_add(1, Ordering::Relaxed));
        locked(&self.served).insert(place, Served { client, joining });
        Known { mesh: mesh.clone(), place }
    }

    /// The newest connection of a session: a client that lost one has come back with another.
    fn newest(&self, session: SessionId) -> Option<Served> {
        let served = locked(&self.served);
        let found = served.range((session, 0)..=(session, u64::MAX)).next_back();
        found.map(|(_, served)| served.clone())
    }

    /// What a session's client showed last, on whichever of its connections.
    pub(super) fn shown_last(&self, session: SessionId, key: PublicKey) -> Option<Arc<Admitted>> {
        let served = locked(&self.served);
        let all = served.range((session, 0)..=(session, u64::MAX)).rev();
        let mut shown = all.map(|(_, served)| served.client.admitted());
        shown.find(|admitted| admitted.claims.client_key == key)
    }

    /// Ends what waits for a client that is done.
    pub(super) fn end_waiting(&self, client: &Client) {
        for waiting in self.waiting(client) {
            waiting.end(EndReason::ClientClosed);
        }
    }

    /// Waits until the channels that a client opened on connections that it lost are over.
    pub(super) async fn waiting_run_out(&self, client: &Client) {
        for waiting in self.waiting(client) {
            waiting.over().await;
        }
    }

    /// A client as it was on the connections that it lost and whose channels go on.
    fn waiting(&self, client: &Client) -> Vec<Arc<Client>> {
        let admitted = client.admitted();
        let (session, key) = (admitted.claims.session, admitted.claims.client_key);
        let served = locked(&self.served);
        let all = served.range((session, 0)..=(session, u64::MAX));
        let waiting = all.map(|(_, served)| served.client.clone()).filter(|served| served.waits());
        waiting.filter(|served| served.admitted().claims.client_key == key).collect()
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        locked(&self.mesh.clients.served).remove(&self.place);
    }
}

/// Takes in one channel of a client that is served here.
pub(crate) async fn join(mesh: Arc<Mesh>, secured: Secured) {
    let Secured { mut outlet, mut inlet, exported, .. } = secured;
    let (code, claims) = match admit(&mesh, &mut inlet, &exported).await {
        Ok(joining) => {
            // A client that is over drops what waits for it.
            let _ = joining.send((outlet, inlet)).await;
            return;
        }
        Err(refused) => refused,
    };
    mesh.refused(code, claims);
    if write_frame(&mut outlet, &ChannelReply::Refused(refusal(code))).await.is_ok() {
        // Nothing follows the refusal.
        outlet.finish().await;
    }
}

async fn admit(
    mesh: &Mesh,
    inlet: &mut Inlet,
    exported: &[u8; 32],
) -> Result<mpsc::Sender<Joined>, (RefusalCode, Option<Claimed>)> {
    let joining: JoinSession = read_frame_within(inlet, HELLO_TIMEOUT)
        .await
        .map_err(|_| (RefusalCode::Malformed, None))?;
    let served = mesh.clients.newest(joining.session);
    let served = served.ok_or((RefusalCode::SessionTerminated, None))?;
    let admitted = served.client.admitted();
    if !joining.holds(exported, &admitted.claims.client_key) {
        return Err((RefusalCode::TokenWrongKey, None));
    }
    if served.joining.is_closed() {
        return Err((RefusalCode::SessionTerminated, Some(claimed(&admitted.claims))));
    }
    Ok(served.joining)
}
