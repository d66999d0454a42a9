//! The connections beside a session's own: on QUIC, one for pictures and one for bulk.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use quinn::Connection;
use rap_mesh::{Carrier, client::ClientSession};
use rap_mesh_core::{ended::Close, refusals::refusal};
use rap_proto::{
    Lane, RefusalCode, SessionId,
    key::LocalKey,
    observation::EndReason,
    token::{EXPORTER_LABEL, Proof},
    wire::{
        CLIENT_ALPN, channels_alpn,
        client::{ChannelReply, ClientControl, Hello, JoinSession},
    },
};
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    fabric::{ENTRY, Fabric, PATIENCE, SESSION, client_key, stream},
    raw::{LONG, closed_with, dial, dial_with, introduce, read, write},
    targets::echo,
    tcp::held,
    traffic::{exchange, pattern},
};

#[tokio::test(flavor = "multi_thread")]
async fn pictures_and_bulk_have_a_connection_each_and_keys_have_the_sessions_own() {
    let fabric = Fabric::start(&[], echo().await);
    let session = fabric.session_on(Carrier::Quic).await;
    let _keys = held(&session, Lane::Interactive).await;
    assert_eq!(session.lanes().await, []);
    let first = held(&session, Lane::Bulk).await;
    assert_eq!(session.lanes().await, [Lane::Bulk]);
    let _pictures = held(&session, Lane::Media).await;
    assert_eq!(session.lanes().await, [Lane::Media, Lane::Bulk]);
    for lane in Lane::ALL {
        let sent = pattern(2_000_000);
        assert!(exchange(&session, *lane, sent.clone()).await == sent, "{lane}");
    }
    drop(first);
    session.close().await;
    assert_eq!(session.lanes().await, []);
}

/// What a network lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// Everything, and remembers the connections.
    All,
    AllOthersToo,
    /// Nothing of those that it remembers.
    OthersOnly,
    /// Nothing that begins a connection.
    NothingNew,
}

/// Passes datagrams on between one client and `target`.
async fn network(target: SocketAddr) -> (SocketAddr, rap_watch::Sender<Passes>) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (near, far) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
    far.connect(target).await.unwrap();
    let address = near.local_addr().unwrap();
    let (told, passes) = rap_watch::channel(Passes::All);
    tokio::spawn(async move {
        let (mut up, mut down, mut client) = ([0; 2048], [0; 2048], None);
        let mut known = BTreeSet::new();
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut up) => {
                    client = Some(from);
                    // RFC 9000, section 17: packets of a handshake have long headers, others begin with the
                    // connection's id, which at a node has eight bytes.
                    let begins = up[0] & 0x80 != 0;
                    let id = up[1..9].to_vec();
                    let lost = match *passes.borrow() {
                        Passes::All => !begins && { known.insert(id); false },
                        Passes::AllOthersToo => false,
                        Passes::OthersOnly => !begins && known.contains(&id),
                        Passes::NothingNew => begins,
                    };
                    if !lost {
                        let _ = far.send(&up[..length]).await;
                    }
                }
                Ok(length) = far.recv(&mut down) => {
                    if let Some(client) = client {
                        let _ = near.send_to(&down[..length], client).await;
                    }
                }
                else => return,
            }
        }
    });
    (address, told)
}

