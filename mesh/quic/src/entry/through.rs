//! A through flow at its entry: a way to the egress is opened, and bytes that are not this node's to
//! read pass over it.

mod open;
mod tickets;

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use rap_mesh_core::{
    admission::claimed, moves::LEFT_WITHIN, refusals::refusal, resume::RESUME_WITHIN,
};
use rap_proto::{
    NodeId, RefusalCode, Signer as _,
    observation::EndReason,
    refusal::Refusal,
    signed,
    token::AccessClaims,
    wire::through::{self, Answer, TICKET_TTL_MS, VOUCHER_TTL_MS, Voucher, Wanted, Word},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::{sleep, timeout},
};

use super::{
    Admitted, Client,
    channel::{Account, may_serve},
};
use crate::{
    frames::write_frame,
    lanes::{self, Metered, find_way},
    mesh::{Mesh, locked},
    pipe::{Broken, Inlet, Outlet},
    shaping::Shaped,
    splice::{Counters, Joined, join},
    tally::{FlowEnd, Passing},
    tcp::InLane,
    watch::{throughout, until},
};

use tickets::{Came, Expected};

pub(crate) use open::Ways;
pub(crate) use tickets::Tickets;

/// The most ways of one client's connection that it has not come over yet, as each is a connection to an
/// egress that says nothing. More wait.
pub(super) const MAX_EXPECTED: usize = 8;
/// How long a client may take to take a word.
const SAY_WITHIN: Duration = Duration::from_secs(1);
/// How long a way stays when its client needs it no more: what it sent last may be on its way.
const LINGER: Duration = Duration::from_secs(3);
/// How long a client that is there may take to ask for another way than one that broke.
const ASKS_WITHIN: Duration = Duration::from_secs(5);

/// Opens a way for a flow that was admitted like a channel, and passes its bytes.
pub(super) async fn serve(
    client: Arc<Client>,
    admitted: Arc<Admitted>,
    (mut send, recv): (Outlet, Inlet),
    wanted: Wanted,
) {
    let opened = tokio::select! {
        biased;
        _ = client.over_or_lost() => return,
        opened = Opened::new(&client, &admitted.claims, wanted) => opened,
    };
    let answer = match &opened {
        Ok(Some(opened)) => Answer::Way(opened.told()),
        Ok(None) => Answer::Plain,
        Err(refusal) => Answer::Refused(refusal.clone()),
    };
    let answered = write_frame(&mut send, &answer).await;
    match opened {
        Ok(Some(opened)) if answered.is_ok() => opened.carry(&client, (send, recv)).await,
        _ => send.finish().await,
    }
}

/// A way that waits for its client.
struct Opened {
    joint: Joint,
    way: open::Way,
    expected: Expected,
    voucher: Vec<u8>,
    /// Among those that the client has not come over yet.
    expected_place: OwnedSemaphorePermit,
}

/// What a client is joined with.
struct Joint {
    socket: lanes::Way,
    wanted: Wanted,
    claims: AccessClaims,
    shaped: Arc<Shaped>,
}

/// What became of the stream that the client asked on.
#[derive(Clone, Copy)]
enum Asker {
    /// The client needs the way no more: it has another, or none, or the flow is over.
    Done,
    /// The client's connection is lost.
    Lost,
}

impl Opened {
    async fn new(
        client: &Client,
        claims: &AccessClaims,
        wanted: Wanted,
    ) -> Result<Option<Self>, Refusal> {
        let mesh = &client.mesh;
        let refused = |code| {
            mesh.refused(code, Some(claimed(claims)));
            refusal(code)
        };
        // Further ones wait: a browser asks for many at once.
        let place = client.expected.clone().acquire_owned().await;
        let Ok(expected_place) = place else { return Ok(None) };
        let (session, channel, lane) = (claims.session, wanted.channel, wanted.lane);
        let max_open = claims.channels.get(&channel).map_or(0, |grant| grant.max_open);
        let account = || {
            locked(&mesh.entry).open_channel(session, channel, max_open)?;
            Ok(Account::open(mesh.clone(), session, channel))
        };
        let way = mesh.ways.enter(mesh, claims, &wanted, account).map_err(refused)?;
        let egress = wanted.egress.map(|egress| lanes::Egress {
            node: egress,
            over: way.goes_over(),
            insists: way.is_further(),
        });
        let Some(socket) = find_way(mesh, claims, lane, egress).await else {
            if egress.is_some_and(|egress| egress.over.is_some()) {
                way.is_unreachable();
            }
            return Ok(None);
        };
        if !way.is_at(socket.key.egress) {
            return Err(refused(RefusalCode::AccessDenied));
        }
        let shaped = Arc::new(Shaped::open(mesh, claims, lane).map_err(refused)?);
        let Some(expected) = mesh.tickets.expect() else { return Ok(None) };
        let voucher = vouch(mesh, (claims, &wanted), socket.key.egress);
        tracing::debug!(%session, %lane, egress = %socket.key.egress, "a way for a through flow");
        let joint = Joint { socket, wanted, claims: claims.clone(), shaped };
        Ok(Some(Self { joint, way, expected, voucher, expected_place }))
    }

