//! What a relay does where everything does not fit.

use std::time::{Duration, Instant};

use rap_mesh::{Bound, Carrier, MeshLimits, RelayLimits, RelayedStatus, client::ClientSession};
use rap_proto::{Lane, bandwidth::Bandwidth};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

use crate::{
    fabric::{Fabric, PATIENCE, RELAY, open},
    targets::echo,
    traffic::{exchange, pattern},
};

/// A fabric whose relay forwards so much of one flow.
async fn bounded(carrier: Carrier, bits_per_second: u64) -> Fabric {
    let flow = Bound::new(1_000_000, bits_per_second);
    let relayed = RelayLimits { flow, ..RelayLimits::RELAY };
    let limits = MeshLimits { relayed, ..MeshLimits::default() };
    let mut fabric = Fabric::start_with(limits, Some(carrier), &[RELAY], echo().await);
    fabric.cut_direct_path();
    fabric
}

fn relayed(fabric: &Fabric) -> RelayedStatus {
    fabric.nodes[&RELAY].endpoint.status().relayed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_drops_datagrams_beyond_a_flows_bound_and_the_flow_goes_on() {
    let fabric = bounded(Carrier::Quic, 8_000_000).await;
    let session = fabric.session_on(Carrier::Quic).await;
    let sent = pattern(1_000_000);
    let received = timeout(PATIENCE, exchange(&session, Lane::Bulk, sent.clone())).await.unwrap();
    assert!(received == sent, "what was dropped is sent again");
    let status = relayed(&fabric);
    assert!(status.dropped_datagrams > 0 && status.dropped_bytes > 0, "{status:?}");
    assert!(status.bytes >= 2_000_000 && status.held_back == 0, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_does_not_read_a_stream_beyond_its_bound() {
    let fabric = bounded(Carrier::Tcp, 8_000_000).await;
    let session = fabric.session_on(Carrier::Tcp).await;
    let (sent, began) = (pattern(1_000_000), Instant::now());
    let received = timeout(PATIENCE, exchange(&session, Lane::Bulk, sent.clone())).await.unwrap();
    assert!(received == sent, "what is slow arrives whole");
    // Two megabytes in all at one in a second, less the burst.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_700), "{took:?}");
    let status = relayed(&fabric);
    assert!(status.held_back > 0 && status.dropped_datagrams == 0, "{status:?}");
}

/// Bulk that never ends, as much as gets through.
fn saturate(session: &ClientSession) -> JoinSet<()> {
    let mut flows = JoinSet::new();
    for _ in 0..4 {
        let session = session.clone();
        flows.spawn(async move {
            let (mut writer, mut reader) = open(&session, Lane::Bulk).await.split();
            let writing = async {
                let bytes = vec![7; 64 * 1024];
                while writer.write_all(&bytes).await.is_ok() {}
            };
            let reading = async {
                let mut bytes = vec![0; 64 * 1024];
                while reader.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
            };
            tokio::join!(writing, reading);
        });
    }
    flows
}

/// What one of so many keys takes, the quickest quarter aside, one after the other, with bulk that takes all
/// of what a relay's node may pass.
async fn keys_beside_bulk(carrier: Carrier, cap: &str, keys: usize) -> Duration {
    let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session_on(carrier).await;
    let mut channel = open(&session, Lane::Interactive).await;
    let _flows = saturate(&session);
    let busy = async {
        while relayed(&fabric).bytes < 4_000_000 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, busy).await.unwrap();
    fabric.plan.bandwidth = Bandwidth { node: Some(cap.parse().unwrap()), ..Bandwidth::default() };
    fabric.publish_to(RELAY);
    let before = relayed(&fabric).waits;
    let full = async {
        while relayed(&fabric).waits < before + 10 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, full).await.expect("bulk wants more than there is");
    let mut took = Vec::new();
    for _ in 0..keys {
        let began = Instant::now();
        channel.write_all(b"key").await.unwrap();
        let mut answer = [0; 3];
        timeout(PATIENCE, channel.read_exact(&mut answer)).await.unwrap().unwrap();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took[keys / 4]
}

/// In turns with bulk, each key would wait for a bulk turn on its way there and on its way back, of some
/// 14 KB: 110 ms each at this rate.
#[tokio::test(flavor = "multi_thread")]
async fn keys_pass_a_relay_whose_bulk_flows_take_all_that_it_may_pass() {
    let took = keys_beside_bulk(Carrier::Quic, "1mbit", 20).await;
    assert!(took < Duration::from_millis(110), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_pass_a_relay_whose_streams_take_all_that_it_may_pass() {
    let took = keys_beside_bulk(Carrier::Tcp, "1mbit", 20).await;
    assert!(took < Duration::from_millis(110), "{took:?}");
}
