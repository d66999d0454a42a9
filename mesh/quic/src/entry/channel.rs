//! One channel of a client: checked, opened on a lane, copied, accounted.

use std::sync::Arc;

use futures_util::FutureExt as _;
use rap_mesh_core::{
    admission::{admit_channel, claimed},
    refusals::refusal,
};
use rap_proto::{
    ChannelKind, RefusalCode, SessionId,
    observation::EndReason,
    refusal::Refusal,
    wire::client::{ChannelReply, OpenChannel},
};

use tracing::Instrument as _;

use super::{Admitted, Client};
use crate::{
    frames::{HELLO_TIMEOUT, ReadFrameError, read_frame_within, write_frame},
    lanes::{Flow, open_flow},
    mesh::{Mesh, locked},
    pipe::{Inlet, Outlet},
    shaping::Shaped,
    splice::{Counters, Halves, Side, splice},
};

pub(super) async fn serve(client: Arc<Client>, mut send: Outlet, mut recv: Inlet) {
    let admitted = client.admitted();
    let opened = tokio::select! {
        biased;
        _ = client.over() => return,
        opened = open(&client, &admitted, &mut recv) => opened,
    };
    let Opened { flow, shaped, account } = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            if write_frame(&mut send, &ChannelReply::Refused(refusal)).await.is_ok() {
                // Nothing follows the refusal.
                send.finish().await;
            }
            return;
        }
    };
    let mut account = account.reached();
    if write_frame(&mut send, &ChannelReply::Opened).await.is_err() {
        return;
    }
    let mut channel = Halves { send: &mut send, recv: &mut recv };
    let (counters, over) = (&account.counters, client.over());
    let reason = match flow {
        Flow::Lane(mut flow) => {
            let mut lane = Halves { send: &mut flow.send, recv: &mut flow.recv };
            splice(&mut channel, &mut lane, shaped.as_ref(), counters, over).await
        }
        Flow::Here(reached) => reached.pass(&mut channel, Side::Client, counters, over).await,
    };
    account.reason = reason;
    if matches!(reason, EndReason::Terminated | EndReason::LeaseLost) {
        // The egress withdrew the access, or nobody carries under this generation any more:
        // nothing of this session may go on.
        client.end(reason);
    }
}

/// Answers a channel too many: one whose predecessor gave its stream back and is not quite done.
/// What cannot be said at once is left unsaid.
pub(super) fn refuse(mut send: Outlet) {
    let refused = ChannelReply::Refused(refusal(RefusalCode::LimitReached));
    if matches!(write_frame(&mut send, &refused).now_or_never(), Some(Ok(()))) {
        let _ = send.finish().now_or_never();
    }
}

/// A channel that may open its flow.
struct Opened {
    flow: Flow,
    /// Of a flow on a lane; one that ends here has its place as an egress' flow.
    shaped: Option<Shaped>,
    account: Account,
}

async fn open(client: &Client, admitted: &Admitted, recv: &mut Inlet) -> Result<Opened, Refusal> {
    let mesh = &client.mesh;
    let claims = &admitted.claims;
    let refused = |code| {
        mesh.refused(code, Some(claimed(claims)));
        refusal(code)
    };
    let mut request: OpenChannel = match read_frame_within(recv, HELLO_TIMEOUT).await {
        Ok(request) => request,
        Err(ReadFrameError::Malformed(_) | ReadFrameError::TimedOut) => {
            return Err(refused(RefusalCode::Malformed));
        }
        // The client gave the channel up before it asked for anything.
        Err(ReadFrameError::Stream(_)) => return Err(refusal(RefusalCode::Malformed)),
    };
    let OpenChannel { channel, lane, .. } = request;
    admit_channel(&mesh.view(), claims, channel, lane, mesh.clock.now()).map_err(refused)?;
    mesh.fencing.admit(claims.leased).await.map_err(refused)?;
    let max_open = claims.channels.get(&channel).map_or(0, |grant| grant.max_open);
    locked(&mesh.entry).open_channel(claims.session, channel, max_open).map_err(refused)?;
    let account = Account::open(mesh.clone(), claims.session, channel);
    let span = tracing::info_span!("channel", session = %claims.session, %lane);
    request.traceparent = mesh.continue_trace(&span, request.traceparent);
    let opening = open_flow(mesh, claims, &admitted.token, &admitted.proof, request);
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
struct Account {
    mesh: Arc<Mesh>,
    session: SessionId,
    channel: ChannelKind,
    reached: bool,
    counters: Counters,
    reason: EndReason,
}

impl Account {
    fn open(mesh: Arc<Mesh>, session: SessionId, channel: ChannelKind) -> Self {
        let (counters, reason) = (Counters::default(), EndReason::ClientClosed);
        Self { mesh, session, channel, reached: false, counters, reason }
    }

    /// From now on there are bytes and a reason to account for.
    fn reached(mut self) -> Self {
        self.reached = true;
        self
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
