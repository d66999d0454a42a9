//! The socket under a dialled lane: QUIC sees one address, whichever path its datagrams take.
//!
//! The stock socket does the work, with all its batching; this one changes addresses. It takes
//! datagrams from the lane's open paths and from the one before the one in use, and from nobody
//! else. Paths are probed beside the lane's own traffic; see [`super::probe`]. From others a knock
//! that is waited for is heard ([`knocks`]), and nothing besides.

mod knocks;

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rap_mesh_core::lane_path::repeats::Repeats;
use rap_proto::wire::hop::knock;
use tokio::sync::{Notify, mpsc};

use super::probe::{self, ProbeId, Probes};
use crate::{Network, endpoint::on_the_wire, hops::NearSocket, mesh::locked};
use knocks::Knocks;

/// What QUIC takes for the far end's address; from a block that is kept for documentation
/// (RFC 5737, RFC 3849), so that nothing would ever arrive there.
const STABLE_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 443);
const STABLE_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 443);
/// Answers to probes that wait for the lane's driver; more are dropped, as if they were lost.
const MAX_ANSWERS: usize = 16;

/// The far end answered a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) generation: u64,
    pub(super) probe: u64,
}

#[derive(Debug)]
pub(super) struct LaneSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    local: SocketAddr,
    addresses: RwLock<Addresses>,
    repeats: Mutex<Repeats>,
    /// Whether `repeats` is asked at all: not for most of a lane's datagrams. Changed under its lock.
    repeats_some: AtomicBool,
    probes: Mutex<Probes>,
    knocks: Knocks,
    answers: mpsc::Sender<Answer>,
    /// Batches, to wherever.
    sent: AtomicU64,
    /// Batches of the lane's own that came over the path in use.
    received: AtomicU64,
    refused: AtomicU64,
    /// Whether somebody waits for the lane to send.
    is_awaited: AtomicBool,
    sends: Notify,
}

/// INVARIANT: every address is canonical, so that IPv4 looks the same on every kind of socket.
#[derive(Debug, Default)]
struct Addresses {
    in_use: Option<(u64, SocketAddr)>,
    open: BTreeMap<u64, SocketAddr>,
    before: Option<SocketAddr>,
}

impl LaneSocket {
    /// Opens a socket of the address `own`, and the queue of what answers its probes.
    pub(super) fn bind(
        network: &dyn Network,
        own: IpAddr,
    ) -> io::Result<(Arc<Self>, mpsc::Receiver<Answer>)> {
        let socket = network.udp(SocketAddr::new(own, 0))?;
        let local = socket.local_addr()?;
        let (answers, receiver) = mpsc::channel(MAX_ANSWERS);
        let socket = Self {
            socket,
            local,
            addresses: RwLock::default(),
            repeats: Mutex::default(),
            repeats_some: AtomicBool::new(false),
            probes: Mutex::default(),
            knocks: Knocks::default(),
            answers,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            is_awaited: AtomicBool::new(false),
            sends: Notify::new(),
        };
        Ok((Arc::new(socket), receiver))
    }

    /// The address to connect to.
    pub(super) const fn stable(&self) -> SocketAddr {
        if self.local.is_ipv4() { STABLE_V4 } else { STABLE_V6 }
    }

    /// Whether this kind of socket can send there at all.
    pub(super) const fn reaches(&self, address: SocketAddr) -> bool {
        self.local.is_ipv6() || canonical(address).is_ipv4()
    }

    pub(super) fn open(&self, generation: u64, address: SocketAddr) {
        self.write().open.insert(generation, canonical(address));
    }

    /// Sends along an open path from now on.
    pub(super) fn take(&self, generation: u64) {
        let mut addresses = self.write();
        if let Some(address) = addresses.open.get(&generation).copied() {
            addresses.before = addresses.in_use.replace((generation, address)).map(|(_, one)| one);
        }
    }

    /// The same for a path that follows another one.
    pub(super) fn change_to(&self, generation: u64) {
        {
            let mut repeats = locked(&self.repeats);
            repeats.begin();
            self.repeats_some.store(true, Ordering::Release);
        }
        self.take(generation);
    }

    /// Takes nothing over this path any more, unless it is the one before the one in use: what is
    /// under way there may still arrive.
    pub(super) fn close(&self, generation: u64) {
        let mut addresses = self.write();
        addresses.open.remove(&generation);
        if addresses.in_use.is_some_and(|(in_use, _)| in_use == generation) {
            addresses.in_use = None;
        }
    }

    /// Probes an open path. A probe that cannot be sent is as good as lost.
    pub(super) fn probe(&self, generation: u64, number: u64, id: ProbeId) {
        let Some(address) = self.read().open.get(&generation).copied() else { return };
        locked(&self.probes).sent(id, Answer { generation, probe: number });
        self.send_beside(address, &probe::datagram(&id));
    }

    /// Hears the knock of this secret from now on, and no other.
    pub(super) fn expect(&self, round: u32, secret: &[u8; 16]) {
        self.knocks.expect(round, knock(secret));
    }