    fn told(&self) -> through::Way {
        let (egress, ticket) = (self.joint.socket.key.egress, self.expected.ticket);
        through::Way { egress, ticket, voucher: self.voucher.clone() }
    }

    /// Passes bytes once the client has come, and waits for its next way when this one is lost.
    async fn carry(mut self, client: &Client, (mut send, mut recv): (Outlet, Inlet)) {
        let asker = asker(&mut recv).shared();
        let limit = Duration::from_millis(TICKET_TTL_MS);
        let came = tokio::select! {
            biased;
            _ = client.over() => return,
            _ = asker.clone() => return,
            came = timeout(limit, &mut self.expected.came) => came,
        };
        let Ok(Ok(came)) = came else { return };
        let Self { joint, way, expected_place, .. } = self;
        drop(expected_place);
        let is_left = asker.clone().then(|_| sleep(LINGER));
        let joined = tokio::select! {
            biased;
            joined = joint.run(client, came, (&way, is_left)) => joined,
            () = tell(&way, &mut send) => return,
        };
        // The end of its stream tells the client that the way is gone.
        drop(send);
        let patience = async {
            match (joined, asker.await) {
                (Some(Joined::Broken | Joined::Left), Asker::Lost) => sleep(RESUME_WITHIN).await,
                (Some(Joined::Broken | Joined::Left), Asker::Done) => sleep(ASKS_WITHIN).await,
                (Some(Joined::Ended(_)) | None, _) => {}
            }
        };
        if joined.is_some() {
            tokio::select! {
                biased;
                _ = client.over() => {}
                () = way.has_newer() => {}
                () = sleep(RESUME_WITHIN) => {}
                () = patience => {}
            }
        }
    }
}

/// Tells the client each time that it had better leave this way.
async fn tell(way: &open::Way, send: &mut Outlet) {
    loop {
        way.goes(true).await;
        // A client that does not listen stays where it is.
        let _ = timeout(SAY_WITHIN, write_frame(send, &Word::Leave)).await;
        way.goes(false).await;
    }
}

impl Joint {
    /// Passes bytes until the way ends, and with it both sockets. `None` when the flow has to end.
    async fn run(
        self,
        client: &Client,
        (client_socket, _place): Came,
        (way, is_left): (&open::Way, impl Future<Output = ()>),
    ) -> Option<Joined> {
        let Self { socket, wanted, claims, shaped } = self;
        let mesh = &client.mesh;
        let counters = Arc::new(Counters::default());
        let _passing = Passing::begin(mesh, (FlowEnd::Entry, wanted.lane), counters.clone());
        let serves = (socket.key.egress, claims.organization);
        let distrusted = until(mesh, |view, _| (!may_serve(view, serves)).then_some(()));
        let on_no_relay =
            throughout(mesh.views.subscribe(), LEFT_WITHIN, |view| socket.leads_nowhere(view));
        let (meters, heard) = (Metered::of_flow(mesh, socket.key), Arc::new(Notify::new()));
        let to_client = InLane::new(&client_socket, wanted.lane, &mesh.controllers);
        let to_egress = InLane::new(&socket.stream, wanted.lane, &mesh.controllers);
        let joining = join((&to_client, &to_egress), &shaped, &counters, meters, &heard);
        let hearing = async {
            heard.notified().await;
            way.heard((socket.key, socket.over));
            std::future::pending::<()>().await;
        };
        let (joined, reason) = tokio::select! {
            biased;
            reason = client.over() => (None, reason),
            () = distrusted => (None, EndReason::NodeLeft),
            () = way.is_cut() => (Some(Joined::Left), EndReason::PathLost),
            () = on_no_relay => (Some(Joined::Left), EndReason::PathLost),
            () = is_left => (Some(Joined::Left), EndReason::ClientClosed),
            () = hearing => return None,
            joined = joining => match joined {
                Joined::Ended(reason) => (Some(joined), reason),
                Joined::Left => (Some(joined), EndReason::ClientLost),
                Joined::Broken => (Some(joined), EndReason::PathLost),
            },
        };
        let bytes = counters.read();
        way.passed(bytes, reason);
        if joined == Some(Joined::Broken) {
            way.lost();
        }
        if joined.is_some() && bytes.1 == 0 {
            socket.look(mesh);
        }
        joined
    }
}

/// Waits until the client ends the stream that it asked on, or its connection is lost. Nothing comes
/// on it.
async fn asker(recv: &mut Inlet) -> Asker {
    match recv.chunk().await {
        Ok(_) | Err(Broken::Reset(_)) => Asker::Done,
        Err(Broken::Lost(_)) => Asker::Lost,
    }
}

/// This node's word for a flow, to the egress that it leads to.
fn vouch(mesh: &Mesh, (claims, wanted): (&AccessClaims, &Wanted), egress: NodeId) -> Vec<u8> {
    let (view, configs) = (mesh.view(), mesh.configs());
    let Wanted { channel, lane, flow, .. } = *wanted;
    let voucher = Voucher {
        cluster: view.cluster,
        entry: view.node,
        entry_key: configs.key.public_key(),
        egress,
        session: claims.session,
        flow,
        channel,
        lane,
        until: mesh.clock.now() + Duration::from_millis(VOUCHER_TTL_MS),
    };
    signed::seal(&voucher, &[&configs.key])
}
