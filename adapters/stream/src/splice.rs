//! Passing bytes between the agent and a target, each direction ending on its own.
//!
//! The bytes go through a pipe by splice(2): they never leave the kernel, and are copied only where
//! somebody reads them.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::Shutdown,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with},
    time::Timespec,
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
    time::interval,
};

/// How much is on its way at once, for each direction of each channel.
const PIPE_BYTES: usize = 256 * 1024;
/// How often a channel whose agent sends no more is checked for having been dropped wholly.
const HANG_UP_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Ended {
    /// Bytes from the agent to the target.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Whether both directions ended by end of stream.
    pub(crate) clean: bool,
}

/// Passes bytes until both directions ended or one end is gone.
///
/// An end of stream is passed on as such. A target that stops reading ends only the way up, so
/// that what it still says arrives; a target that is lost, or an agent that is gone, ends both.
pub(crate) async fn splice(agent: UnixStream, target: TcpStream) -> Ended {
    let (up_bytes, down_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let clean = {
        let up = async {
            let result = pass(&agent, &target, &up_bytes).await;
            if result.is_err() {
                let _ = rustix::net::shutdown(&agent, Shutdown::Read);
            }
            result.is_ok()
        };
        let down = pass(&target, &agent, &down_bytes);
        tokio::pin!(up, down);
        let mut up_clean = None;
        let mut down_ended = false;
        let mut hang_up = interval(HANG_UP_INTERVAL);
        loop {
            tokio::select! {
                clean = &mut up, if up_clean.is_none() => up_clean = Some(clean),
                result = &mut down, if !down_ended => match result {
                    Ok(()) => down_ended = true,
                    Err(_) => break false,
                },
                _ = hang_up.tick(), if up_clean.is_some() => {
                    if is_hung_up(&agent) {
                        break false;
                    }
                }
            }
            if let (Some(clean), true) = (up_clean, down_ended) {
                break clean;
            }
        }
    };
    Ended { up: up_bytes.into_inner(), down: down_bytes.into_inner(), clean }
}

/// What both kinds of socket have.
trait Socket: AsFd {
    async fn ready(&self, interest: Interest) -> io::Result<()>;

    /// Does what would not block. When it would, the next [`Socket::ready`] waits.
    fn attempt(
        &self,
        interest: Interest,
        io: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize>;
}

macro_rules! socket {
    ($stream:ty) => {
        impl Socket for $stream {
            async fn ready(&self, interest: Interest) -> io::Result<()> {
                <$stream>::ready(self, interest).await.map(drop)
            }

            fn attempt(
                &self,
                interest: Interest,
                io: impl FnOnce() -> io::Result<usize>,
            ) -> io::Result<usize> {
                self.try_io(interest, io)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// Passes bytes on until the end of `from`, then ends `to`.
async fn pass(from: &impl Socket, to: &impl Socket, bytes: &AtomicU64) -> io::Result<()> {
    let (pipe_out, pipe_in) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Somebody who has many pipes is given small ones, which do, too.
    let _ = fcntl_setpipe_size(&pipe_in, PIPE_BYTES);
    loop {
        let mut waiting = once(from, Interest::READABLE, || part(from, &pipe_in)).await?;
        if waiting == 0 {
            return Ok(rustix::net::shutdown(to.as_fd(), Shutdown::Write)?);
        }
        while waiting > 0 {
            let moved = once(to, Interest::WRITABLE, || part(&pipe_out, to)).await?;
            bytes.fetch_add(moved as u64, Ordering::Relaxed);
            waiting -= moved;
        }
    }
}

/// Does something with a socket as soon as it does not block.
async fn once(
    socket: &impl Socket,
    interest: Interest,
    act: impl Fn() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        socket.ready(interest).await?;
        match socket.attempt(interest, &act) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

/// Moves what there is, at most a pipe full.
fn part(from: impl AsFd, to: impl AsFd) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(rustix::pipe::splice(from, None, to, None, PIPE_BYTES, flags)?)
}

/// Whether the peer of a Unix socket closed it, and not only its sending half.
fn is_hung_up(descriptor: &impl AsFd) -> bool {
    let mut watched = [PollFd::new(descriptor, PollFlags::empty())];
    let found = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    found.is_ok() && watched[0].revents().contains(PollFlags::HUP)
}
