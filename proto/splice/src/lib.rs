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

/// Says when bytes may be taken from a source. What waits for its turn stays with who sent it.
pub trait Gate: Sync {
    type Turn<'a>: Turn + Send
    where
        Self: 'a;

    fn turn(&self) -> impl Future<Output = Self::Turn<'_>> + Send;

    /// What was taken in a turn, so many bytes, has all been passed on.
    fn written(&self, _bytes: usize) {}
}

/// One turn; dropped, it is over.
pub trait Turn {
    /// The most bytes that may be taken, at least one.
    fn room(&self) -> usize;

    /// So many were taken.
    fn passed(&mut self, bytes: usize);

    /// Ends this turn and waits for the next one, as [`Gate::turn`] does. Between the two, nobody comes
    /// to a turn who would not have come to one before this turn was over.
    fn again(&mut self) -> impl Future<Output = ()> + Send;
}

/// It is always everybody's turn.
struct Open;

impl Gate for Open {
    type Turn<'a> = ();

    async fn turn(&self) {}
}

impl Turn for () {
    fn room(&self) -> usize {
        PIPE_BYTES
    }

    fn passed(&mut self, _: usize) {}

    async fn again(&mut self) {}
}

/// Which end of a direction failed.
#[derive(Debug)]
pub enum Failure {
    From(io::Error),
    To(io::Error),
    /// Neither: the process may have no more pipes.
    Pipe(io::Error),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::From(error) | Failure::To(error) | Failure::Pipe(error) => error,
        }
    }
}

/// Passes bytes on until the end of `from`, then ends `to`. `bytes` counts them as they go.
///
/// # Errors
/// When one of the sockets fails, or the process may have no more pipes.
pub async fn pass(from: &impl Socket, to: &impl Socket, bytes: &AtomicU64) -> Result<(), Failure> {
    pass_in_turns(from, to, bytes, &Open).await
}

