//! Bytes through the fabric.

use rap_mesh::{
    Carrier, FlowCounts, FlowEnd, Path,
    client::{Channel, ClientSession},
};
use rap_proto::{
    Digest, Lane,
    observation::{EndReason, Observation, Vantage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    carry::until,
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, RELAY, SESSION, open, start_seen, stream},
    targets::{counter, echo},
};

/// Sends `bytes`, closes that direction, and reads everything that comes back.
pub(crate) async fn exchange(session: &ClientSession, lane: Lane, bytes: Vec<u8>) -> Vec<u8> {
    exchange_on(open(session, lane).await, bytes).await
}

/// The same on a channel that is open.
pub(crate) async fn exchange_on(channel: Channel, bytes: Vec<u8>) -> Vec<u8> {
    let (mut writer, mut reader) = channel.split();
    let writing = async move {
        writer.write_all(&bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (read, ()) = tokio::join!(reader.read_to_end(&mut received), writing);
    read.unwrap();
    received
}

/// Bytes that no two positions share.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u64;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()
    });
    next.flatten().take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_the_session_is_accounted() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    assert_eq!(exchange(&session, Lane::Interactive, b"hello".to_vec()).await, b"hello");
    assert_eq!(exchange(&session, Lane::Bulk, b"world!".to_vec()).await, b"world!");
    for (node, from) in [(EGRESS, Vantage::Egress), (ENTRY, Vantage::Entry)] {
        let started = fabric.observed(node).await;
        assert_eq!(started, start_seen(from));
    }
    session.close().await;
    let reason = EndReason::ClientClosed;
    let ended =
        Observation::SessionEnded { session: SESSION, reason, bytes_up: 11, bytes_down: 11 };
    assert_eq!(fabric.observed(ENTRY).await, ended, "it started once");
    assert_eq!(fabric.nodes[&ENTRY].endpoint.status().entry_sessions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_and_their_bytes_are_counted_by_lane_at_both_ends() {
    let fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    exchange(&session, Lane::Interactive, b"hello".to_vec()).await;
    let held = open(&session, Lane::Bulk).await;
    let over = FlowCounts { open: 0, begun: 1, up: 5, down: 5 };
    let begun = FlowCounts { open: 1, begun: 1, up: 0, down: 0 };
    for (node, end) in [(ENTRY, FlowEnd::Entry), (EGRESS, FlowEnd::Egress)] {
        until("they are counted", || {
            let flows = fabric.nodes[&node].endpoint.status().counted.flows;
            flows == [((end, Lane::Interactive), over), ((end, Lane::Bulk), begun)].into()
        })
        .await;
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lane_is_a_connection_of_its_own_and_direct_where_that_works() {
    let fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    let session = fabric.session().await;
    for lane in [Lane::Interactive, Lane::Media, Lane::Bulk, Lane::Interactive] {
        exchange(&session, lane, b"x".to_vec()).await;
    }
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    assert_eq!(lanes.len(), 3, "{lanes:?}");
    let direct = Path::Direct { address: fabric.address(EGRESS) };
    assert!(lanes.iter().all(|lane| lane.egress == EGRESS && lane.path == direct), "{lanes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_direction_closes_and_the_other_goes_on() {
    let fabric = Fabric::start(&[], counter().await);
    let session = fabric.session().await;
    let answer = exchange(&session, Lane::Interactive, vec![7; 100_000]).await;
    assert_eq!(answer, b"100000", "the target answered after our end reached it");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_channels_run_in_parallel() {
    let fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20_usize {
        let session = session.clone();
        tasks.spawn(async move {
            let bytes = pattern(50_000 + number);
            assert_eq!(exchange(&session, Lane::Interactive, bytes.clone()).await, bytes);
        });
    }
    timeout(PATIENCE, tasks.join_all()).await.unwrap();
    assert_eq!(fabric.nodes[&ENTRY].endpoint.status().lanes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_pass_one_hop_unchanged() {
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session_on(Carrier::Quic).await;
    let sent = pattern(64 * 1024 * 1024);
    let digest = Digest::of(&sent);
    let received = exchange(&session, Lane::Bulk, sent).await;
    assert_eq!(Digest::of(&received), digest);
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    assert!(lanes.iter().all(|lane| lane.path == Path::Relayed { relay: RELAY }), "{lanes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_context_reaches_the_dialer_when_it_is_one() {
    let fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for text in [trace, "forged\r\nheader: 1"] {
        let mut request = stream(Lane::Interactive);
        request.traceparent = Some(text.to_owned());
        session.open(request).await.unwrap();
    }
    let requests = fabric.dialer.requests.lock().unwrap();
    let seen: Vec<_> = requests.iter().map(|request| request.traceparent.as_deref()).collect();
    assert_eq!(seen, [Some(trace), None]);
}

/// Bulk that never pauses takes its threads for as long as it likes; here they stand still.
#[tokio::test(flavor = "multi_thread")]
async fn keys_pass_nodes_whose_bulk_takes_all_of_its_threads() {
    let bulk = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let bulk = bulk.unwrap();
    let mut fabric = Fabric::start(&[], echo().await);
    for (node, seed) in [(ENTRY, 61), (EGRESS, 62)] {
        fabric.move_bulk(node, seed, &bulk);
    }
    let (release, is_taken) = take_thread(&bulk);
    is_taken.await.unwrap();
    let session = fabric.session_on(Carrier::Quic).await;
    let keys = exchange(&session, Lane::Interactive, b"keys".to_vec());
    assert_eq!(timeout(PATIENCE, keys).await.unwrap(), b"keys");
    drop(release);
    bulk.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relays_keys_and_its_bulk_have_threads_of_their_own() {
    let bulk = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let bulk = bulk.unwrap();
    let mut fabric = Fabric::start_on(Carrier::Quic, &[RELAY], echo().await);
    fabric.cut_direct_path();
    fabric.move_bulk(RELAY, 63, &bulk);
    let (release, is_taken) = take_thread(&bulk);
    is_taken.await.unwrap();
    let session = fabric.session().await;
    let keys = exchange(&session, Lane::Interactive, b"keys".to_vec());
    let file = exchange(&session, Lane::Bulk, b"file".to_vec());
    tokio::pin!(file);
    tokio::select! {
        biased;
        _ = &mut file => panic!("the relay's bulk runs elsewhere"),
        keys = timeout(PATIENCE, keys) => assert_eq!(keys.unwrap(), b"keys"),
    }
    drop(release);
    assert_eq!(timeout(PATIENCE, file).await.unwrap(), b"file");
    bulk.shutdown_background();
}

/// Has the one thread of a runtime stand still until the first part is dropped; the other says when.
fn take_thread(
    runtime: &tokio::runtime::Runtime,
) -> (std::sync::mpsc::Sender<()>, tokio::sync::oneshot::Receiver<()>) {
    let (taken, is_taken) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    runtime.spawn(async move {
        taken.send(()).unwrap();
        // It ends when the other side is dropped.
        let _ = released.recv();
    });
    (release, is_taken)
}
