//! The machine's own network.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::Interest,
    net::{TcpListener, UdpSocket},
};

use super::{Network, RelayedUdp};
use crate::tcp;

/// What a socket asks the kernel for, in each direction.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

pub(crate) struct Kernel;

impl Network for Kernel {
    fn udp(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(bound(at)?)
    }

    fn relayed(&self, at: SocketAddr) -> io::Result<Box<dyn RelayedUdp>> {
        let socket = UdpSocket::from_std(bound(at)?)?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Box::new(KernelUdp { socket, state }))
    }

    fn tcp(&self, at: SocketAddr) -> io::Result<Option<TcpListener>> {
        tcp::listen(at).map(Some)
    }
}

fn bound(at: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The kernel gives as much as its own limits allow; less is slower but works.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}

struct KernelUdp {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl RelayedUdp for KernelUdp {
    fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        SockRef::from(&self.socket).connect(&peer.into())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(cx)
    }

    fn try_receive(
        &self,
        rooms: &mut [IoSliceMut<'_>],
        runs: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let receive = || self.state.recv((&self.socket).into(), rooms, runs);
        self.socket.try_io(Interest::READABLE, receive)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = || self.state.send((&self.socket).into(), transmit);
        self.socket.try_io(Interest::WRITABLE, send)
    }

    fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }
}
