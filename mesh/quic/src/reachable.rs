//! An egress that only dials out: it keeps a line to some relays, and does what they call for. To
//! wherever datagrams shall come from, it knocks from the very port that lanes come in on; where a
//! stream shall come from, it connects to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use quinn::{AsyncUdpSocket, udp::Transmit};
use rap_mesh_core::{
    View,
    carrier::Carrier,
    paths::Candidate,
    reachable::{MAX_CALLS_OF_ONE, Pauses, Rests, choose},
};
use rap_proto::{
    Lane, NodeId,
    refusal::Refusal,
    wire::hop::{Call, knock},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    endpoint::on_the_wire,
    hops::{self, Line, NearSocket},
    lanes::LaneKey,
    mesh::{Mesh, locked},
    relays::Use,
    tcp,
};

/// How often the choice of relays is thought about when no new snapshot comes.
const REVIEW_EVERY: Duration = Duration::from_secs(60);
/// How often a line on TCP tries whether QUIC gets through again.
const QUIC_AGAIN: Duration = Duration::from_secs(60);
/// A knock is sent at once and again after each of these, unless it was heard meanwhile.
const KNOCK_AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];

/// The node's UDP socket, for what is no QUIC.
pub(crate) struct Knocker {
    pub(crate) socket: Arc<dyn AsyncUdpSocket>,
    pub(crate) local: SocketAddr,
}

/// What an egress has of its lines.
pub(crate) struct Lines {
    at: Mutex<BTreeSet<NodeId>>,
    rests: Mutex<Rests>,
    /// A relay rests: it is another one's turn.
    turn: Notify,
    /// The places of all connections on TCP, accepted or made.
    connections: Arc<Semaphore>,
}

impl Lines {
    pub(crate) fn new(connections: Arc<Semaphore>) -> Self {
        let (at, rests, turn) = (Mutex::default(), Mutex::default(), Notify::new());
        Self { at, rests, turn, connections }
    }

    /// A place among the connections that are being made for one relay, and one among all that are
    /// there.
    fn places(
        &self,
        connecting: &Arc<Semaphore>,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let connecting = connecting.clone().try_acquire_owned().ok()?;
        Some((connecting, self.connections.clone().try_acquire_owned().ok()?))
    }

    /// At how many relays this node is reachable.
    pub(crate) fn relays(&self) -> usize {
        locked(&self.at).len()
    }

    /// Which they are.
    pub(crate) fn at(&self) -> Vec<NodeId> {
        locked(&self.at).iter().copied().collect()
    }
}

impl NearSocket for Knocker {
    fn port(&self) -> u16 {
        self.local.port()
    }

    fn knock(&self, to: SocketAddr, secret: &[u8; 16]) {
        let contents = knock(secret);
        let destination = on_the_wire(self.local, to);
        let _ = self.socket.try_send(&Transmit {
            destination,
            ecn: None,
            contents: &contents,
            segment_size: None,
            src_ip: None,
        });
    }
}

/// Keeps the node reachable at the relays that its snapshot names, for as long as it runs.
pub(crate) async fn keep(mesh: Arc<Mesh>) {
    let mut views = mesh.views.subscribe();
    let mut lines = BTreeMap::new();
    loop {
        let view = views.borrow_and_update().clone();
        let resting = locked(&mesh.lines.rests).resting(mesh.clock.moment());
        let chosen = choose(&orders(&mesh, &view), &locked(&mesh.lines.at), &resting);
        lines.retain(|relay, _| chosen.contains(relay));
        for relay in chosen {
            lines.entry(relay).or_insert_with(|| {
                AbortOnDropHandle::new(mesh.tasks.spawn(stay(mesh.clone(), relay)))
            });
        }
        tokio::select! {
            biased;
            () = mesh.leaving.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            () = mesh.lines.turn.notified() => {}
            () = sleep(REVIEW_EVERY) => {}
        }
    }
}

