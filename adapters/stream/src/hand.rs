//! A target's socket in the agent's hands.
//!
//! The bytes are the agent's then, and the channel is still the worker's: it keeps a copy of the
//! socket, and what it does to the connection it does to the agent's copy as well.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::AsFd as _,
};

use rap_adapter_contract::{OpenReply, frame::encode};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};
use tokio::{
    io::{AsyncReadExt as _, Interest},
    net::{TcpStream, UnixStream},
};

/// A connection that the agent has a copy of. Dropping it ends the connection for both.
pub(crate) struct Handed {
    agent: UnixStream,
    target: TcpStream,
}

impl Handed {
    pub(crate) fn new(agent: UnixStream, target: TcpStream) -> Self {
        Self { agent, target }
    }

    /// Answers that the channel is open. The socket goes with the answer, in one message.
    pub(crate) async fn hand(&self) -> io::Result<()> {
        let answer = encode(&OpenReply::Handed);
        let send = || -> io::Result<usize> {
            let sockets = [self.target.as_fd()];
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            let pieces = [IoSlice::new(&answer)];
            Ok(sendmsg(&self.agent, &pieces, &mut control, SendFlags::NOSIGNAL)?)
        };
        let sent = self.agent.async_io(Interest::WRITABLE, send).await?;
        // So few bytes are sent whole on a connection that nothing was sent on before.
        if sent == answer.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Resolves when the agent lets go of the channel, or is gone.
    pub(crate) async fn let_go(&mut self) {
        // It has nothing to say here: whatever comes ends the channel.
        let _ = self.agent.read(&mut [0]).await;
    }
}

impl Drop for Handed {
    /// The agent's connection goes first: an agent that reads the end that is made here finds that
    /// one closed, and so takes it for no end of the target's.
    fn drop(&mut self) {
        for socket in [self.agent.as_fd(), self.target.as_fd()] {
            // What is gone already needs no ending.
            let _ = shutdown(socket, Shutdown::Both);
        }
    }
}