/// The same, in the turns that `gate` gives. A turn is for what is taken at once. It goes over into
/// the next one while there is more and `to` takes it, and ends otherwise: nobody else waits for a
/// sender that is silent, or for a receiver that reads nothing.
///
/// # Errors
/// As [`pass`] does.
pub async fn pass_in_turns<G: Gate>(
    from: &impl Socket,
    to: &impl Socket,
    bytes: &AtomicU64,
    gate: &G,
) -> Result<(), Failure> {
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
    let (pipe_out, pipe_in) = pipe.map_err(|error| Failure::Pipe(error.into()))?;
    // Somebody who has many pipes is given small ones, which do, too.
    let _ = fcntl_setpipe_size(&pipe_in, PIPE_BYTES);
    let mut in_a_row = 0;
    let mut held: Option<G::Turn<'_>> = None;
    loop {
        let mut turn = match held.take() {
            None => {
                from.ready(Interest::READABLE).await.map_err(Failure::From)?;
                gate.turn().await
            }
            Some(mut turn) => {
                turn.again().await;
                turn
            }
        };
        let most = turn.room().min(PIPE_BYTES);
        let read = from.attempt(Interest::READABLE, || part(from, &pipe_in, most));
        let read = unless_blocked(read).map_err(Failure::From)?;
        let Some(mut waiting) = read else { continue };
        if waiting == 0 {
            let ended = rustix::net::shutdown(to.as_fd(), Shutdown::Write);
            return ended.map_err(|error| Failure::To(error.into()));
        }
        turn.passed(waiting);
        let taken = waiting;
        in_a_row += taken;
        let written = to.attempt(Interest::WRITABLE, || part(&pipe_out, to, PIPE_BYTES));
        let moved = unless_blocked(written).map_err(Failure::To)?.unwrap_or(0);
        bytes.fetch_add(moved as u64, Ordering::Relaxed);
        waiting -= moved;
        held = (waiting == 0).then_some(turn);
        while waiting > 0 {
            let moved = once(to, Interest::WRITABLE, || part(&pipe_out, to, PIPE_BYTES)).await;
            let moved = moved.map_err(Failure::To)?;
            bytes.fetch_add(moved as u64, Ordering::Relaxed);
            waiting -= moved;
        }
        gate.written(taken);
        if in_a_row >= TURN_BYTES {
            in_a_row = 0;
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
        if let Some(done) = unless_blocked(socket.attempt(interest, &act))? {
            return Ok(done);
        }
    }
}

fn unless_blocked(attempt: io::Result<usize>) -> io::Result<Option<usize>> {
    match attempt {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        done => done.map(Some),
    }
}

/// Moves what there is, at most so much.
fn part(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    // Without the promise of more to come: with it, the kernel holds small messages back.
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(rustix::pipe::splice(from, None, to, None, most, flags)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        fs::File,
        os::{fd::BorrowedFd, unix::fs::FileExt as _},
        sync::Mutex,
    };

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

    /// The kernel passes its pages on: what is written to them before somebody reads is what he reads.
    #[tokio::test]
    async fn what_is_passed_on_is_not_copied_on_its_way() {
        const BYTES: usize = 8 * 1024;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; BYTES], 0).unwrap();
        let same = file.try_clone().unwrap();
        let (to, mut there) = UnixStream::pair().unwrap();
        let from = Always(file, (BYTES as u64).into());
        pass(&from, &to, &AtomicU64::new(0)).await.unwrap();
        same.write_all_at(&[2; BYTES], 0).unwrap();
        let mut read = Vec::new();
        there.read_to_end(&mut read).await.unwrap();
        assert!(read == [2; BYTES], "somebody copied them before");
    }

    /// Gives turns of so many bytes, one for each permit, and counts what they passed.
    struct Turnstile(tokio::sync::Semaphore, AtomicU64);

    struct Small<'a>(&'a Turnstile);

    impl Gate for Turnstile {
        type Turn<'a> = Small<'a>;

        async fn turn(&self) -> Small<'_> {
            self.0.acquire().await.unwrap().forget();
            Small(self)
        }
    }

    impl Turn for Small<'_> {
        fn room(&self) -> usize {
            1_000
        }

        fn passed(&mut self, bytes: usize) {
            self.0.1.fetch_add(bytes as u64, Ordering::Relaxed);
        }

        async fn again(&mut self) {
            self.0.0.acquire().await.unwrap().forget();
        }
    }

    #[tokio::test]
    async fn a_gate_says_when_and_how_much_is_taken_from_the_source() {
        let (mut here, from) = UnixStream::pair().unwrap();
        let (to, mut there) = UnixStream::pair().unwrap();
        let gate = Turnstile(tokio::sync::Semaphore::new(3), AtomicU64::new(0));
        let bytes = AtomicU64::new(0);
        here.write_all(&[7; 10_000]).await.unwrap();
        drop(here);
        let passing = pass_in_turns(&from, &to, &bytes, &gate);
        tokio::pin!(passing);
        let mut received = vec![0; 3_000];
        tokio::select! {
            _ = &mut passing => panic!("it has no turn any more"),
            read = there.read_exact(&mut received) => assert_eq!(read.unwrap(), 3_000),
        }
        assert_eq!(gate.1.load(Ordering::Relaxed), 3_000);
        // Seven parts and the end.
        gate.0.add_permits(8);
        received.clear();
        let (passed, read) = tokio::join!(passing, there.read_to_end(&mut received));
        passed.unwrap();
        assert_eq!((read.unwrap(), gate.1.load(Ordering::Relaxed)), (7_000, 10_000));
    }

    /// Gives a turn of so many bytes whenever it is asked, and says what became of them.
    struct Recorder(usize, Mutex<Vec<&'static str>>);

    struct Recorded<'a>(&'a Recorder);

    impl Recorder {
        fn say(&self, word: &'static str) {
            self.1.lock().unwrap().push(word);
        }
    }

    impl Gate for Recorder {
        type Turn<'a> = Recorded<'a>;

        async fn turn(&self) -> Recorded<'_> {
            self.say("begun");
            Recorded(self)
        }
    }

    impl Turn for Recorded<'_> {
        fn room(&self) -> usize {
            self.0.0
        }

        fn passed(&mut self, _: usize) {
            self.0.say("passed");
        }

        async fn again(&mut self) {
            self.0.say("again");
        }
    }

    impl Drop for Recorded<'_> {
        fn drop(&mut self) {
            self.0.say("over");
        }
    }

    /// Whoever waits below would else come between.
    #[tokio::test]
    async fn while_there_is_more_one_turn_goes_over_into_the_next() {
        let (mut here, from) = UnixStream::pair().unwrap();
        let (to, _there) = UnixStream::pair().unwrap();
        let gate = Recorder(1_000, Mutex::default());
        here.write_all(&[7; 3_000]).await.unwrap();
        drop(here);
        pass_in_turns(&from, &to, &AtomicU64::new(0), &gate).await.unwrap();
        let said = gate.1.into_inner().unwrap();
        let parts = ["begun", "passed", "again", "passed", "again", "passed", "again", "over"];
        assert_eq!(said, parts);
    }

    /// Passes bytes until this was said last.
    async fn pass_until(from: &UnixStream, to: &UnixStream, gate: &Recorder, last: &[&str]) {
        let said = async {
            while !gate.1.lock().unwrap().ends_with(last) {
                tokio::task::yield_now().await;
            }
        };
        let bytes = AtomicU64::new(0);
        tokio::select! {
            _ = pass_in_turns(from, to, &bytes, gate) => panic!("both ends are there"),
            () = said => {}
        }
    }

    #[tokio::test]
    async fn a_turn_is_over_when_the_sender_is_silent() {
        let (mut here, from) = UnixStream::pair().unwrap();
        let (to, _there) = UnixStream::pair().unwrap();
        let gate = Recorder(1_000, Mutex::default());
        here.write_all(b"a word").await.unwrap();
        pass_until(&from, &to, &gate, &["begun", "passed", "again", "over"]).await;
    }

    #[tokio::test]
    async fn a_turn_is_over_when_the_receiver_takes_no_more() {
        let (mut here, from) = UnixStream::pair().unwrap();
        let (to, _there) = UnixStream::pair().unwrap();
        let gate = Recorder(1_000, Mutex::default());
        to.writable().await.unwrap();
        while to.try_write(&[7; 1_000]).is_ok() {}
        here.write_all(&[7; 3_000]).await.unwrap();
        pass_until(&from, &to, &gate, &["begun", "passed", "over"]).await;
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
