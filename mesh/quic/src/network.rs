//! Where the sockets of the mesh come from: the machine's kernel, or the network of a simulation.

mod kernel;

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    udp::{RecvMeta, Transmit},
};
use tokio::net::TcpListener;

pub use kernel::Kernel;
pub(crate) use kernel::put_in_lane;
use rap_proto::{Lane, Timestamp};

use crate::{clock, tcp::BbrSupport};

/// A network that nodes and clients speak over. It is asked within a tokio runtime.
pub trait Network: Send + Sync + 'static {
    /// A UDP socket under QUIC.
    fn udp(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// A UDP socket of a flow of this lane that is relayed.
    fn relayed(&self, at: SocketAddr, lane: Lane) -> io::Result<Box<dyn RelayedUdp>>;

    /// What a node accepts TCP connections from; `None` on a network that has none of them.
    fn tcp(&self, at: SocketAddr) -> io::Result<Option<TcpListener>>;

    /// Whether connections on it can have the congestion controller BBR; `None` where that is unknown.
    fn bbr(&self) -> Option<BbrSupport> {
        None
    }

    /// What QUIC begins with, on each of these sockets.
    fn quic(&self) -> EndpointConfig {
        EndpointConfig::default()
    }

    /// What pauses and trials are spread by; no secret. Without randomness they are not spread.
    fn seed(&self) -> u64 {
        let mut seed = [0; 8];
        let _ = rap_pki::tls::provider().secure_random.fill(&mut seed);
        u64::from_be_bytes(seed)
    }

    /// The calendar that snapshots and tokens are judged by. Certificates are judged by the machine's.
    fn calendar(&self) -> fn() -> Timestamp {
        clock::calendar
    }
}

/// A UDP socket that batches as the kernel does, and is told late with whom it speaks.
pub trait RelayedUdp: Send + Sync {
    /// Takes from this peer alone from now on. What others sent before may still be received.
    fn connect(&self, peer: SocketAddr) -> io::Result<()>;

    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits until there may be something to receive. Only who asked last is woken.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Receives what is there, a run in each room, and returns how many runs.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    fn try_receive(&self, rooms: &mut [IoSliceMut<'_>], runs: &mut [RecvMeta])
    -> io::Result<usize>;

    /// Waits until there may be room to send. Only who asked last is woken.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends one run.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()>;

    /// The most datagrams of one run.
    fn max_segments(&self) -> usize;
}

/// A QUIC endpoint on a socket of this network.
pub(crate) fn endpoint(
    network: &dyn Network,
    server: Option<ServerConfig>,
    socket: Arc<dyn AsyncUdpSocket>,
) -> io::Result<Endpoint> {
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new_with_abstract_socket(network.quic(), server, socket, runtime)
}
