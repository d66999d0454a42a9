//! One connected UDP socket of a relayed flow, with the kernel's batching.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rap_proto::wire::hop::KNOCK_BYTES;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// What the socket asks the kernel for, in each direction.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Datagrams, or runs of them, that are received at once.
const BATCH: usize = 16;
/// Room for one run: as much as the kernel puts together.
const RUN_BYTES: usize = 64 * 1024;

/// A socket that has its port before it is known with whom it will speak: until then only whoever
/// is about to say so can send to it.
pub(super) struct Promised(Socket);

/// A socket that will speak with whoever knocks.
pub(super) struct Awaiting(UdpSocket);

/// Connected: the kernel drops what comes from anywhere else.
pub(super) struct FlowSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    peer: SocketAddr,
    /// The knock that made it: repeated, it is no part of the flow.
    knock: Option<[u8; KNOCK_BYTES]>,
}

/// Room for one batch. Only what is used of it takes up memory.
pub(super) struct Batch {
    bytes: Vec<u8>,
    runs: [RecvMeta; BATCH],
    received: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BATCH * RUN_BYTES], runs: [RecvMeta::default(); BATCH], received: 0 }
    }

    /// Empties the runs that others sent before it was known who the peer is, and those that are
    /// this datagram, once or several times, and nothing else.
    fn leave_out(&mut self, peer: SocketAddr, datagram: &[u8]) {
        let runs = self.runs[..self.received].iter_mut().zip(self.bytes.chunks(RUN_BYTES));
        for (run, bytes) in runs {
            if run.addr != peer
                || bytes[..run.len].chunks(run.stride.max(1)).all(|one| one == datagram)
            {
                run.len = 0;
            }
        }
    }
}

impl Promised {
    /// A socket of our address `own`. The port that it will speak with is another of this peer's.
    pub(super) fn bind(own: Option<IpAddr>, peer: SocketAddr) -> io::Result<Self> {
        let socket = bound(own, peer)?;
        socket.connect(&peer.into())?;
        Ok(Self(socket))
    }

    pub(super) fn local_port(&self) -> io::Result<u16> {
        let local = self.0.local_addr()?.as_socket();
        local.map(|local| local.port()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Speaks with `peer` alone from now on.
    pub(super) fn connect(self, peer: SocketAddr) -> io::Result<FlowSocket> {
        let Self(socket) = self;
        socket.connect(&peer.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(FlowSocket { socket, state, peer, knock: None })
    }
}

impl Awaiting {
    /// A socket of our address `own`. Whoever knocks has an address of this kind.
    pub(super) fn bind(own: Option<IpAddr>, like: SocketAddr) -> io::Result<Self> {
        Ok(Self(UdpSocket::from_std(bound(own, like)?.into())?))
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
        socket.connect(peer).await?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(FlowSocket { socket, state, peer, knock: Some(knock) })
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
            let (length, from) = self.0.recv_from(&mut heard).await?;
            if heard[..length] == knock && from.ip().to_canonical() == of {
                return Ok(from);
            }
        }
    }
}

/// A socket of our address `own`, for a peer of this kind.
fn bound(own: Option<IpAddr>, like: SocketAddr) -> io::Result<Socket> {
    let any: IpAddr = match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let own = own.filter(|own| own.is_ipv4() == like.is_ipv4()).unwrap_or(any);
    let socket = Socket::new(Domain::for_address(like), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel gives as much as its own limits allow; less is slower but works.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(own, 0).into())?;
    Ok(socket)
}

impl FlowSocket {
    /// A socket of our address `own` that speaks with `peer` alone.
    pub(super) fn connect(own: Option<IpAddr>, peer: SocketAddr) -> io::Result<Self> {
        Promised::bind(own, peer)?.connect(peer)
    }

    /// The same with the first of these addresses that has a route.
    pub(super) fn to_first(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match Self::connect(None, *address) {
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
        self.socket.readable().await
    }

    /// Receives what is there, at most one batch.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        batch.received = 0;
        let mut room = batch.bytes.chunks_mut(RUN_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(room.next().unwrap_or_default()));
        batch.received = self.socket.try_io(Interest::READABLE, || {
            self.state.recv((&self.socket).into(), &mut slices, &mut batch.runs)
        })?;
        if let Some(knock) = &self.knock {
            batch.leave_out(self.peer, knock);
        }
        Ok(())
    }

    /// Sends a batch on unchanged: the same boundaries, the same congestion marks.
    pub(super) async fn send(&self, batch: &Batch) -> io::Result<()> {
        for (run, room) in batch.runs[..batch.received].iter().zip(batch.bytes.chunks(RUN_BYTES)) {
            let stride = run.stride.max(1);
            let most = stride.saturating_mul(self.state.max_gso_segments());
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
            let sent = self
                .socket
                .try_io(Interest::WRITABLE, || self.state.send((&self.socket).into(), transmit));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await?;
                }
                outcome => return outcome,
            }
        }
    }
}