/// The relays for each lane of each organization that this node reaches resources of, best first. All those for
/// keys are before those for pictures, and these before those for bulk.
fn orders(mesh: &Mesh, view: &Arc<View>) -> Vec<Vec<NodeId>> {
    let now = mesh.clock.now();
    let order = |organization, lane| {
        let key = LaneKey { egress: view.node, organization, lane };
        // A node that is cut off from control is still looked for.
        let ways = mesh.relays.order(view, Use::Running, key, now).into_iter();
        ways.filter_map(|way| match way {
            Candidate::Relay(relay) => Some(relay),
            Candidate::Direct(_) | Candidate::Chain(_) => None,
        })
        .collect()
    };
    let served = view.served();
    let of_lane = |lane: &Lane| served.iter().map(|one| order(*one, *lane)).collect::<Vec<_>>();
    Lane::ALL.iter().flat_map(of_lane).collect()
}

/// Keeps a line to one relay, again and again.
async fn stay(mesh: Arc<Mesh>, relay: NodeId) {
    let mut pauses = Pauses::new(mesh.network.seed());
    // A relay has no more calls open at once. What one of them leaves unfinished is taken from no
    // other, and is not given back by a new line.
    let connecting = Arc::new(Semaphore::new(MAX_CALLS_OF_ONE));
    loop {
        let mut line = match hops::keep_reachable(&mesh, relay).await {
            Ok(line) => {
                locked(&mesh.lines.rests).held(relay);
                Some(line)
            }
            Err(refusal) => {
                tracing::debug!(%relay, %refusal, "not reachable at a relay");
                if locked(&mesh.lines.rests).failed(mesh.clock.moment(), relay) {
                    mesh.lines.turn.notify_one();
                }
                None
            }
        };
        let (was_held, begun) = (line.is_some(), mesh.clock.moment());
        while let Some(held) = line {
            line = hold(&mesh, (relay, &connecting), held).await;
        }
        let held = was_held.then(|| mesh.clock.moment().since(begun));
        sleep(pauses.after(held)).await;
    }
}

/// Does what comes over a line until it ends. Returns a better one, if that is why.
async fn hold(
    mesh: &Arc<Mesh>,
    (relay, connecting): (NodeId, &Arc<Semaphore>),
    mut line: Line,
) -> Option<Line> {
    tracing::info!(%relay, carrier = %line.carrier, "reachable at a relay");
    let _at = At::of(mesh, relay);
    let carrier = line.carrier;
    tokio::select! {
        biased;
        () = heed(mesh, connecting, &mut line) => None,
        better = better(|| on_quic(mesh.clone(), relay)), if carrier == Carrier::Tcp => Some(better),
    }
}

async fn on_quic(mesh: Arc<Mesh>, relay: NodeId) -> Result<Line, Refusal> {
    hops::keep_reachable_on_quic(&mesh, relay).await
}

/// What is asked for, once it is given.
async fn better<T, E, A>(ask: impl Fn() -> A) -> T
where
    A: Future<Output = Result<T, E>>,
{
    loop {
        sleep(QUIC_AGAIN).await;
        if let Ok(better) = ask().await {
            return better;
        }
    }
}

/// Counts this node as reachable at a relay.
struct At<'m> {
    mesh: &'m Mesh,
    relay: NodeId,
}

impl<'m> At<'m> {
    fn of(mesh: &'m Mesh, relay: NodeId) -> Self {
        locked(&mesh.lines.at).insert(relay);
        Self { mesh, relay }
    }
}

impl Drop for At<'_> {
    fn drop(&mut self) {
        locked(&self.mesh.lines.at).remove(&self.relay);
    }
}

