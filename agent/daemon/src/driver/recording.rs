use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use rap_agent_core::lease::Recorded;
use rap_proto::{Generation, VpnConnectionId};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{Driver, Gate};

/// How often a datagram is sent.
const INTERVAL: Duration = Duration::from_millis(10);

/// Sends [`Recorded`] to an address of this host, so that a test sees which generations act.
#[derive(Debug)]
pub(crate) struct RecordingDriver {
    to: SocketAddr,
    running: Mutex<BTreeMap<VpnConnectionId, Running>>,
}

#[derive(Debug)]
struct Running {
    /// Dropped, it stops the task.
    _stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl RecordingDriver {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<VpnConnectionId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> io::Result<UdpSocket> {
        let own: SocketAddr = match self.to {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(self.to)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

impl Driver for RecordingDriver {
    fn activate(
        &self,
        connection: VpnConnectionId,
        generation: Generation,
        gate: Gate,
    ) -> BoxFuture<'static, bool> {
        let socket = match self.open() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "the recording driver does not start");
                return Box::pin(std::future::ready(false));
            }
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(send(socket, (connection, generation), gate, stopped));
        self.running().insert(connection, Running { _stop: stop, task });
        Box::pin(std::future::ready(true))
    }

    fn deactivate(&self, connection: VpnConnectionId) -> BoxFuture<'static, ()> {
        let running = self.running().remove(&connection);
        Box::pin(async move {
            let Some(Running { _stop: stop, task }) = running else { return };
            drop(stop);
            // A task that panicked sends nothing either.
            let _ = task.await;
        })
    }

    fn probe(&self, _: VpnConnectionId) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(self.open().is_ok()))
    }
}

async fn send(
    socket: UdpSocket,
    (connection, generation): (VpnConnectionId, Generation),
    gate: Gate,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for counter in 1.. {
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            _ = tick.tick() => {}
        }
        let datagram = Recorded { connection, generation, counter }.to_bytes();
        if gate.may_forward(generation) {
            // Nobody may be there to record it.
            let _ = socket.send(&datagram);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rap_agent_core::lease::Permit;
    use rap_proto::Moment;

    use super::*;
    use crate::clock::Clock;

    const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(1);
    const GENERATION: Generation = Generation::new(3);

    async fn receive(socket: &tokio::net::UdpSocket) -> Recorded {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).await.unwrap();
        Recorded::from_bytes(&bytes[..length]).unwrap()
    }

    fn permit(generation: Generation, until: Moment) -> Option<Permit> {
        Some(Permit { generation, until })
    }

    #[tokio::test]
    async fn nothing_leaves_without_a_permit_of_its_generation_or_after_the_driver_stopped() {
        let resource = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let driver = RecordingDriver::new(resource.local_addr().unwrap());
        assert!(driver.probe(CONNECTION).await);
        let gate = Gate::new(Clock::MACHINE);
        let long = Clock::MACHINE.moment() + Duration::from_secs(3_600);
        gate.set(permit(GENERATION.next(), long));
        assert!(driver.activate(CONNECTION, GENERATION, gate.clone()).await);
        let quiet = tokio::time::timeout(INTERVAL * 10, receive(&resource)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        gate.set(permit(GENERATION, long));
        let first = receive(&resource).await;
        assert_eq!((first.connection, first.generation), (CONNECTION, GENERATION));
        assert!(first.counter > 1, "counted although it was held back");
        assert!(receive(&resource).await.counter > first.counter);
        gate.set(permit(GENERATION, Clock::MACHINE.moment()));
        let mut bytes = [0; 64];
        while resource.try_recv(&mut bytes).is_ok() {}
        let quiet = tokio::time::timeout(INTERVAL * 10, receive(&resource)).await;
        assert!(quiet.is_err(), "its time is over: {quiet:?}");
        gate.set(permit(GENERATION, long));
        receive(&resource).await;
        driver.deactivate(CONNECTION).await;
        while resource.try_recv(&mut bytes).is_ok() {}
        let quiet = tokio::time::timeout(INTERVAL * 10, receive(&resource)).await;
        assert!(quiet.is_err(), "it has stopped: {quiet:?}");
        driver.deactivate(CONNECTION).await;
    }
}
