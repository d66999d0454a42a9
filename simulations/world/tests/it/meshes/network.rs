//! The mesh's sockets on turmoil's network, which loses a datagram now and then.

use std::{
    collections::BTreeSet,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker, ready},
};

use futures_util::FutureExt as _;
use quinn::{
    AsyncUdpSocket, EndpointConfig, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rap_mesh::{Network, RelayedUdp};
use rap_proto::{Lane, Timestamp};
use rap_simulations::kit::Chance;
use tokio::net::TcpListener;
use turmoil::net::UdpSocket;

use super::{cluster::today, record::Record};

/// One host's part of the network, from one start of the host to its end.
pub(crate) struct SimNetwork {
    chance: Arc<Mutex<Chance>>,
    loss_permille: u64,
    record: Record,
    calendar: fn() -> Timestamp,
    sockets: Mutex<Vec<Weak<SimUdp>>>,
    connections: Arc<Mutex<Connections>>,
}

/// The ids by which connections are sent to: at a node they have eight bytes.
type ConnectionId = [u8; 8];

/// The connections that a host sends on.
#[derive(Debug, Default)]
struct Connections {
    sent_on: BTreeSet<ConnectionId>,
    kept: BTreeSet<ConnectionId>,
    swallowed: BTreeSet<ConnectionId>,
}

impl Connections {
    /// Whether what is sent is lost.
    fn swallows(&mut self, datagram: &[u8]) -> bool {
        // RFC 9000, section 17: packets of a handshake have long headers, others begin with the id.
        let is_short = datagram.first().is_some_and(|first| first & 0x80 == 0);
        let id = datagram.get(1..).and_then(|rest| rest.first_chunk()).filter(|_| is_short);
        id.is_some_and(|id: &ConnectionId| {
            self.sent_on.insert(*id);
            self.swallowed.contains(id)
        })
    }
}

impl SimNetwork {
    pub(crate) fn new(chance: Chance, loss_permille: u64, record: Record) -> Self {
        let chance = Arc::new(Mutex::new(chance));
        let (sockets, connections) = (Mutex::default(), Arc::default());
        Self { chance, loss_permille, record, calendar: today, sockets, connections }
    }

    /// What was sent on so far is kept when connections are swallowed.
    pub(super) fn keep_connections(&self) {
        let mut connections = self.connections.lock().unwrap();
        connections.kept = connections.sent_on.clone();
    }

    /// From now on nothing leaves on the connections that there are, but for those that are kept. Returns
    /// how many it swallows.
    pub(super) fn swallow_connections(&self) -> usize {
        let connections = &mut *self.connections.lock().unwrap();
        connections.swallowed = &connections.sent_on - &connections.kept;
        connections.swallowed.len()
    }

    /// Its tokens and snapshots are of another calendar than the machine's.
    pub(crate) fn by(self, calendar: fn() -> Timestamp) -> Self {
        Self { calendar, ..self }
    }

    /// From now on what QUIC sends comes from other ports, and nothing arrives at those before: as
    /// when a NAT in between forgot them.
    pub(crate) fn change_ports(&self) {
        let sockets = self.sockets.lock().unwrap();
        sockets.iter().filter_map(Weak::upgrade).for_each(|socket| socket.change_port());
    }

    fn bind(&self, at: SocketAddr) -> io::Result<SimUdp> {
        // The hosts have addresses of the older kind alone.
        if at.is_ipv6() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let socket = bind(at)?;
        Ok(SimUdp {
            local: socket.local_addr()?,
            below: Mutex::new(Below { socket: Arc::new(socket), reader: None }),
            chance: self.chance.clone(),
            loss_permille: self.loss_permille,
            record: self.record.clone(),
            connections: self.connections.clone(),
        })
    }
}

impl Network for SimNetwork {
    fn udp(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = Arc::new(self.bind(at)?);
        self.sockets.lock().unwrap().push(Arc::downgrade(&socket));
        Ok(socket)
    }

    fn relayed(&self, at: SocketAddr, _: Lane) -> io::Result<Box<dyn RelayedUdp>> {
        Ok(Box::new(self.bind(at)?))
    }

    fn tcp(&self, _: SocketAddr) -> io::Result<Option<TcpListener>> {
        Ok(None)
    }

    fn seed(&self) -> u64 {
        self.chance.lock().unwrap().number()
    }

    /// Which packet numbers QUIC skips decides when it acknowledges.
    fn quic(&self) -> EndpointConfig {
        let mut config = EndpointConfig::default();
        config.rng_seed(Some(self.chance.lock().unwrap().bytes()));
        config
    }

    fn calendar(&self) -> fn() -> Timestamp {
        self.calendar
    }
}

#[derive(Debug)]
struct SimUdp {
    /// As it was bound: who has it does not know of NATs.
    local: SocketAddr,
    below: Mutex<Below>,
    chance: Arc<Mutex<Chance>>,
    loss_permille: u64,
    record: Record,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Debug)]
struct Below {
    socket: Arc<UdpSocket>,
    reader: Option<Waker>,
}

/// A simulated socket is bound at once, and always has room.
fn bind(at: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(at).now_or_never().expect("nothing to wait for")
}

impl SimUdp {
    fn socket(&self) -> Arc<UdpSocket> {
        self.below.lock().unwrap().socket.clone()
    }

    fn change_port(&self) {
        let other = bind(SocketAddr::new(self.local.ip(), 0)).unwrap();
        let mut below = self.below.lock().unwrap();
        below.socket = Arc::new(other);
        below.reader.take().into_iter().for_each(Waker::wake);
    }

    fn poll_arrived(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut below = self.below.lock().unwrap();
        below.reader = Some(cx.waker().clone());
        // What registers its task once is woken, even if it is not polled again.
        pin!(below.socket.readable()).poll(cx)
    }

    fn receive(&self, rooms: &mut [IoSliceMut<'_>], runs: &mut [RecvMeta]) -> io::Result<usize> {
        let socket = self.socket();
        let mut received = 0;
        for (room, run) in rooms.iter_mut().zip(runs) {
            match socket.try_recv_from(room) {
                Ok((len, addr)) => *run = RecvMeta { addr, len, stride: len, ..*run },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && received > 0 => break,
                Err(error) => return Err(error),
            }
            received += 1;
        }
        Ok(received)
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let (to, socket) = (transmit.destination, self.socket());
        let is_swallowed = self.connections.lock().unwrap().swallows(transmit.contents);
        let is_lost = self.chance.lock().unwrap().happens(self.loss_permille) || is_swallowed;
        self.record.sent(socket.local_addr()?, to, is_lost);
        if !is_lost {
            socket.try_send_to(transmit.contents, to)?;
        }
        Ok(())
    }
}

impl AsyncUdpSocket for SimUdp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(HasRoom)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        rooms: &mut [IoSliceMut<'_>],
        runs: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_arrived(cx))?;
        Poll::Ready(self.receive(rooms, runs))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl RelayedUdp for SimUdp {
    fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.socket().connect(peer).now_or_never().expect("nothing to wait for")
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_arrived(cx)
    }

    fn try_receive(
        &self,
        rooms: &mut [IoSliceMut<'_>],
        runs: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.receive(rooms, runs)
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.send(transmit)
    }

    fn max_segments(&self) -> usize {
        1
    }
}

#[derive(Debug)]
struct HasRoom;

impl UdpPoller for HasRoom {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
