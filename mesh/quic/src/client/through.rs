//! Channels whose flow runs end to end to the egress: the entry opens the way, and reads nothing.

use std::{io, sync::Arc, time::Duration};

use rap_mesh_core::{carrier::Carrier, refusals::worth_trying_elsewhere};
use rap_pki::node_server_name;
use rap_proto::{
    Lane, NodeId,
    signed::Unverified,
    token::{AccessClaims, Proof},
    wire::{
        self, PREAMBLE,
        client::OpenChannel,
        lane::{FlowReply, OpenFlow},
        resume::{FlowId, Resume},
        through::{Answer, Ask, OpenThrough, Wanted, Way},
    },
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Channel,
    lasting::ChannelKeeper,
    session::{ClientSession, OpenError},
};
use crate::{
    frames::{CHANNEL_REPLY_TIMEOUT, HELLO_TIMEOUT, ReadFrameError, read_frame, read_frame_within},
    kept::new_name,
    mesh::locked,
    pipe::{Asking, Inlet, Leg, Outlet},
    tcp::{self, Controllers, Secured},
};

/// How long no through flow is tried after one came to nothing where an ordinary one may not …
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// … and after the entry said that an ordinary one suits better, which changes with what it measures.
const ASK_AFTER: Duration = Duration::from_secs(10);
/// For so long a connection may wait for its ticket: the entry closes one that says nothing, a little
/// later.
const STAYS_FOR: Duration = Duration::from_secs(3);
/// How long the egress may take to answer a flow that goes on: it has nothing to dial for it, and while it
/// may have moved the flow, nothing is acknowledged. More than it waits for a newer snapshot.
const REPLY_TIME: Duration = Duration::from_secs(3);

/// A connection to an egress on which nothing was asked for yet, and the stream of the entry that opened
/// the way.
pub(super) struct Connected {
    pub(super) egress: NodeId,
    voucher: Vec<u8>,
    secured: Secured,
    pub(super) way: WayStream,
}

/// Open for as long as the way is used.
#[derive(Debug)]
pub(super) struct WayStream {
    pub(super) outlet: Outlet,
    pub(super) inlet: Inlet,
}

/// Why there is no connection to the egress.
#[derive(Debug)]
pub(super) enum NoWay {
    /// The entry has none, or an ordinary channel suits better.
    Plain,
    /// No channel at all, or not now.
    Refused(OpenError),
    /// The entry, or the egress, was not reached or was not who it should be.
    Failed(io::Error),
}

impl ClientSession {
    /// Opens a channel whose flow no entry reads. `None` when an ordinary one is to be opened instead.
    pub(super) async fn open_through(
        &self,
        request: &OpenChannel,
    ) -> Result<Option<Channel>, OpenError> {
        if !self.may_go_through(request) {
            return Ok(None);
        }
        let Some(flow) = new_name() else { return Ok(None) };
        let connected = match self.connect_through(request, None, flow).await {
            Ok(connected) => connected,
            Err(NoWay::Plain) => {
                self.rest_from_through(ASK_AFTER);
                return Ok(None);
            }
            Err(NoWay::Refused(error)) => return Err(error),
            Err(NoWay::Failed(error)) => {
                tracing::debug!(%error, "no through flow");
                self.rest_from_through(RETRY_AFTER);
                return Ok(None);
            }
        };
        let egress = connected.egress;
        let asking = self.ask_through(request, connected, Resume::opening(flow));
        let (way, (outlet, inlet), reply) = asking.await;
        match reply {
            Ok(FlowReply::Opened) => Ok(Some(Channel::beside(outlet, inlet, way))),
            Ok(FlowReply::Attached { .. }) => {
                let Some(leg) = Leg::new(outlet, inlet) else { return Ok(None) };
                let keeper = ChannelKeeper::through(self.succession(), request, egress, flow);
                Ok(Some(keeper.begin(leg, Some(way))))
            }
            Ok(FlowReply::Refused(refusal)) if !worth_trying_elsewhere(refusal.code) => {
                Err(refusal.into())
            }
            // Another egress may say otherwise, and an ordinary channel asks all of them.
            Ok(FlowReply::Refused(refusal)) => {
                tracing::debug!(%refusal, "the egress takes no through flow");
                Ok(None)
            }
            Ok(FlowReply::Gone) | Err(_) => {
                self.rest_from_through(RETRY_AFTER);
                Ok(None)
            }
        }
    }

    fn may_go_through(&self, request: &OpenChannel) -> bool {
        let rests = locked(&self.inner.through_rests).is_some_and(|until| Instant::now() < until);
        let is_bulk = Carrier::order(request.lane)[0] == Carrier::Tcp;
        let joining = self.inner.joining.as_ref();
        let is_wanted = joining.is_some_and(|joining| joining.through.is_some());
        is_wanted && self.inner.through && is_bulk && !rests
    }

    fn rest_from_through(&self, pause: Duration) {
        *locked(&self.inner.through_rests) = Some(Instant::now() + pause);
    }

