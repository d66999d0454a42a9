//! A NAT between a node and a relay: whatever the node sends to another port there comes from another
//! port as well.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use quinn::AsyncUdpSocket;
use rap_mesh::{Kernel, Network, RelayedUdp};
use rap_proto::{Lane, NodeId};
use tokio::net::{TcpListener, UdpSocket};

use crate::{carry::proxy_on, fabric::Fabric};

/// Where the relay is seen, which itself is on the loopback's first address.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// More than the flows of a test and the looks beside them take.
const PORTS: usize = 96;

/// The asker reaches the relay through a NAT from now on. The relay starts again, with the key of this
/// seed.
pub(crate) async fn behind_a_nat(fabric: &mut Fabric, (asker, relay): (NodeId, NodeId), seed: u8) {
    let mut ports = Vec::new();
    for _ in 0..PORTS {
        let outside = UdpSocket::bind((OUTSIDE, 0)).await.unwrap();
        let port = outside.local_addr().unwrap().port();
        let _runs = proxy_on(outside, (Ipv4Addr::LOCALHOST, port).into());
        ports.push(port);
    }
    fabric.move_to_network(relay, seed, Arc::new(Forwarded(ports.into())));
    let outside = UdpSocket::bind((OUTSIDE, 0)).await.unwrap();
    let (nat, _runs) = proxy_on(outside, fabric.address(relay));
    fabric.plan.addresses.insert((asker, relay), nat);
    fabric.publish();
}

/// The machine's network, where the sockets of relayed flows take these ports, to which a NAT leads.
struct Forwarded(Mutex<Vec<u16>>);

impl Network for Forwarded {
    fn udp(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Kernel.udp(at)
    }

    fn relayed(&self, _: SocketAddr, lane: Lane) -> io::Result<Box<dyn RelayedUdp>> {
        loop {
            let port = self.0.lock().unwrap().pop().ok_or(io::ErrorKind::AddrNotAvailable)?;
            match Kernel.relayed((Ipv4Addr::LOCALHOST, port).into(), lane) {
                // It is free at the NAT, and somebody else's here.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
    }

    fn tcp(&self, at: SocketAddr) -> io::Result<Option<TcpListener>> {
        Kernel.tcp(at)
    }
}
