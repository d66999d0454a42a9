//! The connection below both directions.
//!
//! Parts go into the TLS connection whole, so that one can always be followed by another: what is
//! cut in the middle of a slow write can still say why. At most one part waits there.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use rap_mesh_core::carrier::{self, MAX_DATA, Part, Parts};
use rap_proto::Lane;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _},
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use super::{
    super::{
        Broken, Unsent,
        copies::{MAX_COPY, slices},
    },
    fill,
};
use crate::tcp::{Controllers, TlsIo};

/// Pieces that go into one part.
const MAX_PIECES: usize = 64;
/// The slices that they are handed over in, with the part's head.
const MAX_SLICES: usize = 1 + MAX_PIECES + MAX_DATA / MAX_COPY;
/// How long a connection that was cut stays, so that the other side reads why.
const LINGER: Duration = Duration::from_secs(1);

/// INVARIANT: `io` is there until the link is dropped, or until `take`, after which neither direction
/// has anything to say.
pub(super) struct Link {
    io: Option<Io>,
    input: BytesMut,
    parts: Parts,
    /// How the direction towards us ended.
    ended: Option<Result<(), Broken>>,
    /// We want no more of it: what still comes is thrown away.
    unwanted: bool,
    /// The direction from us is finished, or cut.
    over: Over,
    /// The other side wants no more of it.
    stopped: Option<u64>,
    wakers: [Option<Waker>; 2],
}

struct Io {
    tls: TlsIo,
    // Given back with the connection.
    place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    /// The end was said and is on its way.
    Finishing,
    Finished,
    Cut,
}

const WRITER: usize = 0;
const WATCHER: usize = 1;

impl Link {
    pub(super) fn new(mut tls: TlsIo, place: Option<OwnedSemaphorePermit>) -> Self {
        match &mut tls {
            tokio_rustls::TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(None),
            tokio_rustls::TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(None),
        }
        Self {
            io: Some(Io { tls, place }),
            input: BytesMut::new(),
            parts: Parts::default(),
            ended: None,
            unwanted: false,
            over: Over::No,
            stopped: None,
            wakers: [None, None],
        }
    }

    /// The connection, for something else to be made of it. `None` when a direction ended already.
    pub(super) fn take(
        &mut self,
    ) -> Option<(TlsIo, Option<OwnedSemaphorePermit>, BytesMut, Parts)> {
        let whole = self.over == Over::No && self.ended.is_none() && !self.unwanted;
        let Io { tls, place } = self.io.take_if(|_| whole)?;
        (self.over, self.ended) = (Over::Cut, Some(Ok(())));
        Some((tls, place, std::mem::take(&mut self.input), std::mem::take(&mut self.parts)))
    }

    /// What is sent is of this lane: bulk keeps the queue of its path short.
    pub(super) fn keep_queue_short(&mut self, lane: Lane, controllers: &Controllers) {
        if let Some(Io { tls, .. }) = &mut self.io {
            tls.get_mut().0.keep_queue_short(lane, controllers);
        }
    }

