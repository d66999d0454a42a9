//! Bulk that is sent on TCP keeps the queue of a slow path short: the kernel is told which congestion
//! controller its connection has.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Mutex,
};

use rap_mesh_core::slow_path::{Controller, SlowPath};
use rap_proto::{Lane, Moment};
use rap_splice::Socket;
use socket2::{Domain, SockRef, Socket as AnySocket, Type};
use tokio::{io::Interest, net::TcpStream};

use super::controllers::{Controllers, OnShortQueue};
use crate::{clock::Clock, mesh::locked, network::put_in_lane};

/// BBR (draft-ietf-ccwg-bbr), by the name that Linux has for it.
const SHORT_QUEUE: &[u8] = b"bbr";

/// Whether a connection of this process can have BBR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BbrSupport {
    Available,
    /// The kernel has it, and keeps it for who may administer the network.
    NotPermitted,
    /// The kernel has none, or has not loaded it.
    NotThere,
}

impl BbrSupport {
    pub const ALL: [Self; 3] = [Self::Available, Self::NotPermitted, Self::NotThere];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::NotPermitted => "not_permitted",
            Self::NotThere => "not_there",
        }
    }

    /// Asks the kernel. `None` where it does not say.
    pub(crate) fn of_kernel() -> Option<Self> {
        Self::of(SHORT_QUEUE)
    }

    fn of(controller: &[u8]) -> Option<Self> {
        let socket = AnySocket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        Self::by(&socket.set_tcp_congestion(controller))
    }

    fn by(taken: &io::Result<()>) -> Option<Self> {
        match taken.as_ref().map_err(io::Error::kind) {
            Ok(()) => Some(Self::Available),
            Err(io::ErrorKind::PermissionDenied) => Some(Self::NotPermitted),
            Err(io::ErrorKind::NotFound) => Some(Self::NotThere),
            Err(_) => None,
        }
    }
}

/// What one connection's sender learns of its path.
pub(super) struct Sending {
    clock: Clock,
    path: SlowPath,
    /// Since when the connection takes nothing.
    blocked: Option<Moment>,
    /// What the connection began with, while that is changed.
    usual: Option<(Vec<u8>, OnShortQueue)>,
    short_queue: &'static [u8],
    controllers: Controllers,
}

impl Sending {
    /// Keys and pictures leave no queue, and have nothing to learn.
    pub(super) fn of(lane: Lane, controllers: &Controllers) -> Option<Self> {
        (lane == Lane::Bulk).then(|| Self::with(SHORT_QUEUE, controllers))
    }

    fn with(short_queue: &'static [u8], controllers: &Controllers) -> Self {
        let (clock, path) = (Clock::start(), SlowPath::default());
        Self {
            clock,
            path,
            blocked: None,
            usual: None,
            short_queue,
            controllers: controllers.clone(),
        }
    }

    /// The connection takes nothing more for now.
    pub(super) fn blocks(&mut self) {
        self.blocked.get_or_insert_with(|| self.clock.moment());
    }

    /// The connection took so many bytes.
    pub(super) fn took(&mut self, socket: &impl AsFd, bytes: usize) {
        self.took_at(self.clock.moment(), socket, bytes);
    }

    fn took_at(&mut self, now: Moment, socket: &impl AsFd, bytes: usize) {
        let waited = self.blocked.take().map(|since| now.since(since)).unwrap_or_default();
        if let Some(controller) = self.path.sent(now, bytes as u64, waited) {
            // A kernel that has no such controller, or lets nobody take it, keeps its own.
            let changed = self.change(socket, controller);
            tracing::debug!(
                ?controller,
                ?changed,
                "the congestion controller of a bulk connection"
            );
        }
    }

    fn change(&mut self, socket: &impl AsFd, controller: Controller) -> io::Result<()> {
        let socket = SockRef::from(socket);
        match (controller, &self.usual) {
            (Controller::Usual, None) | (Controller::ShortQueue, Some(_)) => {}
            (Controller::Usual, Some((usual, _))) => {
                socket.set_tcp_congestion(usual)?;
                self.usual = None;
                self.controllers.has_usual_again();
            }
            (Controller::ShortQueue, None) => {
                let usual = socket.tcp_congestion()?;
                let taken = socket.set_tcp_congestion(self.short_queue);
                taken.inspect_err(|_| self.controllers.keeps_usual())?;
                self.usual = Some((usual, self.controllers.keeps_queue_short()));
            }
        }
        Ok(())
    }
}

/// A connection that bytes of a lane are passed on to, as they are.
pub(crate) struct InLane<'a> {
    stream: &'a TcpStream,
    sending: Option<Mutex<Sending>>,
}

