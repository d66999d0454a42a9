//! One connected UDP socket of a relayed flow, and the batches that it forwards.

use std::{
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use quinn_udp::{RecvMeta, Transmit};
use rap_mesh_core::bounds::Run;
use rap_proto::{Lane, wire::hop::KNOCK_BYTES};

use crate::{Network, RelayedUdp};

/// Datagrams, or runs of them, that are received at once.
const BATCH: usize = 16;
/// Room for one run: as much as the kernel puts together.
const RUN_BYTES: usize = 64 * 1024;
/// What the link carries around a datagram: headers of IP and UDP, and a frame's. Many that are small
/// weigh as much as they take.
const OVERHEAD: usize = 48;

/// A socket that has its port before it is known with whom it will speak: until then only whoever
/// is about to say so can send to it.
pub(super) struct Promised(Box<dyn RelayedUdp>);

/// A socket that will speak with whoever knocks.
pub(super) struct Awaiting(Box<dyn RelayedUdp>);

/// Connected: what comes from anywhere else is dropped below.
pub(super) struct FlowSocket {
    socket: Box<dyn RelayedUdp>,
    peer: SocketAddr,
    /// The knock that made it: repeated, it is no part of the flow.
    knock: Option<[u8; KNOCK_BYTES]>,
}

/// Room for one batch. Only what is used of it takes up memory.
pub(super) struct Batch {
    bytes: Vec<u8>,
    runs: [RecvMeta; BATCH],
    received: usize,
    strangers: u64,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * RUN_BYTES],
            runs: [RecvMeta::default(); BATCH],
            received: 0,
            strangers: 0,
        }
    }

    /// How many datagrams of it were left out because they came from elsewhere.
    pub(super) const fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Leaves out the last datagrams of a run that `admit` does not want. Says how many bytes stay, as
    /// the link counts them.
    pub(super) fn shorten(&mut self, mut admit: impl FnMut(Run) -> usize) -> usize {
        let runs = self.runs[..self.received].iter_mut().filter(|run| run.len > 0);
        let lengths = runs.map(|run| {
            let stride = run.stride.max(1);
            let datagrams = admit(Run { bytes: run.len, stride });
            run.len = run.len.min(datagrams.saturating_mul(stride));
            run.len + run.len.div_ceil(stride) * OVERHEAD
        });
        lengths.sum()
    }

    /// Empties the runs that others sent before the socket was told who its peer is.
    fn leave_out_strangers(&mut self, peer: SocketAddr) {
        let is_peer = |from: SocketAddr| {
            from.port() == peer.port() && from.ip().to_canonical() == peer.ip().to_canonical()
        };
        for run in self.runs[..self.received].iter_mut().filter(|run| !is_peer(run.addr)) {
            self.strangers += run.len.div_ceil(run.stride.max(1)) as u64;
            run.len = 0;
        }
    }

    /// Empties the runs that are this datagram, once or several times, and nothing else.
    fn leave_out(&mut self, datagram: &[u8]) {
        let runs = self.runs[..self.received].iter_mut().zip(self.bytes.chunks(RUN_BYTES));
        for (run, bytes) in runs {
            if bytes[..run.len].chunks(run.stride.max(1)).all(|one| one == datagram) {
                run.len = 0;
            }
        }
    }
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
        Ok(Self(socket))
    }

    pub(super) fn local_port(&self) -> io::Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    /// Speaks with `peer` alone from now on.
    pub(super) fn connect(self, peer: SocketAddr) -> io::Result<FlowSocket> {
        let Self(socket) = self;
        socket.connect(peer)?;
        Ok(FlowSocket { socket, peer, knock: None })
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

    /// Receives what is there, at most one batch, and of runs as many as have `room` for sure.
    pub(super) fn receive(&self, batch: &mut Batch, room: usize) -> io::Result<()> {
        (batch.received, batch.strangers) = (0, 0);
        let mut rooms = batch.bytes.chunks_mut(RUN_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        let most = (room / RUN_BYTES).clamp(1, BATCH);
        batch.received = self.socket.try_receive(&mut slices[..most], &mut batch.runs)?;
        batch.leave_out_strangers(self.peer);
        if let Some(knock) = &self.knock {
            batch.leave_out(knock);
        }
        Ok(())
    }

    /// Sends a batch on unchanged: the same boundaries, the same congestion marks.
    pub(super) async fn send(&self, batch: &Batch) -> io::Result<()> {
        for (run, room) in batch.runs[..batch.received].iter().zip(batch.bytes.chunks(RUN_BYTES)) {
            let stride = run.stride.max(1);
            let most = stride.saturating_mul(self.socket.max_segments());
            for contents in room[..run.len].chunks(most) {
                let segment_size = (contents.len() > stride).then_some(stride);
                let transmit = Transmit {
                    destination: self.peer,
                    ecn: run.ecn,
                    contents,
                    segment_size,
                    src_ip: None,
                };
                self.send_run(&transmit).await?;
            }
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
