//! Flows on TCP that leave a path which still carries them for a better one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rap_mesh::{
    Carrier, MeshLimits, MoveStatus,
    client::{Channel, ClientSession},
};
use rap_mesh_core::moves::{DRAIN_WITHIN, FIRST_REST};
use rap_proto::{Digest, Lane, NodeId, observation::Vantage};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task::JoinHandle,
    time::timeout,
};

use crate::{
    carry::{PART, Transfer, until, until_within},
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, RELAY, RELAY_2, now, open, start_seen, stream},
    targets::{echo, serve},
    traffic::pattern,
};

/// More than all windows and buffers between two ends hold.
const MORE_THAN_FITS: usize = 64 * 1024 * 1024;

/// Whatever is worth moving was tried by then.
const TRIED_BY: Duration = Duration::from_secs(6);
/// By then it has moved, also when what was tried first failed on a busy machine, or was the slower one
/// there, three times in a row: each rest is twice the one before.
pub(crate) const MOVED_BY: Duration = PATIENCE.saturating_add(FIRST_REST.saturating_mul(1 + 2 + 4));

/// The relay that carries the flow, and the other, once an attempt that lost is given back.
pub(crate) async fn carrying(fabric: &Fabric) -> (NodeId, NodeId) {
    let one = || relayed(fabric, RELAY) + relayed(fabric, RELAY_2) == 1;
    until("one relay carries it", one).await;
    if relayed(fabric, RELAY) == 1 { (RELAY, RELAY_2) } else { (RELAY_2, RELAY) }
}

fn moves(fabric: &Fabric) -> MoveStatus {
    fabric.nodes[&ENTRY].endpoint.status().tcp_moves
}

fn relayed(fabric: &Fabric, relay: NodeId) -> usize {
    fabric.nodes[&relay].endpoint.status().relayed_flows
}

/// Whose the flow's end is at which its way begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ordinary,
    Through,
}

impl Kind {
    async fn open(self, session: &ClientSession) -> Channel {
        match self {
            Self::Ordinary => open(session, Lane::Bulk).await,
            Self::Through => {
                let opening = session.open_lasting(stream(Lane::Bulk));
                timeout(PATIENCE, opening).await.unwrap().unwrap()
            }
        }
    }

    async fn transfer(self, session: &ClientSession) -> Transfer {
        Transfer::begin_with(self.open(session).await)
    }
}

/// A cluster whose entry reaches the egress over `relays` alone, on TCP.
async fn relayed_fabric(relays: &[NodeId], kind: Kind) -> (Fabric, ClientSession) {
    let mut fabric = Fabric::start_on(Carrier::Tcp, relays, echo().await);
    fabric.through = kind == Kind::Through;
    fabric.cut_direct_path();
    let session = fabric.session().await;
    (fabric, session)
}

