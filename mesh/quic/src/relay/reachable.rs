//! Egresses that keep themselves reachable at this relay, and what is asked of them: to knock, for
//! a flow of datagrams, and to connect back, for a stream.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use rap_mesh_core::{
    Caller,
    admission::{admit_reachable, may_stay_reachable},
    carrier::Carrier,
    reachable::{Limits, MAX_CALLS_OF_ONE, Table},
    refusals::refusal,
};
use rap_proto::{
    Lane, NodeId, RefusalCode,
    wire::hop::{CALL_TTL_MS, Call, Reply, knock},
};
use serde::Serialize;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};

use super::{
    CATCH_UP_WAIT, Origin, may_be_outdated,
    socket::{Awaiting, FlowSocket},
    stream::new_ticket,
};
use crate::{
    frames::write_frame,
    mesh::{Mesh, locked},
    pipe::{Inlet, Outlet},
    watch::{catch_up, until},
};

/// How long an egress has for a knock, or for a connection. Whoever asked for a flow waits as long
/// again, for its address; that of a stream is tried meanwhile.
pub(super) const CALL_WAIT: Duration = Duration::from_millis(CALL_TTL_MS);
/// A line that takes no call for so long is given up.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The most tickets that are remembered when nobody waits for them any more; whoever brings an
/// older one is a stranger.
const MAX_GIVEN_UP: usize = 1024;

pub(crate) struct Reachable {
    state: Mutex<State>,
}

/// INVARIANT: `lines` are the nodes of `table`.
struct State {
    table: Table,
    lines: BTreeMap<NodeId, Line>,
    /// Who waits for a connection that comes with this ticket: at most as many as calls.
    backs: BTreeMap<[u8; 32], oneshot::Sender<Back>>,
    /// Tickets that nobody waits for any more, the oldest first.
    given_up: VecDeque<[u8; 32]>,
    /// Connections that came with one of those.
    late: u64,
}

/// The way to one egress. An older one ends when nobody holds its queue any more.
#[derive(Clone)]
struct Line {
    calls: mpsc::Sender<Call>,
    origin: Origin,
}

/// A connection that an egress made because it was asked to, with its place among all.
pub(super) struct Back(pub(super) TcpStream, pub(super) OwnedSemaphorePermit);

impl Default for Reachable {
    fn default() -> Self {
        let (table, lines, backs) = (Table::new(Limits::RELAY), BTreeMap::new(), BTreeMap::new());
        let (given_up, late) = (VecDeque::new(), 0);
        Self { state: Mutex::new(State { table, lines, backs, given_up, late }) }
    }
}

impl Reachable {
    pub(crate) fn nodes(&self) -> usize {
        locked(&self.state).table.len()
    }

    /// Connections that an egress made when nobody waited for them any more.
    pub(crate) fn late(&self) -> u64 {
        locked(&self.state).late
    }

    /// Gives a connection to whoever waits for this ticket, and counts one that comes late. Gives it
    /// back when the ticket is none of these.
    pub(super) fn came_back(&self, ticket: &[u8; 32], back: Back) -> Result<(), Back> {
        let mut state = locked(&self.state);
        let Some(waiting) = state.backs.remove(ticket) else {
            let Some(place) = state.given_up.iter().position(|late| late == ticket) else {
                return Err(back);
            };
            state.given_up.remove(place);
            state.late += 1;
            return Ok(());
        };
        // Whoever waited may have gone this very moment.
        if waiting.send(back).is_err() {
            state.late += 1;
        }
        Ok(())
    }

    fn line(&self, node: NodeId) -> Option<Line> {
        locked(&self.state).lines.get(&node).cloned()
    }
}

