//! What a channel does, whichever way its bytes pass.

use std::time::Duration;

use rap_proto::{Digest, RefusalCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    time::timeout,
};

use crate::{
    agent::{PATIENCE, Worker, open, target},
    way::{WAYS, Way},
};

async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the stream ends").unwrap();
    bytes
}

#[tokio::test]
async fn the_agents_end_of_stream_reaches_the_target_and_the_way_down_stays_open() {
    let worker = Worker::start().await;
    for way in WAYS {
        let (mut channel, mut target) = way.reach(&worker).await;
        channel.write_all(b"question").await.unwrap();
        channel.shutdown().await.unwrap();
        assert_eq!(rest(&mut target).await, b"question", "{way:?}");
        target.write_all(b"answer").await.unwrap();
        drop(target);
        assert_eq!(rest(&mut channel).await, b"answer", "{way:?}");
    }
}

#[tokio::test]
async fn the_targets_end_of_stream_reaches_the_agent_and_the_way_up_stays_open() {
    let worker = Worker::start().await;
    for way in WAYS {
        let (mut channel, mut target) = way.reach(&worker).await;
        target.write_all(b"banner").await.unwrap();
        target.shutdown().await.unwrap();
        assert_eq!(rest(&mut channel).await, b"banner", "{way:?}");
        channel.write_all(b"still talking").await.unwrap();
        drop(channel);
        assert_eq!(rest(&mut target).await, b"still talking", "{way:?}");
    }
}

#[tokio::test]
async fn a_large_transfer_arrives_whole_in_both_directions_at_once() {
    const BYTES: usize = 48 * 1024 * 1024;
    let worker = Worker::start().await;
    let up: Vec<u8> = (0..BYTES).map(|at| (at * 31 % 251) as u8).collect();
    let down: Vec<u8> = (0..BYTES).map(|at| (at * 17 % 241) as u8).collect();
    let expected = (Digest::of(&up), Digest::of(&down));
    for way in WAYS {
        let (channel, mut target) = way.reach(&worker).await;
        let (mut channel_in, mut channel_out) = split(channel);
        let (mut target_in, mut target_out) = target.split();
        let send_up = async {
            channel_out.write_all(&up).await.unwrap();
            channel_out.shutdown().await.unwrap();
        };
        let send_down = async {
            target_out.write_all(&down).await.unwrap();
            target_out.shutdown().await.unwrap();
        };
        let (got_up, got_down, (), ()) =
            tokio::join!(rest(&mut target_in), rest(&mut channel_in), send_up, send_down);
        assert_eq!((Digest::of(&got_up), Digest::of(&got_down)), expected, "{way:?}");
    }
}

#[tokio::test]
async fn a_channel_that_the_agent_drops_does_not_stay_behind_on_a_silent_target() {
    let mut worker = Worker::start().await;
    for way in WAYS {
        let (channel, mut target) = way.reach(&worker).await;
        worker.wait_for_open_channels(1).await;
        drop(channel);
        worker.wait_for_open_channels(0).await;
        assert_eq!(rest(&mut target).await, b"", "{way:?}");
    }
}

#[tokio::test]
async fn a_target_that_resets_ends_the_channel() {
    let mut worker = Worker::start().await;
    for way in WAYS {
        let (mut channel, target) = way.reach(&worker).await;
        rustix::net::sockopt::set_socket_linger(&target, Some(Duration::ZERO)).unwrap();
        drop(target);
        let mut bytes = Vec::new();
        let ended = timeout(PATIENCE, channel.read_to_end(&mut bytes)).await.expect("it ends");
        assert!(bytes.is_empty(), "{way:?}: {ended:?}");
        // Where the agent has the socket, it is the one who sees the reset, and lets go.
        if way == Way::Handed {
            ended.expect_err("a reset is no end of stream");
            drop(channel);
        }
        worker.wait_for_open_channels(0).await;
    }
}

#[tokio::test]
async fn a_target_that_is_gone_ends_the_way_up() {
    let worker = Worker::start().await;
    for way in WAYS {
        let (mut channel, target) = way.reach(&worker).await;
        drop(target);
        assert_eq!(rest(&mut channel).await, b"", "{way:?}");
        let block = vec![0; 64 * 1024];
        let failing = async { while channel.write_all(&block).await.is_ok() {} };
        timeout(PATIENCE, failing).await.expect("nothing more can be written");
    }
}

#[tokio::test]
async fn no_more_channels_open_than_the_limit_and_a_closed_one_makes_room() {
    for way in WAYS {
        let mut worker = Worker::start_with(|options| options.max_channels = 2).await;
        let (listener, port) = target().await;
        let first = way.open(&worker, port).await;
        let _second = way.open(&worker, port).await;
        let code = worker.refused(open("127.0.0.1", port, true)).await;
        assert_eq!(code, RefusalCode::LimitReached);
        drop(first);
        worker.wait_for_open_channels(1).await;
        way.open(&worker, port).await;
        drop(listener);
    }
}

#[tokio::test]
async fn a_stalled_channel_does_not_hold_another_one_back() {
    let worker = Worker::start().await;
    let block = vec![0; 1024 * 1024];
    for way in WAYS {
        let (mut stalled, _silent) = way.reach(&worker).await;
        // Fills every buffer on the way until nothing moves any more.
        while timeout(Duration::from_millis(200), stalled.write_all(&block)).await.is_ok() {}
        let (mut channel, mut target) = way.reach(&worker).await;
        channel.write_all(b"hello").await.unwrap();
        channel.shutdown().await.unwrap();
        assert_eq!(rest(&mut target).await, b"hello", "{way:?}");
    }
}