fn open_direct_path(fabric: &mut Fabric, address: SocketAddr) {
    fabric.plan.addresses.insert((ENTRY, EGRESS), address);
    fabric.publish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_moves_to_a_direct_path_and_its_relay_is_left() {
    a_transfer_moves_to_a_direct_path_and_its_relay_is_left_of(Kind::Ordinary).await;
    a_transfer_moves_to_a_direct_path_and_its_relay_is_left_of(Kind::Through).await;
}

async fn a_transfer_moves_to_a_direct_path_and_its_relay_is_left_of(kind: Kind) {
    let (mut fabric, session) = relayed_fabric(&[RELAY], kind).await;
    let mut transfer = kind.transfer(&session).await;
    transfer.goes_on(PART).await;
    assert_eq!((relayed(&fabric, RELAY), moves(&fabric).relayed), (1, 1));
    let egress = fabric.address(EGRESS);
    open_direct_path(&mut fabric, egress);
    until_within(MOVED_BY, "the flow moved", || moves(&fabric).moved == 1).await;
    until("the relay is left", || relayed(&fabric, RELAY) == 0).await;
    transfer.goes_on(PART).await;
    let MoveStatus { relayed, moved, stayed, trials } = moves(&fabric);
    assert_eq!((relayed, moved, stayed), (0, 1, 0));
    assert!(trials >= 3, "{trials}");
    transfer.ends_whole().await;
    assert_eq!(fabric.observation(EGRESS).await, start_seen(Vantage::Egress));
    let told = fabric.nodes.get_mut(&EGRESS).unwrap().events.try_recv();
    assert!(told.is_err(), "a trial is no refusal: {told:?}");
}

/// How long bytes are on a long way, in each direction: much longer than they take here otherwise.
const LONG_WAY: Duration = Duration::from_millis(150);

/// A way to the egress that is long until it is told otherwise, and how many connections came.
async fn long_way(egress: SocketAddr) -> (SocketAddr, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (is_long, came) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let kept = (is_long.clone(), came.clone());
    let address = serve(move |mut entry| {
        let (is_long, came) = kept.clone();
        async move {
            came.fetch_add(1, Ordering::SeqCst);
            let mut egress = TcpStream::connect(egress).await.unwrap();
            let (from_entry, to_entry) = entry.split();
            let (from_egress, to_egress) = egress.split();
            tokio::join!(
                passes(from_entry, to_egress, &is_long),
                passes(from_egress, to_entry, &is_long)
            );
        }
    })
    .await;
    (address, is_long, came)
}

async fn passes(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, is_long: &AtomicBool) {
    let mut room = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut room).await {
        if is_long.load(Ordering::SeqCst) {
            tokio::time::sleep(LONG_WAY).await;
        }
        if to.write_all(&room[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_moves_to_no_direct_path_that_takes_much_longer_than_its_relay() {
    let (mut fabric, session) = relayed_fabric(&[RELAY], Kind::Ordinary).await;
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART / 16).await;
    let (address, is_long, came) = long_way(fabric.address(EGRESS)).await;
    open_direct_path(&mut fabric, address);
    // It is tried anew after a rest: what it came to before did not count. One that came after the first
    // trials may be the flow's own.
    until_within(MOVED_BY, "it is tried again", || came.load(Ordering::SeqCst) > TRIALS + 1).await;
    // The relay may have a trial on it, too.
    assert_eq!(moves(&fabric).moved, 0);
    is_long.store(false, Ordering::SeqCst);
    until_within(MOVED_BY, "the flow moved", || moves(&fabric).moved == 1).await;
    until("the relay is left", || relayed(&fabric, RELAY) == 0).await;
    transfer.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_leaves_a_relay_before_it_is_cut() {
    a_flow_leaves_a_relay_before_it_is_cut_of(Kind::Ordinary).await;
    a_flow_leaves_a_relay_before_it_is_cut_of(Kind::Through).await;
}

async fn a_flow_leaves_a_relay_before_it_is_cut_of(kind: Kind) {
    let (mut fabric, session) = relayed_fabric(&[RELAY, RELAY_2], kind).await;
    let mut transfer = kind.transfer(&session).await;
    transfer.goes_on(PART).await;
    let (first, second) = carrying(&fabric).await;
    // The relay itself does not know yet, and carries the flow for as long as it is asked to.
    fabric.plan.roles.remove(&first);
    fabric.publish_to(ENTRY);
    until("the other relay has it", || relayed(&fabric, second) == 1).await;
    until("the first is left", || relayed(&fabric, first) == 0).await;
    // The entry counts it after its old connection is gone.
    until("the move is counted", || moves(&fabric).moved == 1).await;
    assert_eq!(moves(&fabric).stayed, 0);
    fabric.publish();
    transfer.goes_on(PART).await;
    transfer.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_leaves_a_relay_that_drains_for_another_one() {
    a_flow_leaves_a_relay_that_drains_for_another_one_of(Kind::Ordinary).await;
    a_flow_leaves_a_relay_that_drains_for_another_one_of(Kind::Through).await;
}

async fn a_flow_leaves_a_relay_that_drains_for_another_one_of(kind: Kind) {
    let (mut fabric, session) = relayed_fabric(&[RELAY, RELAY_2], kind).await;
    let mut transfer = kind.transfer(&session).await;
    transfer.goes_on(PART).await;
    let (first, second) = carrying(&fabric).await;
    fabric.plan.draining = [first].into();
    fabric.publish();
    until_within(DRAIN_WITHIN + PATIENCE, "the other relay has it", || {
        relayed(&fabric, second) == 1
    })
    .await;
    until("the first is left", || relayed(&fabric, first) == 0).await;
    // A slow machine can take more than one try, and the flow runs on meanwhile.
    until("the move is counted", || moves(&fabric).moved == 1).await;
    transfer.goes_on(PART).await;
    transfer.ends_whole().await;
}

/// Where a way to the egress swallows what follows a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swallows {
    /// What the entry asks for.
    Asking,
    /// What the egress answers: it has moved the flow by then.
    Answer,
}

/// A way that passes connections which only shake hands, as trials do, and swallows part of the
/// first that says more; later ones are refused.
#[derive(Default)]
struct Trap {
    /// The most that a handshake took of an entry.
    handshake: AtomicU64,
    came: AtomicUsize,
    sprung: AtomicBool,
}

/// So many trials pass before a flow moves.
const TRIALS: usize = 3;
/// A request is longer than this, and handshakes differ by less.
const SLACK: u64 = 64;

async fn trap(egress: SocketAddr, swallows: Swallows) -> (SocketAddr, Arc<Trap>) {
    let trap = Arc::new(Trap::default());
    let kept = trap.clone();
    let address = serve(move |mut entry| {
        let trap = kept.clone();
        async move {
            if trap.sprung.load(Ordering::SeqCst) {
                return;
            }
            let is_trial = trap.came.fetch_add(1, Ordering::SeqCst) < TRIALS;
            let mut egress = TcpStream::connect(egress).await.unwrap();
            let (from_entry, to_entry) = entry.split();
            let (from_egress, to_egress) = egress.split();
            trap.pass(is_trial, swallows, (from_entry, to_egress), (from_egress, to_entry)).await;
        }
    })
    .await;
    (address, trap)
}

impl Trap {
    async fn pass(
        &self,
        is_trial: bool,
        swallows: Swallows,
        (mut from_entry, mut to_egress): (ReadHalf<'_>, WriteHalf<'_>),
        (mut from_egress, mut to_entry): (ReadHalf<'_>, WriteHalf<'_>),
    ) {
        let up = async {
            let (mut passed, mut room) = (0, vec![0; 16 * 1024]);
            while let Ok(length @ 1..) = from_entry.read(&mut room).await {
                passed += length as u64;
                if is_trial {
                    self.handshake.fetch_max(passed, Ordering::SeqCst);
                } else if passed > self.handshake.load(Ordering::SeqCst) + SLACK {
                    self.sprung.store(true, Ordering::SeqCst);
                    if swallows == Swallows::Asking {
                        continue;
                    }
                }
                if to_egress.write_all(&room[..length]).await.is_err() {
                    return;
                }
            }
        };
        let down = async {
            let mut room = vec![0; 16 * 1024];
            while let Ok(length @ 1..) = from_egress.read(&mut room).await {
                let swallowed = !is_trial && self.sprung.load(Ordering::SeqCst);
                if !swallowed && to_entry.write_all(&room[..length]).await.is_err() {
                    return;
                }
            }
            if !is_trial {
                // The entry is left without a word.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_asking_is_lost_leaves_the_flow_where_it_is() {
    a_move_whose_asking_is_lost_leaves_the_flow_where_it_is_of(Kind::Ordinary).await;
    a_move_whose_asking_is_lost_leaves_the_flow_where_it_is_of(Kind::Through).await;
}

async fn a_move_whose_asking_is_lost_leaves_the_flow_where_it_is_of(kind: Kind) {
    let (mut fabric, session) = relayed_fabric(&[RELAY], kind).await;
    let mut transfer = kind.transfer(&session).await;
    let (address, trap) = trap(fabric.address(EGRESS), Swallows::Asking).await;
    open_direct_path(&mut fabric, address);
    until_within(MOVED_BY, "the flow is asked for", || trap.sprung.load(Ordering::SeqCst)).await;
    transfer.goes_on(PART).await;
    until("the move is given up", || moves(&fabric).stayed == 1).await;
    transfer.goes_on(PART).await;
    assert_eq!((moves(&fabric).moved, relayed(&fabric, RELAY)), (0, 1));
    transfer.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_answer_is_lost_is_a_loss_and_the_flow_goes_on_as_after_any() {
    a_move_whose_answer_is_lost_is_a_loss_and_the_flow_goes_on_as_after_any_of(Kind::Ordinary)
        .await;
    a_move_whose_answer_is_lost_is_a_loss_and_the_flow_goes_on_as_after_any_of(Kind::Through).await;
}

async fn a_move_whose_answer_is_lost_is_a_loss_and_the_flow_goes_on_as_after_any_of(kind: Kind) {
    let (mut fabric, session) = relayed_fabric(&[RELAY], kind).await;
    let mut transfer = kind.transfer(&session).await;
    let (address, trap) = trap(fabric.address(EGRESS), Swallows::Answer).await;
    open_direct_path(&mut fabric, address);
    until_within(MOVED_BY, "the flow is asked for", || trap.sprung.load(Ordering::SeqCst)).await;
    if kind == Kind::Ordinary {
        until("the move is given up", || moves(&fabric).stayed == 1).await;
        assert_eq!(moves(&fabric).moved, 0);
    }
    transfer.goes_on(PART).await;
    // Where only the client hears the answer, nobody else knows that it did not come.
    assert_eq!((moves(&fabric).moved + moves(&fabric).stayed, relayed(&fabric, RELAY)), (1, 1));
    transfer.ends_whole().await;
}

/// An echo whose client writes as much as it can, and reads nothing before it is told to.
async fn blocked(
    session: &ClientSession,
    kind: Kind,
) -> (JoinHandle<()>, impl AsyncRead + Unpin + use<>) {
    let (mut writer, reader) = kind.open(session).await.split();
    let writing = tokio::spawn(async move {
        writer.write_all(&pattern(MORE_THAN_FITS)).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    (writing, reader)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_full_in_both_directions_moves_and_nothing_is_lost_or_doubled() {
    a_flow_that_is_full_in_both_directions_moves_and_nothing_is_lost_or_doubled_of(Kind::Ordinary)
        .await;
    a_flow_that_is_full_in_both_directions_moves_and_nothing_is_lost_or_doubled_of(Kind::Through)
        .await;
}

async fn a_flow_that_is_full_in_both_directions_moves_and_nothing_is_lost_or_doubled_of(
    kind: Kind,
) {
    let (mut fabric, session) = relayed_fabric(&[RELAY], kind).await;
    let (writing, mut reader) = blocked(&session, kind).await;
    let egress = fabric.address(EGRESS);
    open_direct_path(&mut fabric, egress);
    until_within(MOVED_BY, "the flow moved", || moves(&fabric).moved == 1).await;
    until("the relay is left", || relayed(&fabric, RELAY) == 0).await;
    assert!(!writing.is_finished(), "it is full");
    let mut received = Vec::new();
    timeout(2 * PATIENCE, reader.read_to_end(&mut received)).await.unwrap().unwrap();
    assert_eq!(Digest::of(&received), Digest::of(&pattern(MORE_THAN_FITS)));
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_token_has_expired_is_left_alone_until_its_client_shows_another() {
    let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let mut claims = fabric.claims();
    claims.expires_at = now() + Duration::from_secs(2);
    let session = fabric.connect(&claims).await.unwrap();
    let mut transfer = Transfer::begin(&session).await;
    transfer.goes_on(PART / 16).await;
    until("the token has expired", || now() > claims.expires_at).await;
    let egress = fabric.address(EGRESS);
    open_direct_path(&mut fabric, egress);
    tokio::time::sleep(TRIED_BY).await;
    let MoveStatus { relayed, moved, stayed, trials } = moves(&fabric);
    assert_eq!((relayed, moved, stayed, trials), (1, 0, 0, 0), "nothing is tried");
    session.refresh(fabric.token(&fabric.claims())).await.unwrap();
    until_within(MOVED_BY, "the flow moved", || moves(&fabric).moved == 1).await;
    transfer.goes_on(PART / 16).await;
    transfer.ends_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_move_though_neither_side_may_keep_any_without_a_connection() {
    let limits = MeshLimits { detached_flows: 0, kept_bytes: 0, ..MeshLimits::default() };
    let mut fabric = Fabric::start_with(limits, Some(Carrier::Tcp), &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut transfers = Vec::new();
    for _ in 0..3 {
        transfers.push(Transfer::begin(&session).await);
    }
    let egress = fabric.address(EGRESS);
    open_direct_path(&mut fabric, egress);
    until_within(MOVED_BY, "all of them moved", || moves(&fabric).moved == 3).await;
    until("the relay is left", || relayed(&fabric, RELAY) == 0).await;
    for mut transfer in transfers {
        transfer.goes_on(PART / 16).await;
        transfer.ends_whole().await;
    }
}