/// Does what the relay calls for, until the line ends.
async fn heed(mesh: &Arc<Mesh>, connecting: &Arc<Semaphore>, line: &mut Line) {
    let mut knocks = Knocks::default();
    loop {
        match line.call().await {
            Ok(Call::Knock { port, secret }) => {
                let to = SocketAddr::new(line.relay.ip(), port);
                let knocking = mesh.clone();
                let knock = move || knocking.knocker.knock(to, &secret);
                knocks.begin(port, || mesh.tasks.spawn(again_and_again(knock)));
            }
            Ok(Call::Heard { port }) => knocks.heard(port),
            Ok(Call::ConnectBack { ticket }) => {
                connect_back(mesh, connecting, (line.relay, ticket));
            }
            Err(error) => {
                tracing::debug!(%error, "a line to a relay ended");
                return;
            }
        }
    }
}

/// The knocks of one line that go on. They end with it.
#[derive(Default)]
struct Knocks(BTreeMap<u16, AbortOnDropHandle<()>>);

impl Knocks {
    /// Knocks at a port from now on, unless too many knocks go on: a relay waits for no more.
    fn begin(&mut self, port: u16, knock: impl FnOnce() -> JoinHandle<()>) {
        self.0.retain(|_, knocking| !knocking.is_finished());
        if self.0.len() < MAX_CALLS_OF_ONE {
            self.0.insert(port, AbortOnDropHandle::new(knock()));
        }
    }

    fn heard(&mut self, port: u16) {
        self.0.remove(&port);
    }
}

async fn again_and_again(knock: impl Fn() + Send) {
    knock();
    for pause in KNOCK_AGAIN {
        sleep(pause).await;
        knock();
    }
}

/// Makes the connection that a relay calls for, which outlives the line. The relay does not wait
/// long for one that finds no place.
fn connect_back(mesh: &Arc<Mesh>, connecting: &Arc<Semaphore>, call: (SocketAddr, [u8; 32])) {
    if let Some((connecting, place)) = mesh.lines.places(connecting) {
        mesh.bulk.spawn(tcp::connect_back(mesh.clone(), call, connecting, place));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn so_many_knocks_of_one_line_go_on_at_once() {
        let knock = || tokio::spawn(std::future::pending());
        let mut knocks = Knocks::default();
        let most = u16::try_from(MAX_CALLS_OF_ONE).unwrap();
        for port in 1..=most + 3 {
            knocks.begin(port, knock);
        }
        assert_eq!(knocks.0.len(), MAX_CALLS_OF_ONE);
        knocks.heard(1);
        knocks.begin(most + 1, knock);
        assert!(knocks.0.contains_key(&(most + 1)), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_knock_that_nobody_heard_is_sent_so_often_and_no_more() {
        let (begun, sent) = (Instant::now(), Mutex::new(Vec::new()));
        again_and_again(|| locked(&sent).push(begun.elapsed().as_millis())).await;
        assert_eq!(*locked(&sent), [0, 100, 300, 700]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_on_tcp_asks_for_a_better_one_now_and_then() {
        let (begun, asked) = (Instant::now(), Mutex::new(Vec::new()));
        let third = better(async || {
            locked(&asked).push(begun.elapsed());
            if locked(&asked).len() == 3 { Ok("better") } else { Err(()) }
        });
        assert_eq!(third.await, "better");
        assert_eq!(*locked(&asked), [1, 2, 3].map(|times| QUIC_AGAIN * times));
    }

    #[test]
    fn so_many_connections_are_made_back_at_once_and_so_many_are_there() {
        let all = Arc::new(Semaphore::new(MAX_CALLS_OF_ONE + 3));
        let lines = Lines::new(all.clone());
        let _accepted = all.try_acquire_owned().unwrap();
        let [one, other] = [(); 2].map(|()| Arc::new(Semaphore::new(MAX_CALLS_OF_ONE)));
        let mut made: Vec<_> = (0..MAX_CALLS_OF_ONE).map(|_| lines.places(&one).unwrap()).collect();
        assert!(lines.places(&one).is_none(), "so many at once");
        made.push(lines.places(&other).unwrap());
        // One is made, and stays.
        let (connecting, _place) = made.swap_remove(0);
        drop(connecting);
        made.push(lines.places(&one).unwrap());
        assert!(lines.places(&other).is_none(), "so many in all");
    }
}
