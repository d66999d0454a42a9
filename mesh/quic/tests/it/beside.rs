//! The connections beside a session's own: on QUIC, one for pictures and one for bulk.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::Connection;
use rap_mesh::Carrier;
use rap_mesh_core::ended::Close;
use rap_proto::{
    Lane, RefusalCode, SessionId,
    key::LocalKey,
    token::EXPORTER_LABEL,
    wire::{
        CLIENT_ALPN, channels_alpn,
        client::{ChannelReply, ClientControl, JoinSession},
    },
};
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    fabric::{ENTRY, Fabric, PATIENCE, SESSION, client_key, stream},
    raw::{LONG, closed_with, dial, introduce, read, write},
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

/// Passes datagrams on between one client and `target`; once it is told, none that begins a connection.
async fn no_new_connections(target: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (near, far) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
    far.connect(target).await.unwrap();
    let (address, closed) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let told = closed.clone();
    tokio::spawn(async move {
        let (mut up, mut down, mut client) = ([0; 2048], [0; 2048], None);
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut up) => {
                    client = Some(from);
                    // RFC 9000, section 17.2: packets of a handshake have long headers.
                    let begins = up[0] & 0x80 != 0;
                    if !(begins && told.load(Ordering::Relaxed)) {
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
    (address, closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_lane_gets_no_connection_its_channels_are_on_the_sessions_own() {
    let fabric = Fabric::start(&[], echo().await);
    let (address, closed) = no_new_connections(fabric.address(ENTRY)).await;
    let claims = fabric.claims();
    let connecting = fabric.connect_at(address, fabric.token(&claims), client_key());
    let session = connecting.await.unwrap();
    assert_eq!(session.carrier(), Carrier::Quic);
    closed.store(true, Ordering::Relaxed);
    let _pictures = held(&session, Lane::Media).await;
    assert_eq!(session.lanes().await, []);
    // It is not tried again at once.
    let again = timeout(Duration::from_secs(3), held(&session, Lane::Media)).await;
    assert!(again.is_ok(), "the next one waits for no connection");
}

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
    let (own, other) = (exported as fn(&Connection) -> [u8; 32], (|_| [9; 32]) as fn(&_) -> _);
    let cases: &[(SessionId, &LocalKey, fn(&Connection) -> [u8; 32], RefusalCode)] = &[
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

    let (mut send, mut recv) = lane.open_bi().await.unwrap();
    write(&mut send, &stream(Lane::Bulk)).await;
    match read(&mut recv).await {
        ChannelReply::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::Malformed),
        reply => panic!("a stream of nobody's was taken: {reply:?}"),
    }
    fabric.expect_refusal(ENTRY, RefusalCode::Malformed, false).await;

    write(&mut control, &ClientControl::Close).await;
    let end = timeout(PATIENCE, closed_with(&lane)).await.expect("the entry closes it");
    assert_eq!(end, Some(Close::Done));
}
