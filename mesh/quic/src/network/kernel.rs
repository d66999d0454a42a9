//! The machine's own network.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rap_proto::Lane;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::Interest,
    net::{TcpListener, UdpSocket},
};

use super::{Network, RelayedUdp};
use crate::tcp;

/// What a socket asks the kernel for, in each direction.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// What a relayed bulk flow's socket asks for to send from: what is in the queues below it nobody
/// orders by lanes any more, or only the kernel does.
const BULK_SEND_BUFFER: usize = 256 * 1024;

pub(crate) struct Kernel;

impl Network for Kernel {
    fn udp(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(bound(at)?)
    }

    fn relayed(&self, at: SocketAddr, lane: Lane) -> io::Result<Box<dyn RelayedUdp>> {
        KernelUdp::bind(at, lane).map(|socket| Box::new(socket) as Box<dyn RelayedUdp>)
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

/// Has the kernel order what a socket sends by its lane, where the interface's queue has an order at
/// all. These priorities need no privilege (socket(7)).
pub(crate) fn put_in_lane(socket: &impl AsFd, lane: Lane) {
    // What the kernel does not order is forwarded nevertheless.
    let _ = SockRef::from(socket).set_priority(priority(lane));
}

/// `TC_PRIO_INTERACTIVE`, `TC_PRIO_BESTEFFORT` and `TC_PRIO_BULK`: the three bands of pfifo_fast and of prio.
const fn priority(lane: Lane) -> u32 {
    match lane {
        Lane::Interactive => 6,
        Lane::Media => 0,
        Lane::Bulk => 2,
    }
}

struct KernelUdp {
    socket: UdpSocket,
    state: UdpSocketState,
    /// The congestion mark that the socket itself puts on what it sends; `None` where each datagram
    /// is sent with its own.
    mark: Option<AtomicU8>,
}

impl KernelUdp {
    fn bind(at: SocketAddr, lane: Lane) -> io::Result<Self> {
        let socket = UdpSocket::from_std(bound(at)?)?;
        let state = UdpSocketState::new((&socket).into())?;
        put_in_lane(&socket, lane);
        if lane == Lane::Bulk {
            let _ = SockRef::from(&socket).set_send_buffer_size(BULK_SEND_BUFFER);
        }
        let is_key = at.is_ipv4() && lane == Lane::Interactive;
        Ok(Self { socket, state, mark: is_key.then(AtomicU8::default) })
    }

    /// Sends one datagram with the priority of the socket. A mark of its own, as every datagram has
    /// that is sent otherwise, takes that away on IPv4 (ip_cmsg_send).
    fn send_in_lane(&self, mark: &AtomicU8, transmit: &Transmit<'_>) -> io::Result<()> {
        let wanted = transmit.ecn.map_or(0, |ecn| ecn as u8);
        if mark.load(Ordering::Relaxed) != wanted {
            // Without the mark it is still worth sending.
            let _ = SockRef::from(&self.socket).set_tos_v4(wanted.into());
            // It follows the mark, and is set again.
            put_in_lane(&self.socket, Lane::Interactive);
            mark.store(wanted, Ordering::Relaxed);
        }
        match self.socket.try_send(transmit.contents) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // As quinn's: what cannot be sent now is lost, and the flow goes on.
            Ok(_) | Err(_) => Ok(()),
        }
    }
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
        if let Some(mark) = self.mark.as_ref().filter(|_| transmit.segment_size.is_none()) {
            return self.send_in_lane(mark, transmit);
        }
        let send = || self.state.send((&self.socket).into(), transmit);
        self.socket.try_io(Interest::WRITABLE, send)
    }

    fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        future::poll_fn,
        net::{Ipv4Addr, Ipv6Addr},
    };

    use quinn_udp::EcnCodepoint;

    use super::*;

    fn pair(at: SocketAddr, lane: Lane) -> (KernelUdp, KernelUdp) {
        let (here, there) =
            (KernelUdp::bind(at, lane).unwrap(), KernelUdp::bind(at, lane).unwrap());
        here.connect(there.local_addr().unwrap()).unwrap();
        there.connect(here.local_addr().unwrap()).unwrap();
        (here, there)
    }

    async fn received(socket: &KernelUdp) -> (Vec<u8>, Option<EcnCodepoint>) {
        loop {
            poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
            let (mut room, mut run) = ([0; 2048], [RecvMeta::default()]);
            match socket.try_receive(&mut [IoSliceMut::new(&mut room)], &mut run) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => {
                    received.unwrap();
                    return (room[..run[0].len].to_vec(), run[0].ecn);
                }
            }
        }
    }

    #[tokio::test]
    async fn marks_go_on_unchanged_in_each_lane_and_the_priority_stays_the_lanes() {
        use EcnCodepoint::{Ce, Ect0};
        let hosts: [SocketAddr; 2] =
            [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
        for (at, lane) in hosts.into_iter().flat_map(|at| Lane::ALL.iter().map(move |it| (at, *it)))
        {
            let (here, there) = pair(at, lane);
            for ecn in [None, Some(Ect0), Some(Ce), Some(Ect0), None] {
                let (destination, contents) = (there.local_addr().unwrap(), &b"key"[..]);
                let transmit =
                    Transmit { destination, ecn, contents, segment_size: None, src_ip: None };
                poll_fn(|cx| here.poll_writable(cx)).await.unwrap();
                here.try_send(&transmit).unwrap();
                assert_eq!(received(&there).await, (b"key".to_vec(), ecn), "{at} {lane}");
                let kept = SockRef::from(&here.socket).priority().unwrap();
                assert_eq!(kept, priority(lane), "{at} {lane}");
            }
        }
    }

    #[tokio::test]
    async fn a_bulk_flow_has_a_short_queue_to_send_from() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let buffer = |lane| {
            let socket = KernelUdp::bind(any, lane).unwrap();
            SockRef::from(&socket.socket).send_buffer_size().unwrap()
        };
        // The kernel counts its own part, as much again.
        assert!(buffer(Lane::Bulk) <= 2 * BULK_SEND_BUFFER);
    }

    #[tokio::test]
    async fn a_stream_is_put_in_its_lane() {
        let listener = tcp::listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let stream = tcp::dialled(listener.local_addr().unwrap()).await.unwrap();
        for lane in Lane::ALL {
            put_in_lane(&stream, *lane);
            assert_eq!(SockRef::from(&stream).priority().unwrap(), priority(*lane));
        }
    }
}