async fn session_at(fabric: &Fabric, address: SocketAddr) -> ClientSession {
    let token = fabric.token(&fabric.claims());
    let session = fabric.connect_at(address, token, client_key()).await.unwrap();
    assert_eq!(session.carrier(), Carrier::Quic);
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_come_though_nothing_of_the_sessions_own_connection_does() {
    let fabric = Fabric::start(&[], echo().await);
    let (address, passes) = network(fabric.address(ENTRY)).await;
    let session = session_at(&fabric, address).await;
    let _keys = held(&session, Lane::Interactive).await;
    passes.send_replace(Passes::AllOthersToo);
    let _pictures = held(&session, Lane::Media).await;
    passes.send_replace(Passes::OthersOnly);
    let sent = pattern(2_000_000);
    assert!(exchange(&session, Lane::Media, sent.clone()).await == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_lane_gets_no_connection_its_channels_are_on_the_sessions_own() {
    let fabric = Fabric::start(&[], echo().await);
    let (address, passes) = network(fabric.address(ENTRY)).await;
    let session = session_at(&fabric, address).await;
    passes.send_replace(Passes::NothingNew);
    let _pictures = held(&session, Lane::Media).await;
    assert_eq!(session.lanes().await, []);
    // It is not tried again at once: nobody else is to wait for it.
    passes.send_replace(Passes::AllOthersToo);
    let _others = held(&session, Lane::Media).await;
    assert_eq!(session.lanes().await, []);
}

/// What a proof is over.
type Exported = fn(&Connection) -> [u8; 32];

fn exported(connection: &Connection) -> [u8; 32] {
    let mut exported = [0; 32];
    connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"").unwrap();
    exported
}

async fn dial_bulk(fabric: &Fabric) -> Connection {
    dial(fabric, ENTRY, channels_alpn(Lane::Bulk).unwrap(), LONG).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_brings_a_lane_to_a_session_without_its_key() {
    let mut fabric = Fabric::start(&[], echo().await);
    let _session = fabric.session_on(Carrier::Quic).await;
    let stranger = LocalKey::from_random(&[3; 32]).unwrap();
    let (own, other): (Exported, Exported) = (exported, |_| [9; 32]);
    let cases: &[(SessionId, &LocalKey, Exported, RefusalCode)] = &[
        (SESSION, &stranger, own, RefusalCode::TokenWrongKey),
        // Made for another connection, as whoever relays it would have it.
        (SESSION, &client_key(), other, RefusalCode::TokenWrongKey),
        (SessionId::from_u128(0xbad), &client_key(), own, RefusalCode::SessionTerminated),
    ];
    for (session, key, exported, expected) in cases {
        let connection = dial_bulk(&fabric).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        write(&mut send, &JoinSession::make(*session, exported(&connection), *key)).await;
        match read(&mut recv).await {
            ChannelReply::Refused(refusal) => assert_eq!(refusal.code, *expected),
            reply => panic!("a stranger joined: {reply:?}"),
        }
        assert_eq!(closed_with(&connection).await, Some(Close::Refused(*expected)));
        fabric.expect_refusal(ENTRY, *expected, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_of_a_lane_says_whose_it_is_and_the_lane_ends_with_its_session() {
    let mut fabric = Fabric::start(&[], echo().await);
    let first = dial(&fabric, ENTRY, CLIENT_ALPN, LONG).await;
    let (mut control, _replies) = introduce(&fabric, &first).await;
    let lane = dial_bulk(&fabric).await;
    let join = JoinSession::make(SESSION, exported(&lane), &client_key());
    let (mut send, mut recv) = lane.open_bi().await.unwrap();
    write(&mut send, &join).await;
    write(&mut send, &stream(Lane::Bulk)).await;
    assert_eq!(read::<ChannelReply>(&mut recv).await, ChannelReply::Opened);

    // A stream that its client gave up changes nothing.
    drop(lane.open_bi().await.unwrap());
    let (mut send, mut recv) = lane.open_bi().await.unwrap();
    write(&mut send, &join).await;
    write(&mut send, &stream(Lane::Bulk)).await;
    assert_eq!(read::<ChannelReply>(&mut recv).await, ChannelReply::Opened);

    let other = bring_bulk(&fabric).await;
    let (mut send, _recv) = other.open_bi().await.unwrap();
    write(&mut send, &stream(Lane::Bulk)).await;
    assert_eq!(closed_with(&other).await, Some(Close::Refused(RefusalCode::Malformed)));
    fabric.expect_refusal(ENTRY, RefusalCode::Malformed, false).await;

    write(&mut control, &ClientControl::Close).await;
    let end = timeout(PATIENCE, closed_with(&lane)).await.expect("the entry closes it");
    assert_eq!(end, Some(Close::Ended(EndReason::ClientClosed)));
}

/// A lane of the session's client, with a channel of its own.
async fn bring_bulk(fabric: &Fabric) -> Connection {
    let lane = dial_bulk(fabric).await;
    let (mut send, mut recv) = lane.open_bi().await.unwrap();
    write(&mut send, &JoinSession::make(SESSION, exported(&lane), &client_key())).await;
    write(&mut send, &stream(Lane::Bulk)).await;
    match timeout(PATIENCE, read(&mut recv)).await.unwrap() {
        ChannelReply::Opened => {}
        reply => assert_eq!(reply, ChannelReply::Refused(refusal(RefusalCode::LimitReached))),
    }
    lane
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_so_many_lanes_and_no_more() {
    const MOST: usize = 4;
    let mut fabric = Fabric::start(&[], echo().await);
    let _session = fabric.session_on(Carrier::Quic).await;
    let mut lanes = Vec::new();
    for _ in 0..MOST {
        lanes.push(bring_bulk(&fabric).await);
    }
    let refused = Some(Close::Refused(RefusalCode::LimitReached));
    assert_eq!(closed_with(&bring_bulk(&fabric).await).await, refused);
    fabric.expect_refusal(ENTRY, RefusalCode::LimitReached, true).await;
    assert!(lanes.iter().all(|lane| lane.close_reason().is_none()));
    // A place is given back with its lane.
    lanes.pop().unwrap().close(0_u32.into(), b"");
    let back = async {
        loop {
            let lane = bring_bulk(&fabric).await;
            if timeout(Duration::from_millis(100), closed_with(&lane)).await.is_err() {
                return lane;
            }
        }
    };
    timeout(PATIENCE, back).await.expect("there is room again");
}

/// A client that grants nothing: whatever is said to it waits.
fn takes_nothing() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(0_u32.into()).max_idle_timeout(None);
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    transport
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_no_refusal_is_closed_without_it() {
    let fabric = Fabric::start(&[], echo().await);
    for alpn in [CLIENT_ALPN, channels_alpn(Lane::Bulk).unwrap()] {
        let connection = dial_with(&fabric, None, ENTRY, alpn, takes_nothing()).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let token = b"of nobody".to_vec();
        let proof = Proof::make(&token, exported(&connection), &client_key());
        match alpn {
            CLIENT_ALPN => write(&mut send, &Hello { token, proof }).await,
            _ => write(&mut send, &JoinSession { session: SESSION, proof }).await,
        }
        let closed = timeout(PATIENCE, closed_with(&connection)).await;
        assert!(matches!(closed, Ok(Some(Close::Refused(_)))), "{closed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_hear_that_it_is_served_is_not() {
    let fabric = Fabric::start(&[], echo().await);
    let connection = dial_with(&fabric, None, ENTRY, CLIENT_ALPN, takes_nothing()).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let token = fabric.token(&fabric.claims());
    let proof = Proof::make(&token, exported(&connection), &client_key());
    write(&mut send, &Hello { token, proof }).await;
    let closed = timeout(PATIENCE, closed_with(&connection)).await;
    assert!(matches!(closed, Ok(Some(Close::Ended(_)))), "{closed:?}");
    assert_eq!(fabric.nodes[&ENTRY].endpoint.status().entry_sessions, 0);
}