    /// The round whose knock came, and where it came from.
    pub(super) async fn knocked(&self) -> (u32, SocketAddr) {
        self.knocks.heard().await
    }

    /// Sends what QUIC sends, the first datagrams along another path more than once. A run of several
    /// is large enough.
    fn send_along(&self, address: SocketAddr, transmit: &Transmit<'_>) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.on_the_wire(address),
            ecn: transmit.ecn,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: None,
        };
        self.socket.try_send(&transmit)?;
        if transmit.segment_size.is_none() && self.repeats_some.load(Ordering::Acquire) {
            let copies = self.copies(transmit.contents.len());
            // One that cannot be sent is as good as lost.
            (1..copies).for_each(|_| drop(self.socket.try_send(&transmit)));
        }
        Ok(())
    }

    /// How often a datagram of so many bytes is sent, behind a change of paths.
    fn copies(&self, bytes: usize) -> usize {
        let received = self.received.load(Ordering::Relaxed);
        let mut repeats = locked(&self.repeats);
        let copies = repeats.copies(received, bytes);
        self.repeats_some.store(!repeats.are_over(), Ordering::Release);
        copies
    }

    /// What is no traffic of the lane's.
    fn send_beside(&self, to: SocketAddr, contents: &[u8]) {
        let transmit = Transmit {
            destination: self.on_the_wire(to),
            ecn: None,
            contents,
            segment_size: None,
            src_ip: None,
        };
        let _ = self.socket.try_send(&transmit);
    }

    /// How much was sent, and how much of the lane's own came over the path in use.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.sent.load(Ordering::SeqCst), self.received.load(Ordering::Relaxed))
    }

    /// Datagrams from elsewhere.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until more than `count` was sent.
    pub(super) async fn sends_beyond(&self, count: u64) {
        loop {
            let sends = self.sends.notified();
            // Before the count is read: whoever sends adds to it before it looks here.
            self.is_awaited.store(true, Ordering::SeqCst);
            if self.sent.load(Ordering::SeqCst) > count {
                return;
            }
            sends.await;
        }
    }

    fn note_sent(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) && self.is_awaited.swap(false, Ordering::SeqCst) {
            self.sends.notify_waiters();
        }
    }

    /// Makes one run of received datagrams the lane's, or empties it.
    fn judge(&self, addresses: &Addresses, run: &mut RecvMeta, bytes: &[u8]) {
        let from = canonical(run.addr);
        run.addr = self.stable();
        let mut datagrams = bytes.chunks(run.stride.max(1));
        let is_knock = datagrams.any(|datagram| self.knocks.hear(datagram, from));
        if !addresses.accept(from) {
            self.refused.fetch_add(u64::from(!is_knock), Ordering::Relaxed);
            run.len = 0;
            return;
        }
        let mut is_of_lane = false;
        for datagram in bytes.chunks(run.stride.max(1)) {
            match probe::answered(datagram) {
                Some(id) => self.answered(addresses, from, &id),
                None => is_of_lane = true,
            }
        }
        if !is_of_lane {
            run.len = 0;
        } else if addresses.in_use.is_some_and(|(_, in_use)| in_use == from) {
            self.received.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answered(&self, addresses: &Addresses, from: SocketAddr, id: &ProbeId) {
        let Some(answer) = locked(&self.probes).answered(id) else { return };
        if addresses.open.get(&answer.generation) == Some(&from) {
            // The next probe makes good for one that the driver had no time for.
            let _ = self.answers.try_send(answer);
        }
    }

    /// The address as this kind of socket wants it.
    const fn on_the_wire(&self, address: SocketAddr) -> SocketAddr {
        on_the_wire(self.local, address)
    }

    fn read(&self) -> RwLockReadGuard<'_, Addresses> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Addresses> {
        self.addresses.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NearSocket for LaneSocket {
    fn port(&self) -> u16 {
        self.local.port()
    }

    fn knock(&self, to: SocketAddr, secret: &[u8; 16]) {
        self.send_beside(to, &knock(secret));
    }
}

impl Addresses {
    fn accept(&self, from: SocketAddr) -> bool {
        self.in_use.is_some_and(|(_, in_use)| in_use == from)
            || self.before == Some(from)
            || self.open.values().any(|open| *open == from)
    }
}

impl AsyncUdpSocket for LaneSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    /// Where there is no path, datagrams are lost.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let in_use = self.read().in_use;
        let sent = match in_use {
            None => Ok(()),
            Some((_, address)) => self.send_along(address, transmit),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // A path that cannot be sent along is silent: that is noticed, and another taken.
            _ => {
                self.note_sent();
                Ok(())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.socket.poll_recv(cx, bufs, meta))?;
        let addresses = self.read();
        for (run, bytes) in meta.iter_mut().zip(bufs.iter()).take(received) {
            let length = run.len;
            self.judge(&addresses, run, &bytes[..length]);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
