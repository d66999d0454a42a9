//! One channel of a client: checked, opened on a lane, copied, accounted.

use std::sync::Arc;

use rap_mesh_core::{
    View,
    admission::{admit_channel, claimed},
    refusals::refusal,
    sessions::Word,
    view::peer_has_role,
};
use rap_proto::{
    ChannelKind, NodeId, NodeRole, OrganizationId, RefusalCode, SessionId,
    observation::EndReason,
    refusal::Refusal,
    wire::{
        client::{ChannelReply, OpenChannel},
        through::Ask,
    },
};

use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{Admitted, Client, returned, tell, through};
use crate::{
    frames::{
        Either, HELLO_TIMEOUT, ReadFrameError, read_either_within, say_last, say_last_at_once,
        write_frame,
    },
    lanes::{Flow, LaneKey, Metered, open_flow},
    mesh::{Mesh, locked},
    pipe::{Inlet, Outlet},
    shaping::Shaped,
    splice::{Counters, Halves, Side, splice},
    tally::{FlowEnd, Passing},
    watch::until,
};

pub(super) async fn serve(client: Arc<Client>, mut send: Outlet, mut recv: Inlet) {
    let admitted = client.admitted();
    let asked = tokio::select! {
        biased;
        _ = client.over_or_lost() => return,
        asked = asked(&client, &admitted, &mut recv) => asked,
    };
    match asked {
        Ok(Either::Other(Ask::Through(wanted))) => {
            // With its sockets: bulk runs beside nothing else.
            let serving = through::serve(client.clone(), admitted, (send, recv), wanted);
            let _ = AbortOnDropHandle::new(client.mesh.bulk.spawn(serving)).await;
        }
        Ok(Either::One(request)) => match request.resume {
            Some(resume) if resume.generation > 0 => {
                let claims = &admitted.claims;
                returned::go_on(&client.mesh, claims, (send, recv), &request, resume).await;
            }
            _ => begin(&client, &admitted, (send, recv), request).await,
        },
        Err(refusal) => refuse_with(&mut send, refusal).await,
    }
}

/// Opens a channel, and passes its bytes until it ends.
async fn begin(
    client: &Arc<Client>,
    admitted: &Admitted,
    (mut send, mut recv): (Outlet, Inlet),
    request: OpenChannel,
) {
    let OpenChannel { channel, lane, resume, .. } = request;
    send.keep_queue_short(lane, &client.mesh.controllers);
    let opened = tokio::select! {
        biased;
        _ = client.over_or_lost() => return,
        opened = open(client, admitted, request) => opened,
    };
    let Opened { flow, shaped, account } = match opened {
        Ok(opened) => opened,
        Err(refusal) => return refuse_with(&mut send, refusal).await,
    };
    let mesh = &client.mesh;
    let mut account = account.reached().await;
    let owner = returned::owner(&admitted.claims, channel, lane);
    let name = resume.and_then(|resume| mesh.kept_channels.name(resume.flow, owner));
    let (lasts, reply) = match name {
        Some(_) => (true, ChannelReply::Attached { received: 0 }),
        None => (false, ChannelReply::Opened),
    };
    if write_frame(&mut send, &reply).await.is_err() {
        return;
    }
    if let Some(name) = name {
        let waiting = returned::waiting(client);
        let kept = mesh.kept_channels.keep(name, (send, recv, ()), waiting);
        let Some((outlet, inlet, _)) = kept else { return };
        (send, recv) = (outlet, inlet);
    }
    let mut ends = Halves { send: &mut send, recv: &mut recv };
    let over = async { if lasts { client.over().await } else { client.over_or_lost().await } };
    let _passing = Passing::begin(mesh, (FlowEnd::Entry, lane), account.counters.clone());
    let counters = &*account.counters;
    let reason = match flow {
        Flow::Lane(mut flow) => {
            let (egress, organization) = (flow.egress, admitted.claims.organization);
            let key = LaneKey { egress, organization, lane };
            let meters = Metered::of_flow(mesh, key);
            let mut lane = Halves { send: &mut flow.send, recv: &mut flow.recv };
            let serves = (egress, organization);
            let distrusted =
                until(mesh, |view, _| (!may_serve(view, serves)).then_some(EndReason::NodeLeft));
            let over = async {
                tokio::select! {
                    biased;
                    reason = over => reason,
                    reason = distrusted => reason,
                }
            };
            splice(&mut ends, &mut lane, shaped.as_ref(), (counters, meters), over).await
        }
        Flow::Here(reached) => reached.pass(&mut ends, Side::Client, counters, over).await,
    };
    account.reason = reason;
    if matches!(reason, EndReason::Terminated | EndReason::LeaseLost) {
        // The egress withdrew the access, or nobody carries under this generation any more:
        // nothing of this session may go on.
        client.end(reason);
    }
}