    /// The next bytes of the direction towards us. `None` is its end.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Broken>> {
        loop {
            if let Some(ended) = self.ended {
                return Poll::Ready(ended.map(|()| None));
            }
            match self.take_part() {
                Ok(Some(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                Ok(None) if self.ended.is_some() => {}
                Ok(None) => {
                    if ready!(self.poll_fill(context)).is_err() {
                        self.ended = Some(Err(Broken::Lost(None)));
                    }
                }
                Err(carrier::Malformed) => self.ended = Some(Err(Broken::Lost(None))),
            }
        }
    }

    /// Waits until nothing is left of what was sent before.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        if let Some(code) = self.stopped {
            return Poll::Ready(Err(Unsent::Stopped(code)));
        }
        if matches!(self.over, Over::Cut) {
            return Poll::Ready(Err(Unsent::Lost(None)));
        }
        let flushed = Pin::new(self.tls()).poll_flush(context);
        if flushed.is_pending() {
            self.wakers[WRITER] = Some(context.waker().clone());
        }
        flushed.map_err(|_| Unsent::Lost(None))
    }

    /// Sends as much of the pieces as one part holds.
    pub(super) fn send(&mut self, pieces: &mut [Bytes]) -> Result<(), Unsent> {
        let (mut slices, used, mut length) = one_part(pieces);
        let head = carrier::data_head(length);
        slices[0] = IoSlice::new(&head);
        self.put(&slices[..used])?;
        for piece in pieces {
            let here = piece.len().min(length);
            piece.advance(here);
            length -= here;
        }
        Ok(())
    }

    pub(super) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.over == Over::No {
            // One that cannot be sent any more is not waited for either.
            if self.put(&[IoSlice::new(&carrier::finished())]).is_err() {
                self.over = Over::Cut;
            } else {
                self.over = Over::Finishing;
            }
        }
        if self.over == Over::Finishing {
            match ready!(Pin::new(self.tls()).poll_flush(context)) {
                Ok(()) => self.over = Over::Finished,
                Err(_) => self.over = Over::Cut,
            }
        }
        Poll::Ready(())
    }

    pub(super) fn reset(&mut self, code: u64) {
        if self.over == Over::No {
            self.over = Over::Cut;
            self.say(&carrier::reset(code));
        }
    }

    pub(super) fn stop(&mut self, code: u64) {
        if self.ended.is_none() && !self.unwanted {
            self.unwanted = true;
            self.say(&carrier::stopped(code));
            self.wake();
        }
    }

    /// Resolves when the other side wants no more, or is gone. Once the direction towards us is
    /// over, nobody else reads what still comes on the connection.
    pub(super) fn poll_stopped(&mut self, context: &mut Context<'_>) -> Poll<Unsent> {
        let unread = self.unwanted || self.ended.is_some();
        if unread && let Poll::Ready(lost) = self.poll_rest(context) {
            return Poll::Ready(lost);
        }
        if let Some(code) = self.stopped {
            return Poll::Ready(Unsent::Stopped(code));
        }
        self.wakers[WATCHER] = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Unsent> {
        loop {
            match self.take_part() {
                Ok(Some(_)) => {}
                Ok(None) if self.stopped.is_some() => return Poll::Pending,
                Ok(None) => {
                    if ready!(self.poll_fill(context)).is_err() {
                        return Poll::Ready(Unsent::Lost(None));
                    }
                }
                Err(carrier::Malformed) => return Poll::Ready(Unsent::Lost(None)),
            }
        }
    }

    /// Data that has arrived, unless it is not wanted; notes what the parts before it say.
    fn take_part(&mut self) -> Result<Option<Bytes>, carrier::Malformed> {
        while let Some((skip, part)) = self.parts.next(&self.input)? {
            self.input.advance(skip);
            match part {
                Part::Data(length) => {
                    let bytes = self.input.split_to(length).freeze();
                    if !self.unwanted && length > 0 {
                        return Ok(Some(bytes));
                    }
                }
                Part::Finished => self.ended = Some(Ok(())),
                Part::Reset(code) => self.ended = Some(Err(Broken::Reset(code))),
                Part::Stopped(code) => {
                    self.stopped = Some(code);
                    self.wake();
                }
                // Of flows that outlive their connection, which are not read here.
                Part::Acknowledged(_) | Part::From(_) => return Err(carrier::Malformed),
            }
        }
        Ok(None)
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, input, .. } = self;
        fill::poll_fill(&mut io.as_mut().expect("INVARIANT").tls, input, context)
    }

    /// Hands one part to the TLS connection, which takes it whole.
    fn put(&mut self, slices: &[IoSlice<'_>]) -> Result<(), Unsent> {
        if self.over != Over::No {
            return Err(Unsent::Lost(None));
        }
        self.write(slices).map_err(|_| Unsent::Lost(None))
    }

    /// Sends what needs no waiting; whatever the kernel does not take goes with the next part, or
    /// while the link lingers.
    fn say(&mut self, part: &[u8]) {
        // A connection that is gone is noticed by whoever reads or writes.
        let _ = self.write(&[IoSlice::new(part)]);
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let expected: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(self.tls()).poll_write_vectored(&mut context, slices) {
            Poll::Ready(Ok(length)) if length == expected => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn tls(&mut self) -> &mut TlsIo {
        &mut self.io.as_mut().expect("INVARIANT").tls
    }

    fn wake(&mut self) {
        self.wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let clean = self.over == Over::Finished && self.ended == Some(Ok(()));
        let (Some(io), Ok(runtime)) = (self.io.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // Closing a socket with bytes unread resets it, and what was sent last can be lost.
        if !clean {
            runtime.spawn(timeout(LINGER, linger(io)));
        }
    }
}

async fn linger(mut io: Io) {
    let _place = io.place.take();
    if io.tls.flush().await.is_err() || io.tls.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 4096];
    while io.tls.read(&mut rest).await.is_ok_and(|length| length > 0) {}
}

/// What goes into one part, behind a place for its head: the slices, how many there are, and how many
/// bytes without the head.
fn one_part(pieces: &[Bytes]) -> ([IoSlice<'_>; MAX_SLICES], usize, usize) {
    let (mut part, mut used, mut length) = ([IoSlice::new(&[]); MAX_SLICES], 1, 0);
    for piece in pieces.iter().filter(|piece| !piece.is_empty()).take(MAX_PIECES) {
        let here = piece.len().min(MAX_DATA - length);
        for slice in slices(&piece[..here]) {
            part[used] = slice;
            used += 1;
        }
        length += here;
    }
    (part, used, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_pieces_and_bytes_go_into_one_part() {
        let mut many = vec![Bytes::from_static(b"x"); MAX_PIECES + 3];
        many.insert(1, Bytes::new());
        let (slices, used, length) = one_part(&many);
        assert_eq!(
            (used, length),
            (MAX_PIECES + 1, MAX_PIECES),
            "one that is empty takes no place"
        );
        assert!(slices[1..used].iter().all(|slice| **slice == *b"x"));
        let large =
            [Bytes::from(vec![0; MAX_DATA - 1]), Bytes::from_static(b"xyz"), many.remove(0)];
        let (slices, used, length) = one_part(&large);
        assert_eq!((used, length), (2 + MAX_DATA.div_ceil(MAX_COPY), MAX_DATA));
        assert_eq!(*slices[used - 1], *b"x");
    }

    /// As many slices as any pieces make: the last of them is too long for the part.
    #[test]
    fn the_slices_of_a_part_have_room() {
        let mut pieces = vec![Bytes::from_static(b"x"); MAX_PIECES - 1];
        pieces.push(Bytes::from(vec![0; MAX_DATA]));
        let (_, used, length) = one_part(&pieces);
        assert_eq!((used, length), (MAX_SLICES, MAX_DATA));
    }
}
