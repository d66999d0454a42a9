//! One connected UDP socket of a relayed flow.

use std::{
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use quinn_udp::{RecvMeta, Transmit};
use rap_proto::{
    Lane,
    wire::hop::{KNOCK_BYTES, knock},
};

use super::batch::{Batch, From, Piece};
use crate::{Network, RelayedUdp, hops::NearSocket};

/// A socket that has its port before it is known with whom it will speak: until then only whoever
/// is about to say so can send to it.
pub(super) struct Promised {
    socket: Box<dyn RelayedUdp>,
    port: u16,
}

/// A socket that will speak with whoever knocks.
pub(super) struct Awaiting(Box<dyn RelayedUdp>);

/// Connected: what comes from anywhere else is dropped below.
pub(super) struct FlowSocket {
    socket: Box<dyn RelayedUdp>,
    peer: SocketAddr,
    /// The knock that made it: repeated, it is no part of the flow.
    knock: Option<[u8; KNOCK_BYTES]>,
}

impl Promised {
    /// A socket of our address `own`. The port that it will speak with is another of this peer's.
    pub(super) fn bind(
        network: &dyn Network,
        lane: Lane,
        own: Option<IpAddr>,
        peer: SocketAddr,
    ) -> io::Result<Self> {
        let socket = bound(network, lane, own, peer)?;
        socket.connect(peer)?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, port })
    }

    /// Speaks with `peer` alone from now on.
    pub(super) fn connect(self, peer: SocketAddr) -> io::Result<FlowSocket> {
        let Self { socket, .. } = self;
        socket.connect(peer)?;
        Ok(FlowSocket { socket, peer, knock: None })
    }
}

impl NearSocket for Promised {
    fn port(&self) -> u16 {
        self.port
    }

    fn knock(&self, to: SocketAddr, secret: &[u8; 16]) {
        // Not every system lets a connected socket send elsewhere.
        if self.socket.connect(to).is_err() {
            return;
        }
        let _ = self.socket.try_send(&Transmit {
            destination: to,
            ecn: None,
            contents: &knock(secret),
            segment_size: None,
            src_ip: None,
        });
    }
}

impl Awaiting {
    /// A socket of our address `own`. Whoever knocks has an address of this kind.
    pub(super) fn bind(
        network: &dyn Network,
        lane: Lane,
        own: Option<IpAddr>,
        like: SocketAddr,
    ) -> io::Result<Self> {
        Ok(Self(bound(network, lane, own, like)?))
    }

    pub(super) fn local_port(&self) -> io::Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    /// Waits for the knock of a node at the address `of`, and speaks with the port that it came from
    /// from then on. Whoever could name another address here would send this relay's packets
    /// anywhere.
    pub(super) async fn knocked(
        self,
        knock: [u8; KNOCK_BYTES],
        of: IpAddr,
    ) -> io::Result<FlowSocket> {
        let peer = self.heard(knock, of).await?;
        let Self(socket) = self;
        socket.connect(peer)?;
        Ok(FlowSocket { socket, peer, knock: Some(knock) })
    }

    /// Waits for the knock of a node at the address `of`, and says where it came from.
    pub(super) async fn heard(
        &self,
        knock: [u8; KNOCK_BYTES],
        of: IpAddr,
    ) -> io::Result<SocketAddr> {
        // One byte more, so that what only begins like a knock is none.
        let mut heard = [0; KNOCK_BYTES + 1];
        loop {
            poll_fn(|cx| self.0.poll_readable(cx)).await?;
            let mut run = [RecvMeta::default()];
            match self.0.try_receive(&mut [IoSliceMut::new(&mut heard)], &mut run) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                received => received?,
            };
            // The first of a run: the others are like it, or are sent again.
            let [RecvMeta { addr: from, len, stride, .. }] = run;
            if heard[..len.min(stride)] == knock && from.ip().to_canonical() == of {
                return Ok(from);
            }
        }
    }
}

/// A socket of our address `own`, for a peer of this kind.
fn bound(
    network: &dyn Network,
    lane: Lane,
    own: Option<IpAddr>,
    like: SocketAddr,
) -> io::Result<Box<dyn RelayedUdp>> {
    let any: IpAddr = match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let own = own.filter(|own| own.is_ipv4() == like.is_ipv4()).unwrap_or(any);
    network.relayed(SocketAddr::new(own, 0), lane)
}

impl FlowSocket {
    /// A socket of our address `own` that speaks with `peer` alone.
    pub(super) fn connect(
        network: &dyn Network,
        lane: Lane,
        own: Option<IpAddr>,
        peer: SocketAddr,
    ) -> io::Result<Self> {
        Promised::bind(network, lane, own, peer)?.connect(peer)
    }

    /// The same with the first of these addresses that has a route.
    pub(super) fn to_first(
        network: &dyn Network,
        lane: Lane,
        addresses: &[SocketAddr],
    ) -> io::Result<Self> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match Self::connect(network, lane, None, *address) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    pub(super) fn local_port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.socket.poll_readable(cx)).await
    }

    /// Receives what is there, at most one batch, and of about as many bytes as have `room`.
    pub(super) fn receive(&self, batch: &mut Batch, room: usize) -> io::Result<()> {
        let from = From { peer: self.peer, knock: self.knock.as_ref().map(|knock| &knock[..]) };
        batch.fill(room, from, |rooms, runs| self.socket.try_receive(rooms, runs))
    }

    /// Sends a batch on unchanged: the same boundaries, the same congestion marks.
    pub(super) async fn send(&self, batch: &Batch) -> io::Result<()> {
        for Piece { contents, stride, ecn } in batch.pieces(self.socket.max_segments()) {
            let segment_size = (contents.len() > stride).then_some(stride);
            let destination = self.peer;
            let transmit = Transmit { destination, ecn, contents, segment_size, src_ip: None };
            self.send_run(&transmit).await?;
        }
        Ok(())
    }

    async fn send_run(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        loop {
            match self.socket.try_send(transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| self.socket.poll_writable(cx)).await?;
                }
                outcome => return outcome,
            }
        }
    }
}