    /// Asks the entry for a way, to the egress that has the flow if one has it, and connects to the egress.
    pub(super) async fn connect_through(
        &self,
        request: &OpenChannel,
        is_at: Option<NodeId>,
        flow: FlowId,
    ) -> Result<Connected, NoWay> {
        let OpenChannel { channel, lane, .. } = *request;
        let failed = |text: &str| NoWay::Failed(io::Error::other(text.to_owned()));
        let joining = self.inner.joining.as_ref().filter(|_| self.inner.through);
        let by = joining.and_then(|joining| Some((joining.address, joining.through.clone()?)));
        let (address, config) = by.ok_or_else(|| failed("there are no through flows"))?;
        let wanted = Wanted { channel, lane, flow, egress: is_at };
        // The way's connection is made while the entry looks for the way, which closes it when that takes
        // its time.
        let begun = Instant::now();
        let (asked, mut connected) =
            tokio::join!(self.ask_for_way(wanted), tcp::within(tcp::dialled(address)));
        let (Way { egress, ticket, voucher }, way) = asked?;
        if begun.elapsed() > STAYS_FOR {
            connected = tcp::within(tcp::dialled(address)).await;
        }
        if !names(&locked(&self.inner.shown), egress) || is_at.is_some_and(|at| at != egress) {
            return Err(failed("the way leads elsewhere"));
        }
        let secured = join(config, connected.map_err(NoWay::Failed)?, (ticket, egress)).await;
        let secured = secured.map_err(NoWay::Failed)?;
        secured.outlet.keep_queue_short(lane, &Controllers::default());
        Ok(Connected { egress, voucher, secured, way })
    }

    /// Asks the egress to open the flow.
    async fn ask_through(
        &self,
        request: &OpenChannel,
        Connected { voucher, secured, way, .. }: Connected,
        resume: Resume,
    ) -> (WayStream, (Outlet, Inlet), Result<FlowReply, ReadFrameError>) {
        let Secured { mut outlet, mut inlet, exported, .. } = secured;
        let opening = self.opening(request, (voucher, exported), resume);
        // An egress that does not listen gives no answer.
        let _ = outlet.write_all(&opening).await;
        let reply = read_frame_within(&mut inlet, CHANNEL_REPLY_TIMEOUT + HELLO_TIMEOUT).await;
        (way, (outlet, inlet), reply)
    }

    /// Asks it to go on with the flow. The egress may have moved it to this connection when no answer
    /// comes.
    pub(super) async fn go_on_through(
        &self,
        request: &OpenChannel,
        Connected { voucher, secured, way, .. }: Connected,
        resume: Resume,
    ) -> (WayStream, Option<(Outlet, Inlet)>, Result<FlowReply, ReadFrameError>) {
        let Secured { outlet, inlet, exported, .. } = secured;
        let opening = self.opening(request, (voucher, exported), resume);
        let mut asking = Asking(Some((outlet, inlet)));
        let asked = async {
            let (outlet, inlet) = asking.0.as_mut().expect("it is taken below alone");
            let _ = outlet.write_all(&opening).await;
            read_frame(inlet).await
        };
        match timeout(REPLY_TIME, asked).await {
            Ok(reply) => (way, asking.0.take(), reply),
            Err(_) => (way, None, Err(ReadFrameError::TimedOut)),
        }
    }

    fn opening(
        &self,
        request: &OpenChannel,
        (voucher, exported): (Vec<u8>, [u8; 32]),
        resume: Resume,
    ) -> Vec<u8> {
        let token = locked(&self.inner.shown).clone();
        let proof = Proof::make(&token, exported, &*self.inner.key);
        let OpenChannel { channel, traceparent, .. } = request.clone();
        let flow = OpenFlow { token, proof, channel, traceparent, resume: Some(resume) };
        wire::frame(&OpenThrough { voucher, flow })
    }

    async fn ask_for_way(&self, wanted: Wanted) -> Result<(Way, WayStream), NoWay> {
        let asking = self.stream_for(wire::frame(&Ask::Through(wanted)), Lane::Interactive).await;
        let (outlet, mut inlet) = asking.map_err(NoWay::Refused)?;
        let limit = CHANNEL_REPLY_TIMEOUT + HELLO_TIMEOUT;
        match read_frame_within(&mut inlet, limit).await {
            Ok(Answer::Way(way)) => Ok((way, WayStream { outlet, inlet })),
            Ok(Answer::Plain) => Err(NoWay::Plain),
            Ok(Answer::Refused(refusal)) => Err(NoWay::Refused(refusal.into())),
            Err(_) => Err(NoWay::Failed(io::Error::other("the entry did not answer"))),
        }
    }
}

/// Whether the token says that this node may reach the resource. Nobody else is spoken with.
fn names(token: &[u8], egress: NodeId) -> bool {
    let claims = Unverified::<AccessClaims>::parse(token).ok().and_then(|token| token.peek().ok());
    claims.is_some_and(|claims| claims.egresses.contains_key(&egress))
}

/// TLS with the egress, over a connection to the entry that it joins.
async fn join(
    config: Arc<rustls::ClientConfig>,
    mut stream: TcpStream,
    (ticket, egress): ([u8; 32], NodeId),
) -> io::Result<Secured> {
    let connecting = async {
        stream.write_all(&[&PREAMBLE[..], &ticket].concat()).await?;
        tcp::secure(config, stream, &node_server_name(egress)).await
    };
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    timeout(super::DIAL_TIMEOUT, connecting).await.unwrap_or_else(late)
}
