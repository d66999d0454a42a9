#![allow(clippy::unwrap_used)]

use std::{future::poll_fn, time::Duration};

use rap_mesh_core::lane_path::repeats::{ENOUGH_BYTES, LOOKED_AT};
use tokio::{net::UdpSocket, time::timeout};

use super::{super::probe::PROBE_BYTES, *};
use crate::network::Kernel;

const PATIENCE: Duration = Duration::from_secs(5);

async fn host() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn lane() -> (Arc<LaneSocket>, mpsc::Receiver<Answer>, SocketAddr) {
    let (socket, answers) = LaneSocket::bind(&Kernel, Ipv4Addr::LOCALHOST.into()).unwrap();
    let address = socket.local_addr().unwrap();
    writable(&socket).await;
    (socket, answers, address)
}

/// A new socket takes nothing before its runtime has looked at it.
async fn writable(lane: &Arc<LaneSocket>) {
    let mut poller = lane.clone().create_io_poller();
    poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.unwrap();
}

fn send(lane: &LaneSocket, contents: &[u8]) {
    let destination = lane.stable();
    let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
    lane.try_send(&transmit).unwrap();
}

async fn heard(host: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2_000];
    let length = timeout(PATIENCE, host.recv(&mut buffer)).await.unwrap().unwrap();
    buffer[..length].to_vec()
}

/// The next run as QUIC would get it: what it holds, and whom it seems to come from.
async fn received(lane: &LaneSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let mut meta = [RecvMeta::default()];
    let receiving = poll_fn(|cx| {
        let mut bufs = [IoSliceMut::new(&mut buffer)];
        lane.poll_recv(cx, &mut bufs, &mut meta)
    });
    assert_eq!(timeout(PATIENCE, receiving).await.unwrap().unwrap(), 1);
    (buffer[..meta[0].len].to_vec(), meta[0].addr)
}

#[tokio::test]
async fn datagrams_take_the_path_in_use_and_all_seem_to_come_from_one_address() {
    let (lane, _answers, own) = lane().await;
    let ((first, first_at), (second, second_at)) = (host().await, host().await);
    lane.open(0, first_at);
    lane.take(0);
    send(&lane, b"one");
    assert_eq!(heard(&first).await, b"one");
    lane.open(1, second_at);
    lane.take(1);
    send(&lane, b"two");
    assert_eq!(heard(&second).await, b"two");
    for (host, is_in_use) in [(&first, 0), (&second, 1)] {
        host.send_to(b"back", own).await.unwrap();
        assert_eq!(received(&lane).await, (b"back".to_vec(), lane.stable()));
        assert_eq!(lane.traffic(), (2, is_in_use), "only the path in use counts as heard");
    }
}

#[tokio::test]
async fn the_first_datagrams_along_another_path_are_sent_more_than_once() {
    let (lane, _answers, own) = lane().await;
    let ((first, first_at), (second, second_at)) = (host().await, host().await);
    lane.open(0, first_at);
    lane.take(0);
    send(&lane, b"one");
    send(&lane, b"two");
    assert_eq!((heard(&first).await, heard(&first).await), (b"one".to_vec(), b"two".to_vec()));
    lane.open(1, second_at);
    lane.change_to(1);
    send(&lane, &[3; 100]);
    for _ in 0..ENOUGH_BYTES.div_ceil(100) {
        assert_eq!(heard(&second).await, [3; 100]);
    }
    second.send_to(b"back", own).await.unwrap();
    assert_eq!(received(&lane).await.0, b"back");
    send(&lane, &[4; 100]);
    send(&lane, &[5; 1_000]);
    for expected in [&[4; 100][..], &[4; 100], &[5; 1_000], &[5; 1_000]] {
        assert_eq!(heard(&second).await, expected);
    }
    assert_eq!(lane.traffic(), (5, 1), "they count once");
}

/// Sends from another thread while somebody has the lock of what is repeated. Whether it is sent at once.
fn sends_without_the_lock(lane: &Arc<LaneSocket>, patience: Duration) -> bool {
    let held = locked(&lane.repeats);
    let (says, said) = std::sync::mpsc::channel();
    let sending = lane.clone();
    let sender = std::thread::spawn(move || {
        send(&sending, &[7; 1_000]);
        says.send(()).unwrap();
    });
    // A lock that is waited for is not had while it is held, however long that is.
    let sent = said.recv_timeout(patience).is_ok();
    drop(held);
    sender.join().unwrap();
    sent
}

#[tokio::test]
async fn only_the_first_datagrams_along_another_path_take_the_lock_of_what_is_repeated() {
    let (lane, _answers, _) = lane().await;
    let ((_first, first_at), (_second, second_at)) = (host().await, host().await);
    lane.open(0, first_at);
    lane.take(0);
    assert!(sends_without_the_lock(&lane, Duration::from_secs(20)), "its path never changed");
    lane.open(1, second_at);
    lane.change_to(1);
    assert!(!sends_without_the_lock(&lane, Duration::from_millis(300)));
    for _ in 1..LOOKED_AT {
        send(&lane, &[7; 1_000]);
    }
    assert!(sends_without_the_lock(&lane, Duration::from_secs(20)), "they are no longer the first");
    lane.change_to(0);
    assert!(!sends_without_the_lock(&lane, Duration::from_millis(300)), "another change");
}