impl<'a> InLane<'a> {
    pub(crate) fn new(stream: &'a TcpStream, lane: Lane, controllers: &Controllers) -> Self {
        put_in_lane(stream, lane);
        Self { stream, sending: Sending::of(lane, controllers).map(Mutex::new) }
    }
}

impl AsFd for InLane<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Socket for InLane<'_> {
    async fn ready(&self, interest: Interest) -> io::Result<()> {
        Socket::ready(self.stream, interest).await
    }

    fn attempt(
        &self,
        interest: Interest,
        io: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let done = Socket::attempt(self.stream, interest, io);
        if let Some(sending) = self.sending.as_ref().filter(|_| interest.is_writable()) {
            match &done {
                Ok(bytes) => locked(sending).took(self.stream, *bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => locked(sending).blocks(),
                Err(_) => {}
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;
    use crate::tcp::ControllerCounts;

    /// Every kernel has it and lets everybody take it.
    const ANOTHER: &[u8] = b"reno";

    fn controller(socket: &TcpStream) -> String {
        let name = SockRef::from(socket).tcp_congestion().unwrap();
        String::from_utf8(name).unwrap().trim_end_matches('\0').to_owned()
    }

    /// A second passes, for which it waits, and as many bytes.
    fn a_second(sending: &mut Sending, now: &mut u64, socket: &TcpStream, bytes: usize) {
        sending.blocked = Some(Moment::from_micros(*now));
        *now += 1_000_000;
        sending.took_at(Moment::from_micros(*now), socket, bytes);
    }

    #[test]
    fn a_connection_on_a_slow_path_changes_its_controller_and_has_its_own_again_on_a_fast_one() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        SockRef::from(&socket).set_tcp_congestion(b"cubic").unwrap();
        let controllers = Controllers::default();
        let counts = || controllers.read();
        let (mut sending, mut now) = (Sending::with(ANOTHER, &controllers), 0);
        for _ in 0..3 {
            a_second(&mut sending, &mut now, &socket, 1_000_000_000);
        }
        assert_eq!((&*controller(&socket), counts()), ("cubic", ControllerCounts::default()));
        for _ in 0..3 {
            a_second(&mut sending, &mut now, &socket, 10_000_000);
        }
        let once = ControllerCounts { short_queue: 1, changed: 1, ..ControllerCounts::default() };
        assert_eq!((&*controller(&socket), counts()), ("reno", once));
        for _ in 0..12 {
            a_second(&mut sending, &mut now, &socket, 1_000_000_000);
        }
        let back = ControllerCounts { short_queue: 0, changed_back: 1, ..once };
        assert_eq!((&*controller(&socket), counts()), ("cubic", back));
        for _ in 0..12 {
            a_second(&mut sending, &mut now, &socket, 10_000_000);
        }
        assert_eq!(counts(), ControllerCounts { short_queue: 1, changed: 2, ..back });
        drop(sending);
        assert_eq!(counts(), ControllerCounts { changed: 2, ..back }, "it is closed");
    }

    #[test]
    fn what_the_kernel_says_of_a_controller_is_told_apart() {
        assert_eq!(BbrSupport::of(ANOTHER), Some(BbrSupport::Available));
        assert_eq!(BbrSupport::of(b"there is none"), Some(BbrSupport::NotThere));
        let not_permitted = Err(io::Error::from_raw_os_error(1));
        assert_eq!(BbrSupport::by(&not_permitted), Some(BbrSupport::NotPermitted));
        assert_eq!(BbrSupport::by(&Err(io::ErrorKind::Unsupported.into())), None);
    }

    #[test]
    fn a_controller_that_the_kernel_has_not_leaves_the_connection_as_it_is() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (before, mut now) = (controller(&socket), 0);
        let controllers = Controllers::default();
        let mut sending = Sending::with(b"there is none", &controllers);
        for bytes in [10_000_000, 10_000_000, 1_000_000_000].repeat(12) {
            a_second(&mut sending, &mut now, &socket, bytes);
        }
        assert_eq!(controller(&socket), before);
        let counts = controllers.read();
        assert!(counts.refused > 0, "{counts:?}");
        assert_eq!(ControllerCounts { refused: 0, ..counts }, ControllerCounts::default());
    }

    #[test]
    fn only_bulk_is_watched() {
        let controllers = Controllers::default();
        let watched = Lane::ALL.iter().filter(|lane| Sending::of(**lane, &controllers).is_some());
        assert_eq!(watched.collect::<Vec<_>>(), [&Lane::Bulk]);
    }
}
