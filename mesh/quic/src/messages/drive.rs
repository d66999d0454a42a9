//! The task that carries a message channel's bytes.

use std::{
    future::{Future, pending, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use rap_mesh_core::channel::Broken;
use rap_proto::Moment;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{Cut, Shared, State};
use crate::{client::end_reason, mesh::locked};

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// How long the end of our direction may take to be taken.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// What is to be done next.
enum Next {
    Carry {
        timeout: Option<Moment>,
    },
    /// Both sides have said everything, or one of them is gone.
    Leave,
}

/// Carries both directions until both are over, or the channel is dropped.
pub(super) async fn drive<R, W>(shared: Arc<Shared>, reader: R, mut writer: W)
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let written = carry(&shared, reader, &mut writer).await;
    let whole = written && locked(&shared.state).end.is_sent();
    if whole {
        let _ = timeout(CLOSE_LIMIT, close(&shared, &mut writer)).await;
    }
    // Nothing is left to wait for, whoever still asks.
    shared.change(|state| {
        state.send_cut.get_or_insert(Cut::Lost);
        state.receive_cut.get_or_insert(Cut::Lost);
    });
}

/// Ends our direction, of which everything was written. The other side may have heard it all, and be
/// gone, before the last flush was done here.
async fn close<W: AsyncWrite + Unpin>(shared: &Shared, writer: &mut W) -> io::Result<()> {
    writer.flush().await?;
    shared.change(|state| state.flushed = true);
    writer.shutdown().await
}

/// Returns whether nothing that was made is left to write.
async fn carry<R, W>(shared: &Shared, mut reader: R, writer: &mut W) -> bool
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut output = Output { bytes: Bytes::new(), unflushed: false, writes: true };
    let (mut reads, mut turns) = (true, Turns::default());
    while let Next::Carry { timeout } = shared.next(&mut output, reads) {
        let read = async { Did::Read(reader.read_buf(&mut input).await) };
        let put = async {
            if !output.writes {
                return pending().await;
            }
            Did::Put(output.put(writer).await)
        };
        // Each turn looks at what is due, whatever woke it.
        let did = tokio::select! {
            biased;
            did = turns.next(read, put) => did,
            () = shared.work.notified() => continue,
            () = shared.clock.until(timeout) => continue,
        };
        match did {
            Did::Read(read) => {
                reads = shared.read(read, &input);
                input.clear();
            }
            Did::Put(Ok(Put::Wrote(bytes))) => {
                output.bytes.advance(bytes);
                output.unflushed = true;
            }
            Did::Put(Ok(Put::Flushed)) => output.unflushed = false,
            Did::Put(Err(error)) => output.writes = shared.cut_sending(&error),
        }
    }
    output.bytes.is_empty()
}

/// Which of two goes first when both are ready: not the one that went last. So neither direction starves, and no
/// chance decides.
#[derive(Default)]
struct Turns {
    is_others: bool,
}

impl Turns {
    async fn next<T>(&mut self, one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
        let (mut one, mut other) = (pin!(one), pin!(other));
        poll_fn(|context| {
            for is_others in [self.is_others, !self.is_others] {
                let polled = if is_others {
                    other.as_mut().poll(context)
                } else {
                    one.as_mut().poll(context)
                };
                if polled.is_ready() {
                    self.is_others = !is_others;
                    return polled;
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// What this side has to write.
struct Output {
    bytes: Bytes,
    unflushed: bool,
    /// Until the other side wants no more.
    writes: bool,
}

/// What came of one turn.
enum Did {
    Read(io::Result<usize>),
    Put(io::Result<Put>),
}

/// What was done of it.
enum Put {
    Wrote(usize),
    Flushed,
}

impl Output {
    const fn is_written(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Giving up waiting changes nothing.
    async fn put<W: AsyncWrite + Unpin>(&self, writer: &mut W) -> io::Result<Put> {
        if !self.bytes.is_empty() {
            return match writer.write(&self.bytes).await? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                written => Ok(Put::Wrote(written)),
            };
        }
        if self.unflushed {
            return writer.flush().await.map(|()| Put::Flushed);
        }
        pending().await
    }
}

impl Shared {
    /// Fills `output` once it was written, and says what comes next.
    fn next(&self, output: &mut Output, reads: bool) -> Next {
        let now = self.clock.moment();
        let mut state = locked(&self.state);
        state.end.handle_timeout(now);
        if output.writes && output.bytes.is_empty() {
            output.bytes = state.end.poll_bytes(now).unwrap_or_default();
            // What waits may find room now, or was the last.
            self.wrote.notify_waiters();
        }
        state.flushed = output.is_written();
        let said = !output.writes || (state.flushed && state.end.is_sent());
        let heard = state.end.has_all() || state.dropped;
        let given_up = state.dropped && state.end.is_open();
        if !reads || (said && heard) || given_up {
            return Next::Leave;
        }
        Next::Carry { timeout: state.end.poll_timeout() }
    }

    /// Whether more can come.
    fn read(&self, read: io::Result<usize>, input: &[u8]) -> bool {
        let now = self.clock.moment();
        self.change(|state| {
            let cut = match read {
                Ok(0) => match state.end.handle_end() {
                    Ok(()) => None,
                    Err(Broken::CutShort) => Some(Cut::Lost),
                    Err(broken) => Some(Cut::Broken(broken)),
                },
                Ok(_) => match state.end.handle_bytes(now, input) {
                    Ok(()) => return true,
                    Err(broken) => Some(Cut::Broken(broken)),
                },
                Err(error) => Some(cut(&error)),
            };
            if let Some(cut) = cut {
                state.receive_cut.get_or_insert(cut);
            }
            // Nobody grants anything any more.
            if !state.end.is_sent() {
                state.send_cut.get_or_insert(cut.unwrap_or(Cut::Lost));
            }
            false
        })
    }

    /// Nothing more can be written: what still comes may count. Returns that.
    fn cut_sending(&self, error: &io::Error) -> bool {
        self.change(|state| {
            state.send_cut.get_or_insert(cut(error));
            false
        })
    }

    /// Changes the state, and wakes whoever waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut locked(&self.state));
        self.came.notify_waiters();
        self.wrote.notify_waiters();
        changed
    }
}

fn cut(error: &io::Error) -> Cut {
    end_reason(error).map_or(Cut::Lost, Cut::Ended)
}

#[cfg(test)]
mod tests;
