//! The clients that are served, and the connections that join them: on TCP each channel is a connection of its
//! own, and on QUIC pictures and bulk have one each. Each connection proves that it is a session's client's.

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
    observation::EndReason,
    token::EXPORTER_LABEL,
    wire::client::{ChannelReply, JoinSession},
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::timeout};

use super::{Admitted, CUT_LINGER, Client, Refused};
use crate::{
    frames::{HELLO_TIMEOUT, ReadFrameError, read_frame_within, say_last},
    mesh::{Mesh, close, close_refused, locked},
    pipe::{Inlet, Outlet},
    tcp::Secured,
    transport::adjust_accepted_client,
};

/// Channels that have joined a client and that it has not looked at; more wait.
pub(super) const JOINING: usize = 16;
/// The most connections of one client's lanes: two of each, for one can take the place of another that is lost
/// and not yet known to be.
pub(super) const MAX_LANES: usize = 4;

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

    /// Ends what a client that is done left on its other connections.
    pub(super) fn end_left(&self, client: &Client) {
        for left in self.left_by(client) {
            left.end(EndReason::ClientClosed);
        }
    }

    /// Waits until the channels that a client that is done opened on its other connections are over.
    pub(super) async fn left_run_out(&self, client: &Client) {
        let left = self.left_by(client);
        left.iter().for_each(|left| left.done.cancel());
        for left in left {
            left.over().await;
        }
    }

    /// A client as it was on its connections before this one, and on those that it lost and whose channels go on.
    /// One before may be lost as well, and not be known to be.
    fn left_by(&self, client: &Client) -> Vec<Arc<Client>> {
        let admitted = client.admitted();
        let (session, key) = (admitted.claims.session, admitted.claims.client_key);
        let served = locked(&self.served);
        let mut before = true;
        let mut left = Vec::new();
        for (_, Served { client: other, .. }) in served.range((session, 0)..=(session, u64::MAX)) {
            before &= !std::ptr::eq(&**other, client);
            if (before || other.waits()) && other.admitted().claims.client_key == key {
                left.push(other.clone());
            }
        }
        left
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        locked(&self.mesh.clients.served).remove(&self.place);
    }
}

/// Takes in one channel of a client that is served here.
pub(crate) async fn join(mesh: Arc<Mesh>, secured: Secured) {
    let Secured { outlet: mut send, inlet: mut recv, exported, .. } = secured;
    match admit(&mesh, &mut recv, &exported).await {
        Ok((_, served)) => {
            let there = mesh.bulk.runtime().clone();
            // A client that is over drops what waits for it.
            let _ = served.joining.send(Joined { send, recv, there }).await;
        }
        Err(refused) => {
            refuse(&mesh, &mut send, refused).await;
        }
    }
}

/// Takes in the channels of one lane of a client that is served here, each on a stream of this connection.
pub(crate) async fn join_lane(mesh: Arc<Mesh>, connection: Connection, lane: Lane) {
    let mut exported = [0; 32];
    let export = connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"");
    let first = timeout(HELLO_TIMEOUT, connection.accept_bi()).await;
    let (Ok(()), Ok(Ok((send, recv)))) = (export, first) else {
        mesh.refused(RefusalCode::Malformed, None);
        return close(&connection, Close::Refused(RefusalCode::Malformed));
    };
    let (mut send, mut recv) = (Outlet::Quic(send), Inlet::Quic(recv));
    let admitted = match admit(&mesh, &mut recv, &exported).await {
        Ok((join, served)) => match served.client.lanes.clone().try_acquire_owned() {
            Ok(place) => Ok((join, served, place)),
            Err(_) => {
                let claims = claimed(&served.client.admitted().claims);
                Err((RefusalCode::LimitReached, Some(claims)))
            }
        },
        Err(refused) => Err(refused),
    };
    let (join, served, _place) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            let code = refuse(&mesh, &mut send, refused).await;
            return close_refused(&connection, code).await;
        }
    };
    adjust_accepted_client(&connection);
    let there = mesh.tasks_of(lane).runtime();
    let client = served.client.clone();
    let channels = pass_on(&connection, served, (send, recv), (&join, there));
    let end = tokio::select! {
        biased;
        end = channels => end,
        reason = client.over() => {
            // Its client closes it when it has read how the channels ended.
            let _ = timeout(CUT_LINGER, connection.closed()).await;
            Close::Ended(reason)
        }
    };
    close(&connection, end);
}

/// Passes the streams of a lane on to its client, the first one and all others that say the same as that did.
/// Returns when there can be no more, with what the connection ends with.
async fn pass_on(
    connection: &Connection,
    served: Served,
    (send, recv): (Outlet, Inlet),
    (join, there): (&JoinSession, &Handle),
) -> Close {
    // A client that is over, or has lost the session's own connection, drops what waits for it.
    let _ = served.joining.send(Joined { send, recv, there: there.clone() }).await;
    let mut said = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(read) = said.join_next() => match read {
                Ok((send, recv, Ok(again))) if again == *join => {
                    let _ = served.joining.send(Joined { send, recv, there: there.clone() }).await;
                }
                // Its client gave it up.
                Ok((.., Err(ReadFrameError::Stream(_) | ReadFrameError::TimedOut))) => {}
                _ => {
                    served.client.mesh.refused(RefusalCode::Malformed, None);
                    return Close::Refused(RefusalCode::Malformed);
                }
            },
            accepted = connection.accept_bi() => {
                let Ok((send, recv)) = accepted else { return Close::Done };
                said.spawn(async move {
                    let (send, mut recv) = (Outlet::Quic(send), Inlet::Quic(recv));
                    let read = read_frame_within::<JoinSession>(&mut recv, HELLO_TIMEOUT).await;
                    (send, recv, read)
                });
            }
        }
    }
}

/// Says no to a channel, and why.
async fn refuse(mesh: &Mesh, send: &mut Outlet, (code, claims): Refused) -> RefusalCode {
    mesh.refused(code, claims);
    say_last(send, &ChannelReply::Refused(refusal(code))).await;
    code
}

async fn admit(
    mesh: &Mesh,
    inlet: &mut Inlet,
    exported: &[u8; 32],
) -> Result<(JoinSession, Served), Refused> {
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
    Ok((joining, served))
}
