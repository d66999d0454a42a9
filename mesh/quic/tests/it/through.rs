//! Through flows: between client and egress, over sockets that the entry joins.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rap_mesh::{
    Carrier,
    client::{Channel, ClientSession, end_reason},
};
use rap_proto::{
    Digest, Lane, NodeId, NodeRole,
    observation::{EndReason, Observation, Vantage},
    wire::PREAMBLE,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    carry::{PART, Transfer, until},
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, RELAY, client_key, own, start_seen, stream},
    resume::over_brittle_connections,
    targets::{echo, serve},
    traffic::{exchange_on, pattern},
};

const ENTRY_2: NodeId = NodeId::from_u128(0xe4);

/// A session whose bulk is on through flows.
async fn session(fabric: &mut Fabric) -> ClientSession {
    fabric.through = true;
    fabric.session().await
}

/// A bulk channel that has carried bytes.
async fn held(session: &ClientSession) -> Channel {
    let opening = session.open_lasting(stream(Lane::Bulk));
    let mut channel = timeout(PATIENCE, opening).await.unwrap().unwrap();
    assert_eq!(answer(&mut channel, 1).await.unwrap(), 1);
    channel
}

async fn answer(channel: &mut Channel, byte: u8) -> std::io::Result<u8> {
    let asking = async {
        channel.write_u8(byte).await?;
        channel.flush().await?;
        channel.read_u8().await
    };
    timeout(PATIENCE, asking).await.expect("it goes on or is over")
}

fn through_flows(fabric: &Fabric, entry: NodeId) -> usize {
    fabric.nodes[&entry].endpoint.status().through_flows
}

/// What went up over each connection to some address.
type Taken = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// A way to `target` that keeps what goes up.
async fn tapped(target: SocketAddr) -> (SocketAddr, Taken) {
    let taken = Taken::default();
    let tap = taken.clone();
    let address = serve(move |stream| {
        let heard = Arc::new(Mutex::new(Vec::new()));
        tap.lock().unwrap().push(heard.clone());
        async move {
            let Ok(target) = TcpStream::connect(target).await else { return };
            let ((mut from, mut to), (mut back, mut on)) =
                (stream.into_split(), target.into_split());
            let down = tokio::spawn(async move { tokio::io::copy(&mut back, &mut to).await });
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece).await {
                heard.lock().unwrap().extend_from_slice(&piece[..count]);
                if on.write_all(&piece[..count]).await.is_err() {
                    break;
                }
            }
            let _ = on.shutdown().await;
            let _ = down.await;
        }
    })
    .await;
    (address, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_entry_passes_on_is_the_ciphertext_of_its_client() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.through = true;
    let (at_entry, from_client) = tapped(fabric.address(ENTRY)).await;
    let (at_egress, from_entry) = tapped(fabric.address(EGRESS)).await;
    fabric.plan.addresses.insert((ENTRY, EGRESS), at_egress);
    fabric.publish();
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(at_entry, token, client_key()).await.unwrap();
    assert_eq!(session.carrier(), Carrier::Tcp, "only that is tapped");
    let mut channel = held(&session).await;
    assert_eq!(through_flows(&fabric, ENTRY), 1);
    channel.write_all(b"a word that nobody between the two reads").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(PATIENCE, channel.read_to_end(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, b"a word that nobody between the two reads");
    let passed =
        from_entry.lock().unwrap().iter().map(|it| it.lock().unwrap().clone()).collect::<Vec<_>>();
    let [passed] = &passed[..] else { panic!("{} connections to the egress", passed.len()) };
    let sent =
        from_client.lock().unwrap().iter().map(|it| it.lock().unwrap().clone()).collect::<Vec<_>>();
    let joined = sent.iter().find(|sent| sent.starts_with(PREAMBLE)).expect("it brought a ticket");
    assert!(joined[PREAMBLE.len() + 32..].starts_with(passed), "as the client sent them");
    assert!(passed.len() > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_through_flow_is_a_channel_of_its_session_and_ends_with_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = session(&mut fabric).await;
    let mut channel = held(&session).await;
    assert_eq!(fabric.observation(EGRESS).await, start_seen(Vantage::Egress));
    fabric.plan.version += 1;
    fabric.plan.denied_sessions.insert(crate::fabric::SESSION);
    fabric.publish();
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::Terminated));
    let Observation::SessionEnded { reason, bytes_up, .. } = fabric.observation(ENTRY).await else {
        panic!("the session is over")
    };
    assert_eq!(reason, EndReason::Terminated);
    assert!(bytes_up > 1, "all that TLS adds is in it: {bytes_up}");
    until("nothing is left", || through_flows(&fabric, ENTRY) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_that_break_again_and_again_lose_and_double_nothing() {
    let (mut fabric, _gate, count) = over_brittle_connections(echo().await, 1_234_567).await;
    let session = session(&mut fabric).await;
    let sent = pattern(12_000_000);
    let digest = Digest::of(&sent);
    let channel = session.open_lasting(stream(Lane::Bulk)).await.unwrap();
    let received = exchange_on(channel, sent);
    let received = timeout(2 * PATIENCE, received).await.unwrap();
    assert_eq!((received.len(), Digest::of(&received)), (12_000_000, digest));
    assert!(count.lost() >= 9, "{count:?}");
    assert_eq!(fabric.observation(EGRESS).await, start_seen(Vantage::Egress));
    session.close().await;
    let Observation::SessionEnded { reason, .. } = fabric.observation(ENTRY).await else {
        panic!("one session")
    };
    assert_eq!(reason, EndReason::ClientClosed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_through_flow_goes_on_when_its_entry_dies() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.through = true;
    fabric.plan.roles.insert(ENTRY_2, vec![own(NodeRole::EntryNode)]);
    fabric.add_node(ENTRY_2, 60);
    let mortal = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(ENTRY, 55, &mortal);
    let mut claims = fabric.claims();
    claims.entries.insert(ENTRY_2);
    let token = fabric.token(&claims);
    let session = fabric.connect_to(ENTRY, token.clone(), client_key()).await.unwrap();
    let mut channel = held(&session).await;
    mortal.shutdown_background();
    let again = fabric.connect_to(ENTRY_2, token, client_key()).await.unwrap();
    again.succeed(&session);
    assert_eq!(answer(&mut channel, 2).await.unwrap(), 2);
    assert_eq!(through_flows(&fabric, ENTRY_2), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_through_flow_leads_over_a_relay_and_goes_on_when_that_dies() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    let mortal = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    fabric.move_node(RELAY, 55, &mortal);
    fabric.cut_direct_path();
    let session = session(&mut fabric).await;
    let mut transfer =
        Transfer::begin_with(session.open_lasting(stream(Lane::Bulk)).await.unwrap());
    transfer.goes_on(PART).await;
    assert_eq!(through_flows(&fabric, ENTRY), 1);
    assert_eq!(fabric.nodes[&RELAY].endpoint.status().relayed_flows, 1);
    let roles = fabric.plan.roles[&RELAY].clone();
    fabric.plan.roles.insert(crate::fabric::RELAY_2, roles);
    fabric.add_node(crate::fabric::RELAY_2, 56);
    mortal.shutdown_background();
    transfer.goes_on(PART).await;
    transfer.ends_whole().await;
    until("the way is given back", || through_flows(&fabric, ENTRY) == 0).await;
}