/// Serves an egress that keeps itself reachable, for as long as this is so.
pub(super) async fn serve(
    mesh: &Arc<Mesh>,
    caller: Caller,
    origin: Origin,
    (mut send, mut recv): (Outlet, Inlet),
) {
    // Who asked may have given it up and have another line already.
    if recv.read_exact(&mut [0]).now_or_never().is_some() {
        return;
    }
    let version = mesh.view().version;
    let mut taken = Taken::take(mesh, caller, origin);
    if taken.as_ref().is_err_and(|code| may_be_outdated(*code))
        && catch_up(mesh, version, CATCH_UP_WAIT).await
    {
        taken = Taken::take(mesh, caller, origin);
    }
    match taken {
        Ok(taken) => {
            if say(&mut send, &Reply::Done).await {
                tracing::debug!(node = %caller.node, "a node keeps itself reachable");
                taken.pass_on(&caller, &mut send, &mut recv).await;
            }
        }
        Err(code) => {
            mesh.refused(code, None);
            if !say(&mut send, &Reply::Refused(refusal(code))).await {
                return;
            }
        }
    }
    // Whoever reads no more is not waited for.
    let _ = timeout(CALL_TIMEOUT, send.finish()).await;
}

/// Whether it was taken, by a node that may read nothing.
async fn say(send: &mut Outlet, what: &impl Serialize) -> bool {
    matches!(timeout(CALL_TIMEOUT, write_frame(send, what)).await, Ok(Ok(())))
}

/// A line while it is held; the place is given back however it ends.
struct Taken {
    mesh: Arc<Mesh>,
    node: NodeId,
    number: u64,
    calls: mpsc::Receiver<Call>,
}

impl Taken {
    fn take(mesh: &Arc<Mesh>, caller: Caller, origin: Origin) -> Result<Self, RefusalCode> {
        admit_reachable(&mesh.view(), &caller, mesh.clock.now())?;
        // Each call may be followed by the word that it was heard.
        let (sender, calls) = mpsc::channel(2 * MAX_CALLS_OF_ONE);
        let mut state = locked(&mesh.reachable.state);
        let number = state.table.take(caller.node)?;
        state.lines.insert(caller.node, Line { calls: sender, origin });
        Ok(Self { mesh: mesh.clone(), node: caller.node, number, calls })
    }

    async fn pass_on(mut self, caller: &Caller, send: &mut Outlet, recv: &mut Inlet) {
        let mesh = self.mesh.clone();
        let distrusted =
            until(&mesh, |view, now| (!may_stay_reachable(view, caller, now)).then_some(()));
        tokio::pin!(distrusted);
        // Nothing is sent this way: whatever comes is the end.
        let mut byte = [0];
        let ended = recv.read_exact(&mut byte);
        tokio::pin!(ended);
        loop {
            let call = tokio::select! {
                biased;
                () = &mut distrusted => {
                    // A relay that may not go on itself has nothing to say of the others.
                    if !mesh.view().must_stop(mesh.clock.now()) {
                        mesh.refused(RefusalCode::PeerNotTrusted, None);
                    }
                    return;
                }
                () = mesh.leaving.cancelled() => return,
                _ = &mut ended => return,
                call = self.calls.recv() => call,
            };
            // A newer line took its place.
            let Some(call) = call else { return };
            if !say(send, &call).await {
                return;
            }
        }
    }
}

impl State {
    fn give_up(&mut self, ticket: [u8; 32]) {
        if self.given_up.len() >= MAX_GIVEN_UP {
            self.given_up.pop_front();
        }
        self.given_up.push_back(ticket);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = locked(&self.mesh.reachable.state);
        if state.table.lose(self.node, self.number) {
            state.lines.remove(&self.node);
        }
    }
}

/// The place of a call that waits.
struct Waiting<'m> {
    mesh: &'m Mesh,
    asker: NodeId,
    node: NodeId,
    ticket: Option<[u8; 32]>,
}

impl<'m> Waiting<'m> {
    fn begin(mesh: &'m Mesh, asker: NodeId, node: NodeId) -> Result<Self, RefusalCode> {
        locked(&mesh.reachable.state).table.call(asker, node)?;
        Ok(Self { mesh, asker, node, ticket: None })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.mesh.reachable.state);
        state.table.called(self.asker, self.node);
        if let Some(ticket) = self.ticket
            && state.backs.remove(&ticket).is_some()
        {
            state.give_up(ticket);
        }
    }
}

