//! The machine's own network.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rap_proto::Lane;
use socket2::{Domain, MsgHdr, Protocol, SockRef, Socket, Type};
use tokio::{
    io::Interest,
    net::{TcpListener, UdpSocket},
};

use super::{Network, RelayedUdp};
use crate::tcp::{self, BbrSupport};

/// What a socket asks the kernel for, in each direction.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// What a relayed bulk flow's socket asks for to send from: what is in the queues below it nobody
/// orders by lanes any more, or only the kernel does.
const BULK_SEND_BUFFER: usize = 256 * 1024;

/// The sockets of this machine.
pub struct Kernel;

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

    fn bbr(&self) -> Option<BbrSupport> {
        BbrSupport::of_kernel()
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
    lane: Lane,
    /// The congestion mark that the socket itself puts on what it sends in its lane.
    mark: AtomicU8,
    /// Whether the interfaces cut runs into datagrams.
    cuts: AtomicBool,
}

impl KernelUdp {
    fn bind(at: SocketAddr, lane: Lane) -> io::Result<Self> {
        let socket = UdpSocket::from_std(bound(at)?)?;
        let state = UdpSocketState::new((&socket).into())?;
        put_in_lane(&socket, lane);
        if lane == Lane::Bulk {
            let _ = SockRef::from(&socket).set_send_buffer_size(BULK_SEND_BUFFER);
        }
        Ok(Self { socket, state, lane, mark: AtomicU8::default(), cuts: AtomicBool::new(true) })
    }

    /// Whether the kernel would forget the lane of a datagram that is sent with a mark of its own. On
    /// IPv4 it takes the priority from that (`ip_cmsg_send`), which for a mark alone is the one of media.
    fn loses_its_lane(&self, to: SocketAddr) -> bool {
        to.ip().to_canonical().is_ipv4() && priority(self.lane) != priority(Lane::Media)
    }

    /// Sends a run with the priority of the socket, and with the mark as an option of the socket.
    fn send_in_lane(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let wanted = transmit.ecn.map_or(0, |ecn| ecn as u8);
        if self.mark.load(Ordering::Relaxed) != wanted {
            // Without the mark it is still worth sending.
            let _ = SockRef::from(&self.socket).set_tos_v4(wanted.into());
            // It follows the mark, and is set again.
            put_in_lane(&self.socket, self.lane);
            self.mark.store(wanted, Ordering::Relaxed);
        }
        let length = transmit.contents.len();
        let sent = match transmit.segment_size.filter(|size| *size < length) {
            None => self.socket.try_send(transmit.contents),
            Some(size) => self.socket.try_io(Interest::WRITABLE, || {
                let (buffers, control) = ([IoSlice::new(transmit.contents)], cut_into(size)?);
                let message = MsgHdr::new().with_buffers(&buffers).with_control(&control);
                SockRef::from(&self.socket).sendmsg(&message, 0)
            }),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // What comes is sent one by one.
            Err(error) if cuts_nothing(&error) => self.cuts.store(false, Ordering::Relaxed),
            // As quinn's: what cannot be sent now is lost, and the flow goes on.
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }
}

/// What an interface answers that cuts no runs: EIO or EINVAL.
fn cuts_nothing(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::InvalidInput || error.raw_os_error() == Some(EIO)
}

/// What sendmsg(2) is told beside the bytes: to cut them into datagrams of `size` bytes each (`UDP_SEGMENT`,
/// udp(7)). This is a `cmsghdr` as the kernel has it, its length, level and kind, and the size, filled up.
///
/// # Errors
/// `InvalidInput` for more than a datagram holds.
fn cut_into(size: usize) -> io::Result<[u8; CONTROL_BYTES]> {
    const SOL_UDP: i32 = 17;
    const UDP_SEGMENT: i32 = 103;
    let size = u16::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = CONTROL_HEADER + size_of_val(&size);
    let mut control = [0; CONTROL_BYTES];
    let parts: [&[u8]; 4] = [
        &length.to_ne_bytes(),
        &SOL_UDP.to_ne_bytes(),
        &UDP_SEGMENT.to_ne_bytes(),
        &size.to_ne_bytes(),
    ];
    for (place, byte) in control.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    Ok(control)
}

const CONTROL_HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
/// With the size in a word of its own.
const CONTROL_BYTES: usize = CONTROL_HEADER + size_of::<usize>();

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
        if self.loses_its_lane(transmit.destination) {
            return self.send_in_lane(transmit);
        }
        let send = || self.state.send((&self.socket).into(), transmit);
        self.socket.try_io(Interest::WRITABLE, send)
    }

    fn max_segments(&self) -> usize {
        if self.cuts.load(Ordering::Relaxed) { self.state.max_gso_segments() } else { 1 }
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

    /// What came of a run, and the mark and the length of its datagrams.
    async fn received(socket: &KernelUdp, bytes: usize) -> (Vec<u8>, Option<EcnCodepoint>, usize) {
        let (mut whole, mut last) = (Vec::new(), RecvMeta::default());
        while whole.len() < bytes {
            poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
            let (mut room, mut run) = ([0; 2048], [RecvMeta::default()]);
            match socket.try_receive(&mut [IoSliceMut::new(&mut room)], &mut run) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => {
                    received.unwrap();
                    assert!(
                        whole.is_empty() || (run[0].ecn, run[0].stride) == (last.ecn, last.stride)
                    );
                    last = run[0];
                    whole.extend_from_slice(&room[..last.len]);
                }
            }
        }
        (whole, last.ecn, last.stride)
    }

    #[tokio::test]
    async fn marks_and_bounds_go_on_unchanged_in_each_lane_and_the_priority_stays_the_lanes() {
        use EcnCodepoint::{Ce, Ect0};
        let hosts: [SocketAddr; 2] =
            [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
        for (at, lane) in hosts.into_iter().flat_map(|at| Lane::ALL.iter().map(move |it| (at, *it)))
        {
            let (here, there) = pair(at, lane);
            for ecn in [None, Some(Ect0), Some(Ce), Some(Ect0), None] {
                for segment_size in [None, Some(3), Some(9)] {
                    let (destination, contents) = (there.local_addr().unwrap(), &b"keykeykey"[..]);
                    let transmit =
                        Transmit { destination, ecn, contents, segment_size, src_ip: None };
                    poll_fn(|cx| here.poll_writable(cx)).await.unwrap();
                    here.try_send(&transmit).unwrap();
                    let stride = segment_size.unwrap_or(contents.len());
                    let came = received(&there, contents.len()).await;
                    assert_eq!(came, (contents.to_vec(), ecn, stride), "{at} {lane}");
                    let kept = SockRef::from(&here.socket).priority().unwrap();
                    assert_eq!(kept, priority(lane), "{at} {lane}");
                }
            }
            assert_eq!(here.max_segments(), here.state.max_gso_segments(), "{at} {lane}");
        }
    }

    #[tokio::test]
    async fn where_nothing_is_cut_datagrams_are_sent_one_by_one() {
        let (here, there) = pair((Ipv4Addr::LOCALHOST, 0).into(), Lane::Bulk);
        let contents = &[0; 2000][..];
        // The kernel cuts into 128 at most, and says so as an interface does that cuts nothing.
        let destination = there.local_addr().unwrap();
        let transmit =
            Transmit { destination, ecn: None, contents, segment_size: Some(1), src_ip: None };
        poll_fn(|cx| here.poll_writable(cx)).await.unwrap();
        here.try_send(&transmit).unwrap();
        assert_eq!(here.max_segments(), 1);
        assert!(cut_into(1 << 16).is_err());
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
