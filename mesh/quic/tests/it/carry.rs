//! The connection lives, the path changes: relays die, direct paths come and go, and what a lane
//! carries arrives whole.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rap_mesh::{
    Carrier, LaneStatus, Path, SwitchReason,
    client::{Channel, ClientSession},
};
use rap_proto::Lane;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UdpSocket,
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, open},
    targets::echo,
};

/// The numbers that a transfer writes at once.
const PIECE: u64 = 8 * 1024;
/// The numbers of a part of a transfer: 16 MiB each way.
pub(crate) const PART: u64 = 2 * 1024 * 1024;
/// The pause after each: several transfers at once leave the machine some time.
const PACE: Duration = Duration::from_millis(4);
/// How often the interactive echo sends.
const ECHO_EVERY: Duration = Duration::from_millis(10);
/// The longest gap of the echo when a relay is killed beside a warm one: some 0.6 s by the constants, and
/// what a busy machine adds. Who waits for the end of a silent connection waits for 4 s and more.
const MOST_GAP: Duration = Duration::from_secs(3);

/// A cluster whose lanes go over one relay, which dies with the runtime.
fn over_a_mortal_relay(target: SocketAddr) -> (Fabric, Runtime) {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], target);
    let mortal = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(RELAY, 55, &mortal);
    fabric.cut_direct_path();
    (fabric, mortal)
}

/// A second relay, which every lane keeps warm from now on.
async fn add_warm_relay(fabric: &mut Fabric, lanes: usize) {
    let roles = fabric.plan.roles[&RELAY].clone();
    fabric.plan.roles.insert(RELAY_2, roles);
    fabric.add_node(RELAY_2, 56);
    let relay = fabric.nodes[&RELAY_2].endpoint.clone();
    until("the second relay is warm", || relay.status().relayed_flows == lanes).await;
}

pub(crate) async fn until(what: &str, check: impl Fn() -> bool) {
    until_so(what, check).await;
}

/// The same, where looking changes something.
pub(crate) async fn until_so(what: &str, check: impl FnMut() -> bool) {
    until_within(PATIENCE, what, check).await;
}

/// The same, for what takes its time.
pub(crate) async fn until_within(patience: Duration, what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < patience, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn lane(fabric: &Fabric, which: Lane) -> LaneStatus {
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    lanes.into_iter().find(|lane| lane.lane == which).expect("the lane lives")
}

async fn ping(session: &ClientSession) {
    let mut channel = open(session, Lane::Interactive).await;
    channel.write_u8(1).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 1);
}

/// An echo on the bulk lane that goes on by itself until it is told to end: numbers, each one
/// more than the one before, so that nothing is lost, doubled or moved unnoticed.
pub(crate) struct Transfer {
    over: rap_watch::Sender<bool>,
    progress: rap_watch::Receiver<u64>,
    written: JoinHandle<u64>,
    read: JoinHandle<u64>,
}

impl Transfer {
    pub(crate) async fn begin(session: &ClientSession) -> Self {
        Self::begin_on(session, Lane::Bulk).await
    }

    pub(crate) async fn begin_on(session: &ClientSession, lane: Lane) -> Self {
        Self::begin_with(open(session, lane).await)
    }

    pub(crate) fn begin_with(channel: Channel) -> Self {
        let (mut writer, reader) = channel.split();
        let (over, is_over) = rap_watch::channel(false);
        let written = tokio::spawn(async move {
            let mut next = 0;
            while !*is_over.borrow() {
                let numbers: Vec<u8> = (next..next + PIECE).flat_map(u64::to_be_bytes).collect();
                writer.write_all(&numbers).await.unwrap();
                next += PIECE;
                tokio::time::sleep(PACE).await;
            }
            writer.shutdown().await.unwrap();
            next
        });
        let (arrived, progress) = rap_watch::channel(0);
        let read = tokio::spawn(async move {
            let mut reader = BufReader::new(reader);
            let mut count = 0;
            while let Ok(number) = reader.read_u64().await {
                assert_eq!(number, count, "every number once, in order");
                count += 1;
                if count % PIECE == 0 {
                    arrived.send_replace(count);
                }
            }
            count
        });
        Self { over, progress, written, read }
    }

    /// Waits until so many more numbers came back.
    pub(crate) async fn goes_on(&mut self, numbers: u64) {
        let goal = *self.progress.borrow() + numbers;
        let reached = self.progress.wait_for(|arrived| *arrived >= goal);
        timeout(PATIENCE, reached).await.unwrap().expect("the transfer goes on");
    }

