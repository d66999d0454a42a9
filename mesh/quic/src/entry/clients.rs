//! The clients that are served, and the connections that join them: on TCP each channel is a connection of its
//! own, and on QUIC pictures and bulk have one each. Every channel on them proves that it is a session's client's.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use quinn::Connection;

use rap_mesh_core::{admission::claimed, ended::Close, refusals::refusal};
use rap_proto::{
    Lane, PublicKey, RefusalCode, SessionId,
    observation::{Claimed, EndReason},
    token::EXPORTER_LABEL,
    wire::client::{ChannelReply, JoinSession},
};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

use super::{Admitted, CUT_LINGER, Client};
use crate::{
    frames::{HELLO_TIMEOUT, read_frame_within, write_frame},
    mesh::{Mesh, close, close_refused, locked},
    pipe::{Inlet, Outlet},
    tcp::Secured,
    transport::adjust_accepted_client,
};

/// Connections that have joined a client and that it has not looked at; more wait.
pub(super) const JOINING: usize = 16;

/// A channel's two directions, before its first frame, and where it is to run.
pub(super) struct Joined {
    pub(super) send: Outlet,
    pub(super) recv: Inlet,
    pub(super) there: Handle,
}

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

    /// The newest connection of a session, and its place: a client that lost one has come back with another.
    fn newest(&self, session: SessionId) -> Option<(u64, Served)> {
        let served = locked(&self.served);
        let found = served.range((session, 0)..=(session, u64::MAX)).next_back();
        found.map(|((_, place), served)| (*place, served.clone()))
    }

    /// Waits until a session is over for its newest client here.
    async fn over(&self, session: SessionId) {
        let mut last = None;
        while let Some((place, served)) = self.newest(session).filter(|it| Some(it.0) != last) {
            served.client.over().await;
            last = Some(place);
        }
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
    let Secured { outlet, inlet, exported, .. } = secured;
    // Who was refused was told.
    let _ = take(&mesh, (outlet, inlet), &exported, Lane::Bulk).await;
}

/// Takes in the channels of one lane of a client that is served here, each on a stream of this connection.
pub(crate) async fn join_lane(mesh: Arc<Mesh>, connection: Connection, lane: Lane) {
    let mut exported = [0; 32];
    let export = connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"");
    let first = timeout(HELLO_TIMEOUT, connection.accept_bi()).await;
    let (Ok(()), Ok(Ok((send, recv)))) = (export, first) else {
        return close(&connection, Close::Refused(RefusalCode::Malformed));
    };
    let first = (Outlet::Quic(send), Inlet::Quic(recv));
    let session = match take(&mesh, first, &exported, lane).await {
        Ok(session) => session,
        Err(code) => return close_refused(&connection, code).await,
    };
    adjust_accepted_client(&connection);
    let others = async {
        while let Ok((send, recv)) = connection.accept_bi().await {
            let (mesh, stream) = (mesh.clone(), (Outlet::Quic(send), Inlet::Quic(recv)));
            mesh.clone().spawn(async move {
                let _ = take(&mesh, stream, &exported, lane).await;
            });
        }
    };
    tokio::select! {
        biased;
        () = others => {}
        () = mesh.clients.over(session) => {
            // A client closes it when it has read how its channels ended.
            let _ = timeout(CUT_LINGER, connection.closed()).await;
            close(&connection, Close::Done);
        }
    }
}

/// Takes in one channel, or refuses it. Says of which session it is.
async fn take(
    mesh: &Mesh,
    (mut send, mut recv): (Outlet, Inlet),
    exported: &[u8; 32],
    lane: Lane,
) -> Result<SessionId, RefusalCode> {
    match admit(mesh, &mut recv, exported).await {
        Ok((session, joining)) => {
            let there = mesh.tasks_of(lane).runtime().clone();
            // A client that is over drops what waits for it.
            let _ = joining.send(Joined { send, recv, there }).await;
            Ok(session)
        }
        Err((code, claims)) => {
            mesh.refused(code, claims);
            if write_frame(&mut send, &ChannelReply::Refused(refusal(code))).await.is_ok() {
                // Nothing follows the refusal.
                send.finish().await;
            }
            Err(code)
        }
    }
}

async fn admit(
    mesh: &Mesh,
    inlet: &mut Inlet,
    exported: &[u8; 32],
) -> Result<(SessionId, mpsc::Sender<Joined>), (RefusalCode, Option<Claimed>)> {
    let joining: JoinSession = read_frame_within(inlet, HELLO_TIMEOUT)
        .await
        .map_err(|_| (RefusalCode::Malformed, None))?;
    let served = mesh.clients.newest(joining.session);
    let (_, served) = served.ok_or((RefusalCode::SessionTerminated, None))?;
    let admitted = served.client.admitted();
    if !joining.holds(exported, &admitted.claims.client_key) {
        return Err((RefusalCode::TokenWrongKey, None));
    }
    if served.joining.is_closed() {
        return Err((RefusalCode::SessionTerminated, Some(claimed(&admitted.claims))));
    }
    Ok((joining.session, served.joining))
}
