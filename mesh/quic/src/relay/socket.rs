//! One connected UDP socket of a relayed flow, with the kernel's batching.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
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

/// Connected: the kernel drops what comes from anywhere else.
pub(super) struct FlowSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    peer: SocketAddr,
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
}

impl Promised {
    /// A socket of our address `own`. The port that it will speak with is another of this peer's.
    pub(super) fn bind(own: Option<IpAddr>, peer: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = own.filter(|own| own.is_ipv4() == peer.is_ipv4()).unwrap_or(any);
        let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
        // The kernel gives as much as its own limits allow; less is slower but works.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(own, 0).into())?;
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
        Ok(FlowSocket { socket, state, peer })
    }
}

impl FlowSocket {
    /// A socket of our address `own` that speaks with `peer` alone.
    pub(super) fn connect(own: Option<IpAddr>, peer: SocketAddr) -> io::Result<Self> {
        Promised::bind(own, peer)?.connect(peer)
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