    /// Ends it; everything that was written came back.
    pub(crate) async fn ends_whole(self) {
        self.over.send_replace(true);
        let written = timeout(PATIENCE, self.written).await.unwrap().unwrap();
        assert_eq!(timeout(PATIENCE, self.read).await.unwrap().unwrap(), written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_survives_the_death_of_its_relay() {
    let (mut fabric, mortal) = over_a_mortal_relay(echo().await);
    let session = fabric.session().await;
    let mut transfer = Transfer::begin(&session).await;
    add_warm_relay(&mut fabric, 1).await;
    transfer.goes_on(PART).await;
    mortal.shutdown_background();
    transfer.goes_on(PART).await;
    transfer.ends_whole().await;
    let lane = lane(&fabric, Lane::Bulk);
    assert_eq!(lane.path, Path::Relayed { relay: RELAY_2 });
    assert!(lane.switches >= 1 && lane.recovery.is_none(), "{lane:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_hardly_stops_when_its_relay_dies_beside_a_warm_one() {
    let (mut fabric, mortal) = over_a_mortal_relay(echo().await);
    let session = fabric.session().await;
    let (mut writer, mut reader) = open(&session, Lane::Interactive).await.split();
    let (stop, mut stopped) = rap_watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut sent = 0_u32;
        while !*stopped.borrow_and_update() {
            writer.write_u32(sent).await.unwrap();
            sent += 1;
            tokio::time::sleep(ECHO_EVERY).await;
        }
        writer.shutdown().await.unwrap();
        sent
    });
    let (heard, hearing) = rap_watch::channel(0);
    let reading = tokio::spawn(async move {
        let (mut last, mut longest, mut count) = (Instant::now(), Duration::ZERO, 0_u32);
        while let Ok(number) = reader.read_u32().await {
            assert_eq!(number, count, "in order, once");
            count += 1;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            heard.send_replace(count);
        }
        (count, longest)
    });
    let beyond = async |count: u32| {
        let reached = async { hearing.clone().wait_for(|heard| *heard >= count).await.map(drop) };
        timeout(PATIENCE, reached).await.unwrap().unwrap();
    };
    beyond(20).await;
    add_warm_relay(&mut fabric, 1).await;
    let before = *hearing.borrow();
    beyond(before + 50).await;
    mortal.shutdown_background();
    let at_death = *hearing.borrow();
    beyond(at_death + 200).await;
    stop.send_replace(true);
    let sent = writing.await.unwrap();
    let (received, longest) = reading.await.unwrap();
    assert_eq!(received, sent, "nothing was lost");
    println!("longest gap of the echo: {longest:?}");
    assert!(longest < MOST_GAP, "{longest:?}");
    assert_eq!(lane(&fabric, Lane::Interactive).path, Path::Relayed { relay: RELAY_2 });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_warm_relay_a_new_one_is_found() {
    let (mut fabric, mortal) = over_a_mortal_relay(echo().await);
    let session = fabric.session().await;
    let mut old = open(&session, Lane::Interactive).await;
    old.write_u8(1).await.unwrap();
    assert_eq!(old.read_u8().await.unwrap(), 1);
    mortal.shutdown_background();
    old.write_u8(2).await.unwrap();
    let roles = fabric.plan.roles[&RELAY].clone();
    fabric.plan.roles.insert(RELAY_2, roles);
    fabric.add_node(RELAY_2, 56);
    assert_eq!(timeout(PATIENCE, old.read_u8()).await.unwrap().unwrap(), 2);
    ping(&session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_leaves_hands_its_lanes_over_at_once() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut old = open(&session, Lane::Interactive).await;
    ping(&session).await;
    add_warm_relay(&mut fabric, 1).await;
    let warm = || lane(&fabric, Lane::Interactive);
    assert_eq!(warm().path, Path::Relayed { relay: RELAY });
    fabric.nodes[&RELAY].endpoint.shut_down(Duration::from_secs(1)).await;
    until("the lane goes over the other", || warm().switches == 1).await;
    assert_eq!(warm().path, Path::Relayed { relay: RELAY_2 });
    assert_eq!(warm().last_switch, Some(SwitchReason::Gone));
    old.write_u8(1).await.unwrap();
    assert_eq!(timeout(PATIENCE, old.read_u8()).await.unwrap().unwrap(), 1);
}

/// Forwards datagrams to `egress` and back, for as long as its task runs. Each sender has a port of
/// its own there, as behind a NAT: otherwise the lane that sends most hears what is meant for the
/// others, answers to their probes among it.
pub(crate) async fn proxy(egress: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    proxy_on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), egress)
}

/// The same at a socket that is there already.
pub(crate) fn proxy_on(outside: UdpSocket, egress: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let outside = Arc::new(outside);
    let address = outside.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut senders: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        // They end with this task.
        let mut backwards = JoinSet::new();
        let mut up = vec![0; 65_536];
        loop {
            let (length, from) = outside.recv_from(&mut up).await.unwrap();
            let known = senders.get(&from).cloned();
            let inside = match known {
                Some(inside) => inside,
                None => {
                    let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                    inside.connect(egress).await.unwrap();
                    let inside = Arc::new(inside);
                    backwards.spawn(pass_back(inside.clone(), outside.clone(), from));
                    senders.insert(from, inside.clone());
                    inside
                }
            };
            let _ = inside.send(&up[..length]).await;
        }
    });
    (address, task)
}

async fn pass_back(inside: Arc<UdpSocket>, outside: Arc<UdpSocket>, to: SocketAddr) {
    let mut down = vec![0; 65_536];
    // An egress that is gone ends it.
    while let Ok(length) = inside.recv(&mut down).await {
        let _ = outside.send_to(&down[..length], to).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_moves_to_a_direct_path_under_load_and_back_when_that_is_lost() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    ping(&session).await;
    let (address, shortcut) = proxy(fabric.address(EGRESS)).await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PIECE).await;
    assert_eq!(lane(&fabric, Lane::Bulk).path, Path::Relayed { relay: RELAY });
    fabric.plan.addresses.insert((ENTRY, EGRESS), address);
    fabric.publish();
    let direct = Path::Direct { address };
    until("the lanes are direct", || {
        [Lane::Bulk, Lane::Interactive].into_iter().all(|one| lane(&fabric, one).path == direct)
    })
    .await;
    let relay = fabric.nodes[&RELAY].endpoint.clone();
    until("the relay is left", || relay.status().relayed_flows == 0).await;
    transfer.goes_on(PIECE).await;
    shortcut.abort();
    until("the lane is relayed again", || {
        lane(&fabric, Lane::Bulk).path == Path::Relayed { relay: RELAY }
    })
    .await;
    transfer.goes_on(PIECE).await;
    transfer.ends_whole().await;
    assert!(lane(&fabric, Lane::Bulk).switches >= 2);
    ping(&session).await;
}