#[tokio::test]
async fn what_comes_from_elsewhere_never_reaches_the_lane() {
    let (lane, _answers, own) = lane().await;
    let ((first, first_at), (stranger, _)) = (host().await, host().await);
    lane.open(0, first_at);
    lane.take(0);
    stranger.send_to(b"spoofed", own).await.unwrap();
    assert_eq!(received(&lane).await.0, b"", "an empty run is none");
    assert_eq!((lane.traffic(), lane.refused()), ((0, 0), 1));
    first.send_to(b"true", own).await.unwrap();
    assert_eq!(received(&lane).await.0, b"true");
}

#[tokio::test]
async fn a_path_that_was_left_is_heard_once_more_and_one_that_is_closed_is_not() {
    let (lane, _answers, own) = lane().await;
    let hosts = [host().await, host().await, host().await];
    for (generation, (_, address)) in (0..).zip(&hosts) {
        lane.open(generation, *address);
        lane.take(generation);
    }
    (0..3).for_each(|generation| lane.close(generation));
    let mut reached = Vec::new();
    for (host, _) in &hosts {
        host.send_to(b"late", own).await.unwrap();
        reached.push(!received(&lane).await.0.is_empty());
    }
    assert_eq!(reached, [false, true, false], "the one before the last");
    send(&lane, b"nowhere");
}

#[tokio::test]
async fn a_probe_is_answered_by_its_path_alone_and_stays_out_of_the_lane() {
    let (lane, mut answers, own) = lane().await;
    let ((far, far_at), (other, other_at)) = (host().await, host().await);
    lane.open(3, far_at);
    lane.open(4, other_at);
    lane.take(3);
    lane.probe(3, 8, [9; 16]);
    let probe = heard(&far).await;
    assert_eq!(probe.len(), PROBE_BYTES);
    let answer = [&[0x80, 0, 0, 0, 0], &probe[22..39], &probe[5..22]].concat();
    for (host, number) in [(&other, 8), (&far, 9)] {
        lane.probe(3, number, [number as u8 + 1; 16]);
        let mut answer = answer.clone();
        answer[6..22].fill(number as u8 + 1);
        host.send_to(&answer, own).await.unwrap();
        assert_eq!(received(&lane).await.0, b"");
    }
    assert_eq!(answers.try_recv().unwrap(), Answer { generation: 3, probe: 9 });
    assert!(answers.try_recv().is_err(), "the other path's word is none for this one");
    assert_eq!(lane.traffic(), (0, 0), "neither counts as the lane's");
}

#[tokio::test]
async fn a_knock_that_is_waited_for_is_heard_from_anywhere_and_opens_nothing() {
    let (lane, _answers, own) = lane().await;
    let ((path, path_at), (stranger, stranger_at)) = (host().await, host().await);
    lane.open(0, path_at);
    lane.take(0);
    lane.expect(7, &[1; 16]);
    for secret in [[2; 16], [1; 16]] {
        stranger.send_to(&knock(&secret), own).await.unwrap();
        assert_eq!(received(&lane).await.0, b"");
    }
    assert_eq!(timeout(PATIENCE, lane.knocked()).await.unwrap(), (7, stranger_at));
    assert_eq!(lane.refused(), 1, "the wrong one");
    stranger.send_to(b"more", own).await.unwrap();
    assert_eq!(received(&lane).await.0, b"", "who knocked is no path yet");
    lane.knock(path_at, &[3; 16]);
    assert_eq!(heard(&path).await, knock(&[3; 16]));
}

#[tokio::test]
async fn who_waits_for_the_lane_to_send_is_woken_even_if_it_did_before() {
    let (lane, _answers, _) = lane().await;
    send(&lane, b"before");
    timeout(PATIENCE, lane.sends_beyond(0)).await.unwrap();
    let waiting = lane.clone();
    let waits = tokio::spawn(async move { waiting.sends_beyond(1).await });
    while !lane.is_awaited.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    send(&lane, b"after");
    timeout(PATIENCE, waits).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_socket_of_both_families_reaches_the_older_one() {
    let (lane, _answers) = LaneSocket::bind(&Kernel, Ipv6Addr::UNSPECIFIED.into()).unwrap();
    writable(&lane).await;
    let (far, far_at) = host().await;
    lane.open(0, far_at);
    lane.take(0);
    send(&lane, b"mapped");
    assert_eq!(heard(&far).await, b"mapped");
    far.send_to(b"back", (Ipv4Addr::LOCALHOST, lane.port())).await.unwrap();
    assert_eq!(received(&lane).await, (b"back".to_vec(), STABLE_V6));
    assert!(lane.reaches(STABLE_V4) && lane.reaches(STABLE_V6));
    let (older, ..) = self::lane().await;
    assert!(older.reaches(STABLE_V4) && !older.reaches(STABLE_V6));
}
