//! A channel whose bytes the worker passes, and one whose socket it hands over, alike to a test.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net,
    pin::Pin,
    task::{Context, Poll},
};

use rap_adapter_contract::{Open, OpenReply, Request, frame::encode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream},
    time::timeout,
};

use crate::agent::{PATIENCE, Worker, connect, open, receive, send, target};

/// How the bytes of a channel pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Over the connection to the worker, and through it.
    Through,
    /// By the target's socket, which the worker handed over.
    Handed,
}

pub(crate) const WAYS: [Way; 2] = [Way::Through, Way::Handed];

/// An open channel, as the agent has it.
pub(crate) struct Channel {
    pub(crate) bytes: Pin<Box<dyn Bytes>>,
    /// The connection to the worker of a channel whose socket was handed over.
    pub(crate) held: Option<UnixStream>,
}

pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send {}
impl Bytes for UnixStream {}
impl Bytes for TcpStream {}

impl Way {
    /// A channel to this port, which listens on loopback.
    pub(crate) async fn open(self, worker: &Worker, port: u16) -> Channel {
        self.open_at(&worker.socket, port).await
    }

    pub(crate) async fn open_at(self, socket: &std::path::Path, port: u16) -> Channel {
        let mut stream = connect(socket).await;
        let request = open("127.0.0.1", port, true);
        let takes_socket = self == Self::Handed;
        send(&mut stream, &Request::Open(Open { takes_socket, ..request })).await.unwrap();
        match self {
            Self::Through => {
                assert_eq!(receive::<OpenReply>(&mut stream).await.unwrap(), OpenReply::Opened);
                Channel { bytes: Box::pin(stream), held: None }
            }
            Self::Handed => {
                let socket = timeout(PATIENCE, handed(&stream)).await.expect("an answer comes");
                Channel { bytes: Box::pin(socket), held: Some(stream) }
            }
        }
    }

    /// A channel, and its target.
    pub(crate) async fn reach(self, worker: &Worker) -> (Channel, TcpStream) {
        let (listener, port) = target().await;
        let channel = self.open(worker, port).await;
        (channel, accept(&listener).await)
    }
}

pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("the target is dialled").unwrap().0
}

/// The socket that comes with the worker's answer, in the answer's one message.
async fn handed(stream: &UnixStream) -> TcpStream {
    let mut answer = [0; 64];
    let (length, mut sockets) = stream
        .async_io(Interest::READABLE, || {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut room);
            let mut pieces = [IoSliceMut::new(&mut answer)];
            let received = recvmsg(stream, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let sockets = control.drain().flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(sockets) => sockets.collect(),
                _ => Vec::new(),
            });
            Ok((received.bytes, sockets.collect::<Vec<_>>()))
        })
        .await
        .unwrap();
    assert_eq!(answer[..length], encode(&OpenReply::Handed));
    assert_eq!(sockets.len(), 1, "one descriptor comes with it");
    // The worker's runtime has it set not to block already.
    TcpStream::from_std(net::TcpStream::from(sockets.remove(0))).unwrap()
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.bytes.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bytes.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes.as_mut().poll_shutdown(context)
    }
}
