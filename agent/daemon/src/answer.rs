//! A worker's answer to an open, and the target's socket when it comes with it.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net,
    os::fd::OwnedFd,
};

use rap_adapter_contract::{
    OpenReply,
    frame::{body_length, decode},
};
use rap_proto::refusal::Refusal;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType,
    ipproto, recvmsg, sockopt,
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// The most descriptors that one answer brings.
const MAX_DESCRIPTORS: usize = 1;

/// What a worker made of an open.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The bytes pass over the connection to the worker.
    Opened,
    /// They pass by the target's own socket. The connection stays while the channel does.
    Handed(TcpStream),
    Refused(Refusal),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the worker's connection was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the worker's answer is malformed: {0}")]
    Malformed(#[from] rap_proto::codec::DecodeError),
    #[error(
        "no descriptor is left for the target's socket: this agent or host has too many open files"
    )]
    NoDescriptorLeft,
    #[error("the worker's answer lacks its descriptor")]
    Missing,
    #[error("the worker's answer came with more descriptors than belong to it")]
    TooMany,
    #[error("the worker's answer came with a descriptor that is no socket of TCP")]
    NotTcp,
}

/// Reads the answer, and not one byte of what may follow it. Whatever came with an answer that is not
/// in order is closed.
pub(crate) async fn read(stream: &UnixStream) -> Result<Answer, AnswerError> {
    let mut descriptors = Vec::new();
    let mut head = [0; 4];
    fill(stream, &mut head, &mut descriptors).await?;
    let mut body = vec![0; body_length(head)?];
    fill(stream, &mut body, &mut descriptors).await?;
    let reply: OpenReply = decode(&body)?;
    match (reply, descriptors.pop()) {
        (OpenReply::Handed, Some(descriptor)) => Ok(Answer::Handed(target(descriptor)?)),
        (OpenReply::Handed, None) => Err(AnswerError::Missing),
        (_, Some(_)) => Err(AnswerError::TooMany),
        (OpenReply::Opened, None) => Ok(Answer::Opened),
        (OpenReply::Refused(refusal), None) => Ok(Answer::Refused(refusal)),
    }
}

async fn fill(
    stream: &UnixStream,
    mut room: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<(), AnswerError> {
    while !room.is_empty() {
        let receive = || receive(stream, room, descriptors);
        let Received { length, came, is_cut } =
            stream.async_io(Interest::READABLE, receive).await?;
        // There was room for one at least: the kernel could not give even that to this process.
        if is_cut && came == 0 {
            return Err(AnswerError::NoDescriptorLeft);
        }
        // Those that had no room are closed by the kernel.
        if is_cut || descriptors.len() > MAX_DESCRIPTORS {
            return Err(AnswerError::TooMany);
        }
        if length == 0 {
            return Err(AnswerError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        room = &mut room[length..];
    }
    Ok(())
}

struct Received {
    length: usize,
    /// How many descriptors came.
    came: usize,
    /// Further ones were sent, and did not come.
    is_cut: bool,
}

/// Receives what there is.
fn receive(
    stream: &UnixStream,
    room: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(room)];
    let received = recvmsg(stream, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let before = descriptors.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            descriptors.extend(sockets);
        }
    }
    Ok(Received {
        length: received.bytes,
        came: descriptors.len() - before,
        is_cut: received.flags.contains(ReturnFlags::CTRUNC),
    })
}

fn target(descriptor: OwnedFd) -> Result<TcpStream, AnswerError> {
    if !is_tcp(&descriptor) {
        return Err(AnswerError::NotTcp);
    }
    let stream = net::TcpStream::from(descriptor);
    // The worker's copy is the same socket, and nothing here may wait for it.
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream)?)
}

fn is_tcp(descriptor: &OwnedFd) -> bool {
    let family = sockopt::socket_domain(descriptor);
    let is_ip = matches!(family, Ok(AddressFamily::INET | AddressFamily::INET6));
    is_ip
        && sockopt::socket_type(descriptor) == Ok(SocketType::STREAM)
        && sockopt::socket_protocol(descriptor) == Ok(Some(ipproto::TCP))
}

#[cfg(test)]
mod tests;
