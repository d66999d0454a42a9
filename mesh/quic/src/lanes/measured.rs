//! A flow of the `tcp` carrier without an entry around it, for whoever measures the carrier.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rap_proto::{
    Lane,
    snapshot::Peer,
    wire::{
        self,
        lane::{FlowReply, OpenFlow},
        resume::Resume,
    },
};

use crate::{
    frames::read_frame,
    kept::new_name,
    pipe::{Inlet, Keeper, Lasting, Leg, Outlet, Store, lasting},
    tcp::{self, Controllers},
};

/// An open flow, kept as an entry keeps it. One that loses its connection does not go on.
#[derive(Debug)]
pub struct MeasuredFlow {
    outlet: Outlet,
    inlet: Inlet,
}

impl MeasuredFlow {
    /// Asks `egress` for a flow on a connection of its own: to `address`, or through the relay there,
    /// which was asked for a stream and answered with `ticket`.
    pub async fn open(
        config: Arc<rustls::ClientConfig>,
        (address, ticket): (SocketAddr, Option<[u8; 32]>),
        egress: &Peer,
        request: OpenFlow,
    ) -> io::Result<Self> {
        let stream = match ticket {
            None => tcp::dialled(address).await?,
            Some(ticket) => tcp::joined(address, ticket).await?,
        };
        let mut secured = tcp::secure_with(config, stream, egress).await?;
        secured.outlet.keep_queue_short(Lane::Bulk, &Controllers::default());
        let name = new_name().ok_or_else(|| io::Error::other("no name for the flow"))?;
        let request = OpenFlow { resume: Some(Resume::opening(name)), ..request };
        secured.outlet.write_all(&wire::frame(&request)).await.map_err(|_| broken())?;
        match read_frame(&mut secured.inlet).await {
            Ok(FlowReply::Attached { .. }) => {
                let leg = Leg::new(secured.outlet, secured.inlet).ok_or_else(broken)?;
                let store = Arc::new(Store::default()).of_one();
                let (outlet, inlet, _) = lasting(leg, Arc::new(Unkept), store, None);
                Ok(Self { outlet, inlet })
            }
            Ok(FlowReply::Refused(refusal)) => Err(io::Error::other(refusal.to_string())),
            Ok(FlowReply::Opened | FlowReply::Gone) | Err(_) => Err(broken()),
        }
    }

    /// Sends bytes without copying them, as whoever passes them on does.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.outlet.write_pieces(&mut [bytes]).await.map_err(|_| broken())
    }

    /// Says that nothing more is sent.
    pub async fn finish(&mut self) {
        self.outlet.finish().await;
    }

    pub async fn read_exact(&mut self, room: &mut [u8]) -> io::Result<()> {
        self.inlet.read_exact(room).await.map_err(|_| broken())
    }
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Brings a flow no other connection.
struct Unkept;

impl Keeper for Unkept {
    fn lost(self: Arc<Self>, flow: Lasting) {
        // The flow is locked.
        tokio::spawn(async move { flow.give_up(None) });
    }
}
