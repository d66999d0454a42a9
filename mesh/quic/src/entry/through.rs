//! A through flow at its entry: a way to the egress is opened, and bytes that are not this node's to
//! read pass over it.

mod open;
mod tickets;

use std::{sync::Arc, time::Duration};

use rap_mesh_core::{admission::claimed, refusals::refusal, resume::RESUME_WITHIN};
use rap_proto::{
    NodeId, Signer as _,
    observation::EndReason,
    refusal::Refusal,
    signed,
    token::AccessClaims,
    wire::through::{self, Answer, TICKET_TTL_MS, VOUCHER_TTL_MS, Voucher, Wanted, Word},
};
use tokio::time::timeout;

use super::{
    Admitted, Client,
    channel::{Account, may_serve},
};
use crate::{
    frames::write_frame,
    lanes::{Metered, Way, find_way},
    mesh::{Mesh, locked},
    network::put_in_lane,
    pipe::{Inlet, Outlet},
    shaping::Shaped,
    splice::{Counters, Joined, join},
    tally::{FlowEnd, Passing},
    watch::until,
};

use open::Open;
use tickets::{Came, Expected};

pub(crate) use open::Ways;
pub(crate) use tickets::Tickets;

/// How long a client may take to take a word.
const SAY_WITHIN: Duration = Duration::from_secs(1);

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
    expected: Expected,
    voucher: Vec<u8>,
}

/// What a client is joined with, for one of the ways of its flow.
struct Joint {
    way: Way,
    wanted: Wanted,
    claims: AccessClaims,
    shaped: Arc<Shaped>,
    flow: Arc<Open>,
    number: u64,
}

/// What the client did with the stream that it asked on.
#[derive(Clone, Copy)]
enum Asker {
    /// It needs the way no more.
    Done,
    /// It may come back.
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
        let Wanted { channel, lane, flow, egress } = wanted;
        let max_open = claims.channels.get(&channel).map_or(0, |grant| grant.max_open);
        let session = claims.session;
        let account = || {
            locked(&mesh.entry).open_channel(session, channel, max_open)?;
            Ok(Account::open(mesh.clone(), session, channel))
        };
        let (flow, number) = mesh.ways.enter(mesh, claims, flow, account).map_err(refused)?;
        let is_at = egress.map(|egress| (egress, flow.goes_over()));
        let Some(way) = find_way(mesh, claims, lane, is_at).await else { return Ok(None) };
        let shaped = Arc::new(Shaped::open(mesh, claims, lane).map_err(refused)?);
        let Some(expected) = mesh.tickets.expect() else { return Ok(None) };
        let voucher = vouch(mesh, (claims, &wanted), way.key.egress);
        tracing::debug!(%session, %lane, egress = %way.key.egress, number, "a way for a through flow");
        let joint = Joint { way, wanted, claims: claims.clone(), shaped, flow, number };
        Ok(Some(Self { joint, expected, voucher }))
    }

    fn told(&self) -> through::Way {
        let (egress, ticket) = (self.joint.way.key.egress, self.expected.ticket);
        through::Way { egress, ticket, voucher: self.voucher.clone() }
    }

    /// Passes bytes once the client has come, and waits for its next way when this one is lost.
    async fn carry(mut self, client: &Client, (send, mut recv): (Outlet, Inlet)) {
        let asker = asker(&mut recv);
        tokio::pin!(asker);
        let limit = Duration::from_millis(TICKET_TTL_MS);
        let came = tokio::select! {
            biased;
            _ = client.over() => return,
            _ = &mut asker => return,
            came = timeout(limit, &mut self.expected.came) => came,
        };
        let Ok(Ok(came)) = came else { return };
        let Joint { flow, number, .. } = &self.joint;
        let (flow, number, mut left) = (flow.clone(), *number, None);
        let joined = {
            // The end of the stream tells the client that the way is gone.
            let mut send = send;
            let (joining, goes) = (self.joint.run(client, came), flow.goes(number));
            tokio::pin!(joining, goes);
            let mut told = false;
            loop {
                tokio::select! {
                    biased;
                    joined = &mut joining => break joined,
                    asked = &mut asker, if left.is_none() => left = Some(asked),
                    () = &mut goes, if !told => {
                        told = true;
                        // A client that does not listen stays where it is.
                        let _ = timeout(SAY_WITHIN, write_frame(&mut send, &Word::Leave)).await;
                    }
                }
            }
        };
        let is_over = match (joined, left) {
            (None, _) | (_, Some(Asker::Done)) => true,
            (Some(Joined::Ended(_)), Some(Asker::Lost)) => true,
            (Some(_), Some(Asker::Lost) | None) => false,
        };
        if is_over {
            return;
        }
        tokio::select! {
            _ = client.over() => {}
            () = flow.has_newer(number) => {}
            Asker::Done = &mut asker, if left.is_none() => {}
            () = tokio::time::sleep(RESUME_WITHIN) => {}
        }
    }
}

impl Joint {
    /// Passes bytes until the way ends, and with it both sockets. `None` when the flow has to end.
    async fn run(self, client: &Client, (socket, _place): Came) -> Option<Joined> {
        let Self { way, wanted, claims, shaped, flow, number, .. } = &self;
        let mesh = &client.mesh;
        put_in_lane(&socket, wanted.lane);
        put_in_lane(&way.socket, wanted.lane);
        flow.came(*number, (way.key, way.over)).await;
        let counters = Arc::new(Counters::default());
        let _passing = Passing::begin(mesh, (FlowEnd::Entry, wanted.lane), counters.clone());
        let serves = (way.key.egress, claims.organization);
        let distrusted = until(mesh, |view, _| (!may_serve(view, serves)).then_some(()));
        let meters = Metered::of_flow(mesh, way.key);
        let (joined, reason) = tokio::select! {
            biased;
            reason = client.over() => (None, reason),
            () = distrusted => (None, EndReason::NodeLeft),
            () = flow.is_cut(*number) => (Some(Joined::Broken), EndReason::PathLost),
            joined = join((&socket, &way.socket), shaped, &counters, meters) => match joined {
                Joined::Ended(reason) => (Some(joined), reason),
                Joined::Broken => (Some(joined), EndReason::PathLost),
            },
        };
        let bytes = counters.read();
        if joined.is_some() && bytes.1 == 0 {
            way.led_nowhere(mesh);
        }
        flow.left(*number, bytes, reason);
        joined
    }
}

/// Waits until the client ends the stream that it asked on, or that breaks. Nothing comes on it.
async fn asker(recv: &mut Inlet) -> Asker {
    match recv.chunk().await {
        Ok(_) => Asker::Done,
        Err(_) => Asker::Lost,
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
