//! Flows that nobody reads, and others on the same lane.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rap_mesh::client::{Channel, ChannelReader, ClientSession};
use rap_proto::{ChannelKind, Lane};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    fabric::{Fabric, open},
    limits::echoes,
    targets::serve,
    traffic::pattern,
};

/// Each has a credit of 4 MiB, and all share a window of 8 MiB.
const STALLED: usize = 16;
const CREDIT: usize = 4 * 1024 * 1024;
/// Their streams have windows of 2 MiB, together more than an entry has on its way to one client.
const UNREAD: usize = 40;
/// More than all of them can keep on their way.
const MOST: usize = UNREAD * 4 * CREDIT;
/// Nothing moves any more when so many echoes in a row came back meanwhile.
const ECHOES: usize = 100;

const FLOODS: u8 = b'f';
const READS_NOTHING: u8 = b'r';
const ECHOES_ALL: u8 = b'e';

/// A resource that does what the first byte says. `sent` is what its floods could send.
async fn resource(sent: Arc<AtomicUsize>) -> SocketAddr {
    serve(move |mut stream| {
        let sent = sent.clone();
        async move {
            match stream.read_u8().await.unwrap() {
                FLOODS => flood(&mut stream, &sent).await,
                READS_NOTHING => std::future::pending().await,
                _ => {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                }
            }
        }
    })
    .await
}

/// Sends the same bytes again and again, for as long as they are taken.
async fn flood(to: &mut (impl AsyncWrite + Unpin), sent: &AtomicUsize) {
    let bytes = pattern(64 * 1024);
    while to.write_all(&bytes).await.is_ok() {
        sent.fetch_add(bytes.len(), Ordering::Relaxed);
    }
}

async fn ask(session: &ClientSession, what: u8) -> Channel {
    let mut channel = open(session, Lane::Interactive).await;
    channel.write_all(&[what]).await.unwrap();
    channel.flush().await.unwrap();
    channel
}

/// Sends keys until nothing else has moved for some time.
async fn echoes_until_all_stand_still(session: &ClientSession, sent: &AtomicUsize) {
    let mut keys = ask(session, ECHOES_ALL).await;
    let (mut still, mut before) = (0, 0);
    while still < ECHOES {
        echoes(&mut keys).await;
        let now = sent.load(Ordering::Relaxed);
        assert!(now < MOST, "{now} bytes: they never stand still");
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    assert!(before > STALLED * CREDIT, "{before} bytes are not what all may send");
}

/// The flood, from its start.
async fn reads_on(mut reader: ChannelReader) {
    let bytes = pattern(64 * 1024);
    let mut read = vec![0; bytes.len()];
    for _ in 0..4 * CREDIT / bytes.len() {
        reader.read_exact(&mut read).await.unwrap();
        assert!(read == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_that_nobody_reads_hold_no_key_of_their_lane_up_and_go_on_later() {
    let sent = Arc::new(AtomicUsize::new(0));
    let fabric = Fabric::start(&[], resource(sent.clone()).await);
    let session = fabric.session().await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(ask(&session, FLOODS).await);
    }
    echoes_until_all_stand_still(&session, &sent).await;
    assert_eq!(fabric.nodes[&crate::fabric::ENTRY].endpoint.status().lanes.len(), 1);
    for channel in stalled {
        reads_on(channel.split().1).await;
    }
}

/// What a client's connection has received is on its way no more, whoever reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_none_of_many_downloads_has_its_keys_beside_them() {
    let sent = Arc::new(AtomicUsize::new(0));
    let fabric = Fabric::start(&[], resource(sent.clone()).await);
    let mut claims = fabric.claims();
    claims.channels.get_mut(&ChannelKind::Stream).unwrap().max_open = UNREAD as u32 + 1;
    let session = fabric.connect(&claims).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        unread.push(ask(&session, FLOODS).await);
    }
    echoes_until_all_stand_still(&session, &sent).await;
    reads_on(unread.remove(0).split().1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_nobody_takes_hold_no_key_of_their_lane_up() {
    let sent = Arc::new(AtomicUsize::new(0));
    let fabric = Fabric::start(&[], resource(sent.clone()).await);
    let session = fabric.session().await;
    let mut uploads = tokio::task::JoinSet::new();
    for _ in 0..STALLED {
        let (mut writer, reader) = ask(&session, READS_NOTHING).await.split();
        let sent = sent.clone();
        uploads.spawn(async move {
            flood(&mut writer, &sent).await;
            drop(reader);
        });
    }
    echoes_until_all_stand_still(&session, &sent).await;
    assert_eq!(uploads.len(), STALLED, "none has ended");
}