/// A socket to a node that keeps itself reachable here on QUIC, towards wherever its datagrams come
/// from. `None` when it does not, or does not knock in time.
pub(super) async fn knocked(
    mesh: &Mesh,
    lane: Lane,
    asker: NodeId,
    node: NodeId,
) -> Option<FlowSocket> {
    let Line { calls, origin } = mesh.reachable.line(node)?;
    // Where no datagram comes from, none gets to.
    if origin.carrier == Carrier::Tcp {
        return None;
    }
    let _place = Waiting::begin(mesh, asker, node).ok()?;
    let like = SocketAddr::new(origin.proven, 0);
    let socket = Awaiting::bind(&*mesh.network, lane, origin.own, like).ok()?;
    let port = socket.local_port().ok()?;
    let mut secret = [0; 16];
    rap_pki::tls::provider().secure_random.fill(&mut secret).ok()?;
    calls.try_send(Call::Knock { port, secret }).ok()?;
    let heard = timeout(CALL_WAIT, socket.knocked(knock(&secret), origin.proven)).await;
    // Without it the node knocks a few times more, and that is all.
    let _ = calls.try_send(Call::Heard { port });
    match heard {
        Ok(Ok(socket)) => Some(socket),
        Ok(Err(error)) => {
            tracing::debug!(%node, %error, "no socket heard a knock");
            None
        }
        Err(_) => {
            tracing::debug!(%node, "nobody knocked");
            None
        }
    }
}

/// A connection that a node makes which keeps itself reachable here.
pub(super) async fn called_back(mesh: &Mesh, asker: NodeId, node: NodeId) -> io::Result<Back> {
    let absent = || io::Error::from(io::ErrorKind::NotConnected);
    let Line { calls, .. } = mesh.reachable.line(node).ok_or_else(absent)?;
    let mut place = Waiting::begin(mesh, asker, node).map_err(|_| absent())?;
    let ticket = new_ticket().map_err(|_| absent())?;
    let (sender, back) = oneshot::channel();
    place.ticket = Some(ticket);
    locked(&mesh.reachable.state).backs.insert(ticket, sender);
    calls.try_send(Call::ConnectBack { ticket }).map_err(|_| absent())?;
    match timeout(CALL_WAIT, back).await {
        Ok(Ok(back)) => Ok(back),
        Ok(Err(_)) | Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{net::Ipv4Addr, sync::Arc};

    use tokio::{net::TcpListener, sync::Semaphore};

    use super::*;

    fn ticket(number: usize) -> [u8; 32] {
        let mut ticket = [0; 32];
        ticket[..8].copy_from_slice(&number.to_be_bytes());
        ticket
    }

    async fn back() -> Back {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        Back(stream, Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap())
    }

    #[tokio::test]
    async fn a_late_connection_is_counted_once_and_a_strangers_is_given_back() {
        let reachable = Reachable::default();
        locked(&reachable.state).give_up(ticket(1));
        assert!(reachable.came_back(&ticket(2), back().await).is_err());
        assert_eq!(reachable.late(), 0);
        assert!(reachable.came_back(&ticket(1), back().await).is_ok());
        assert!(reachable.came_back(&ticket(1), back().await).is_err(), "it counts once");
        assert_eq!(reachable.late(), 1);
        let (sender, waiting) = oneshot::channel();
        locked(&reachable.state).backs.insert(ticket(3), sender);
        drop(waiting);
        assert!(reachable.came_back(&ticket(3), back().await).is_ok());
        assert_eq!(reachable.late(), 2, "who waited had just gone");
    }

    #[tokio::test]
    async fn so_many_tickets_are_remembered_that_nobody_waits_for() {
        let reachable = Reachable::default();
        for number in 0..=MAX_GIVEN_UP {
            locked(&reachable.state).give_up(ticket(number));
        }
        assert_eq!(locked(&reachable.state).given_up.len(), MAX_GIVEN_UP);
        assert!(reachable.came_back(&ticket(0), back().await).is_err(), "the oldest is forgotten");
        assert!(reachable.came_back(&ticket(MAX_GIVEN_UP), back().await).is_ok());
    }
}
