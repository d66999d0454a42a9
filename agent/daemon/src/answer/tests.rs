#![allow(clippy::unwrap_used)]

use std::{
    io::{IoSlice, Read as _, pipe},
    os::fd::{AsFd as _, BorrowedFd},
};

use rap_adapter_contract::frame::encode;
use rap_proto::RefusalCode;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use super::*;

/// Room for more descriptors than any answer here brings.
const ROOM: usize = 32;

/// What the worker's side of a connection says, with these descriptors on its first byte.
fn say(worker: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    let sent = sendmsg(worker, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    assert_eq!(sent, Ok(bytes.len()));
}

/// What is made of an answer that comes with these descriptors.
async fn answered(
    reply: &OpenReply,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Answer, AnswerError> {
    let (worker, agent) = UnixStream::pair().unwrap();
    say(&worker, &encode(reply), descriptors);
    read(&agent).await
}

/// Both ends of a connection on loopback.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_socket_that_is_handed_over_is_the_agents() {
    let (near, mut far) = connection().await;
    let answer = answered(&OpenReply::Handed, &[near.as_fd()]).await.unwrap();
    drop(near);
    let Answer::Handed(mut socket) = answer else { panic!("{answer:?}") };
    socket.write_all(b"question").await.unwrap();
    let mut heard = [0; 8];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"question");
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"answer");
}

#[tokio::test]
async fn a_descriptor_comes_with_any_part_of_its_answer() {
    let bytes = encode(&OpenReply::Handed);
    for at in 0..bytes.len() {
        let (near, _far) = connection().await;
        let (worker, agent) = UnixStream::pair().unwrap();
        for (place, byte) in bytes.iter().enumerate() {
            let descriptors = if place == at { &[near.as_fd()][..] } else { &[] };
            say(&worker, &[*byte], descriptors);
        }
        let answer = read(&agent).await;
        assert!(matches!(answer, Ok(Answer::Handed(_))), "byte {at}: {answer:?}");
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_left_to_whoever_reads_on() {
    let (mut worker, mut agent) = UnixStream::pair().unwrap();
    worker.write_all(&encode(&OpenReply::Opened)).await.unwrap();
    worker.write_all(b"banner").await.unwrap();
    assert!(matches!(read(&agent).await, Ok(Answer::Opened)));
    let mut heard = [0; 6];
    agent.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"banner");
}

#[tokio::test]
async fn an_answer_with_no_two_or_many_descriptors_is_refused_and_all_are_closed() {
    let none = answered(&OpenReply::Handed, &[]).await;
    assert!(matches!(none, Err(AnswerError::Missing)), "{none:?}");
    for count in [2, 3, ROOM] {
        let (mut reads, writes) = pipe().unwrap();
        let descriptors = vec![writes.as_fd(); count];
        let answer = answered(&OpenReply::Handed, &descriptors).await;
        assert!(matches!(answer, Err(AnswerError::TooMany)), "{count}: {answer:?}");
        drop(writes);
        assert_eq!(reads.read(&mut [0]).unwrap(), 0, "{count}: some are open still");
    }
}

#[tokio::test]
async fn descriptors_that_come_one_by_one_are_counted_together() {
    let (mut reads, writes) = pipe().unwrap();
    let (worker, agent) = UnixStream::pair().unwrap();
    for byte in encode(&OpenReply::Handed) {
        say(&worker, &[byte], &[writes.as_fd()]);
    }
    let answer = read(&agent).await;
    assert!(matches!(answer, Err(AnswerError::TooMany)), "{answer:?}");
    drop((writes, agent));
    assert_eq!(reads.read(&mut [0]).unwrap(), 0, "some are open still");
}

#[tokio::test]
async fn what_is_no_socket_of_tcp_is_refused_and_closed() {
    let (mut reads, writes) = pipe().unwrap();
    let (unix, mut other) = UnixStream::pair().unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for descriptor in [writes.as_fd(), unix.as_fd(), datagrams.as_fd()] {
        let answer = answered(&OpenReply::Handed, &[descriptor]).await;
        assert!(matches!(answer, Err(AnswerError::NotTcp)), "{answer:?}");
    }
    drop((writes, unix));
    assert_eq!(reads.read(&mut [0]).unwrap(), 0);
    assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_descriptor_that_nobody_announced_is_refused_and_closed() {
    let refusal = Refusal::new(RefusalCode::TargetRefused, "no");
    for reply in [OpenReply::Opened, OpenReply::Refused(refusal)] {
        let (near, mut far) = connection().await;
        let answer = answered(&reply, &[near.as_fd()]).await;
        assert!(matches!(answer, Err(AnswerError::TooMany)), "{answer:?}");
        drop(near);
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_or_is_none_is_an_error() {
    let (mut worker, agent) = UnixStream::pair().unwrap();
    worker.write_all(&[0, 0, 0, 7, b'o']).await.unwrap();
    drop(worker);
    assert!(matches!(read(&agent).await, Err(AnswerError::Lost(_))));
    let (mut worker, agent) = UnixStream::pair().unwrap();
    worker.write_all(&[0, 0, 0, 1, 0xc1]).await.unwrap();
    assert!(matches!(read(&agent).await, Err(AnswerError::Malformed(_))));
}
