//! Passes bytes from one socket to another by splice(2): through a pipe, so that they never leave
//! the kernel and are copied only where somebody reads them.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    net::Shutdown,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// How much is on its way at once, for each direction.
const PIPE_BYTES: usize = 256 * 1024;
/// How much one direction passes on before others get their turn. A source that always has more, and
/// a sink that takes everything, would else keep a thread for many milliseconds.
const TURN_BYTES: usize = 4 * PIPE_BYTES;

/// A socket whose bytes can be passed on: TCP and Unix.
pub trait Socket: AsFd + Sync {
    /// Resolves when the socket may be read or written, as `interest` says.
    fn ready(&self, interest: Interest) -> impl Future<Output = io::Result<()>> + Send;

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

/// Passes bytes on until the end of `from`, then ends `to`. `bytes` counts them as they go.
///
/// # Errors
/// When one of the sockets fails, or the process may have no more pipes.
pub async fn pass(from: &impl Socket, to: &impl Socket, bytes: &AtomicU64) -> io::Result<()> {
    let (pipe_out, pipe_in) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Somebody who has many pipes is given small ones, which do, too.
    let _ = fcntl_setpipe_size(&pipe_in, PIPE_BYTES);
    let mut turn = 0;
    loop {
        let mut waiting = once(from, Interest::READABLE, || part(from, &pipe_in)).await?;
        if waiting == 0 {
            return Ok(rustix::net::shutdown(to.as_fd(), Shutdown::Write)?);
        }
        turn += waiting;
        while waiting > 0 {
            let moved = once(to, Interest::WRITABLE, || part(&pipe_out, to)).await?;
            bytes.fetch_add(moved as u64, Ordering::Relaxed);
            waiting -= moved;
        }
        if turn >= TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Does something with a socket as soon as it does not block.
async fn once<S: Socket, F: Fn() -> io::Result<usize>>(
    socket: &S,
    interest: Interest,
    act: F,
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
    // Without the promise of more to come: with it, the kernel holds small messages back.
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(rustix::pipe::splice(from, None, to, None, PIPE_BYTES, flags)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs::File, os::fd::BorrowedFd};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A file that is always ready, and brings so many more bytes.
    struct Always(File, AtomicU64);

    impl AsFd for Always {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Socket for Always {
        async fn ready(&self, _: Interest) -> io::Result<()> {
            Ok(())
        }

        fn attempt(
            &self,
            _: Interest,
            io: impl FnOnce() -> io::Result<usize>,
        ) -> io::Result<usize> {
            if self.1.load(Ordering::Relaxed) == 0 {
                return Ok(0);
            }
            let done = io()?;
            let left = self.1.load(Ordering::Relaxed).saturating_sub(done as u64);
            self.1.store(left, Ordering::Relaxed);
            Ok(done)
        }
    }

    #[tokio::test]
    async fn a_source_that_never_pauses_lets_others_have_their_turns() {
        const TURNS: u64 = 20;
        let zeros = Always(File::open("/dev/zero").unwrap(), (TURNS * TURN_BYTES as u64).into());
        let nowhere = File::options().write(true).open("/dev/null").unwrap();
        let nowhere = Always(nowhere, u64::MAX.into());
        let (bytes, mut others) = (AtomicU64::new(0), 0);
        let other = async {
            loop {
                others += 1;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            // A file cannot be shut down, which is how it ends.
            passed = pass(&zeros, &nowhere, &bytes) => assert!(passed.is_err()),
            () = other => {}
        }
        assert!(bytes.into_inner() >= TURNS * TURN_BYTES as u64);
        assert!(others >= TURNS, "others had {others} turns");
    }

    #[tokio::test]
    async fn bytes_and_their_end_are_passed_on_and_counted() {
        let (mut here, from) = UnixStream::pair().unwrap();
        let (to, mut there) = UnixStream::pair().unwrap();
        let sent: Vec<u8> =
            (0..3_000_000_u32).map(|n| n.to_be_bytes()[3] ^ (n >> 9) as u8).collect();
        let bytes = AtomicU64::new(0);
        let writing = async {
            here.write_all(&sent).await.unwrap();
            here.shutdown().await.unwrap();
        };
        let reading = async {
            let mut received = Vec::new();
            there.read_to_end(&mut received).await.unwrap();
            received
        };
        let ((), passed, received) = tokio::join!(writing, pass(&from, &to, &bytes), reading);
        passed.unwrap();
        assert!(received == sent, "the same bytes in the same order");
        assert_eq!(bytes.into_inner(), sent.len() as u64);
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_is_an_error() {
        let (mut here, from) = UnixStream::pair().unwrap();
        let (to, there) = UnixStream::pair().unwrap();
        drop(there);
        here.write_all(b"nobody reads this").await.unwrap();
        assert!(pass(&from, &to, &AtomicU64::new(0)).await.is_err());
    }
}