/// Whether this egress, by whichever connection it is reached, may still have flows of the organization.
pub(super) fn may_serve(view: &View, (egress, organization): (NodeId, OrganizationId)) -> bool {
    view.peer(egress).is_some_and(|peer| peer_has_role(peer, NodeRole::StreamWorker, organization))
}

pub(super) async fn refuse_with(send: &mut Outlet, refusal: Refusal) {
    say_last(send, &ChannelReply::Refused(refusal)).await;
}

/// Answers a channel too many: one whose predecessor gave its stream back and is not quite done, or one of a
/// client that uses all of its connections up. What cannot be said at once is left unsaid.
pub(super) fn refuse(mut send: Outlet) {
    say_last_at_once(&mut send, &ChannelReply::Refused(refusal(RefusalCode::LimitReached)));
}

/// A channel that may open its flow.
struct Opened {
    flow: Flow,
    /// Of a flow on a lane; one that ends here has its place as an egress' flow.
    shaped: Option<Shaped>,
    account: Account,
}

/// What is asked for, when the client may have it.
async fn asked(
    client: &Client,
    Admitted { claims, .. }: &Admitted,
    recv: &mut Inlet,
) -> Result<Either<OpenChannel, Ask>, Refusal> {
    let mesh = &client.mesh;
    let refused = |code| {
        mesh.refused(code, Some(claimed(claims)));
        refusal(code)
    };
    let request = match read_either_within(recv, HELLO_TIMEOUT).await {
        Ok(request) => request,
        Err(ReadFrameError::Malformed(_) | ReadFrameError::TimedOut) => {
            return Err(refused(RefusalCode::Malformed));
        }
        // The client gave the channel up before it asked for anything.
        Err(ReadFrameError::Stream(_)) => return Err(refusal(RefusalCode::Malformed)),
    };
    let (channel, lane) = match &request {
        Either::One(OpenChannel { channel, lane, .. }) => (*channel, *lane),
        Either::Other(Ask::Through(wanted)) => (wanted.channel, wanted.lane),
    };
    let (view, now) = (mesh.view(), mesh.clock.now());
    admit_channel(&view, claims, channel, lane, now).map_err(refused)?;
    mesh.fencing.admit(claims.leased).await.map_err(refused)?;
    Ok(request)
}

async fn open(
    client: &Arc<Client>,
    Admitted { claims, .. }: &Admitted,
    mut request: OpenChannel,
) -> Result<Opened, Refusal> {
    let mesh = &client.mesh;
    let refused = |code| {
        mesh.refused(code, Some(claimed(claims)));
        refusal(code)
    };
    let OpenChannel { channel, lane, .. } = request;
    let max_open = claims.channels.get(&channel).map_or(0, |grant| grant.max_open);
    locked(&mesh.entry).open_channel(claims.session, channel, max_open).map_err(refused)?;
    let account = Account::open(mesh.clone(), claims.session, channel);
    let span = tracing::info_span!("channel", session = %claims.session, %lane);
    request.traceparent = mesh.continue_trace(&span, request.traceparent);
    let opening = open_flow(mesh, returned::shown_last(client), request);
    match opening.instrument(span).await {
        Ok(flow) => {
            let on_lane = matches!(flow, Flow::Lane(_));
            let shaped = on_lane.then(|| Shaped::open(mesh, claims, lane)).transpose();
            Ok(Opened { flow, shaped: shaped.map_err(refused)?, account })
        }
        Err(other) => {
            if !other.by_egress {
                mesh.refused(other.refusal.code, Some(claimed(claims)));
            }
            Err(other.refusal)
        }
    }
}

/// A channel's place in its session's book. Given back, with its bytes, however it ends.
pub(super) struct Account {
    mesh: Arc<Mesh>,
    session: SessionId,
    channel: ChannelKind,
    reached: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) reason: EndReason,
}

impl Account {
    pub(super) fn open(mesh: Arc<Mesh>, session: SessionId, channel: ChannelKind) -> Self {
        let (counters, reason) = (Arc::default(), EndReason::ClientClosed);
        Self { mesh, session, channel, reached: false, counters, reason }
    }

    /// From now on there are bytes and a reason to account for; the first says that its session has
    /// started.
    async fn reached(mut self) -> Self {
        if let Some(start) = self.reach() {
            tell(&self.mesh, start).await;
        }
        self
    }

    /// The same. What is still to be told of that.
    pub(super) fn reach(&mut self) -> Option<Word> {
        self.reached = true;
        locked(&self.mesh.entry).flow_reached(self.mesh.clock.now(), self.session)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let now = self.mesh.clock.moment();
        let mut sessions = locked(&self.mesh.entry);
        sessions.close_channel(self.session, self.channel);
        if self.reached {
            let (up, down) = self.counters.read();
            sessions.flow_ended(now, self.session, self.reason, up, down);
        }
    }
}
