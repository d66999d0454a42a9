//! The connection below a lasting flow for the time being: a TLS connection of its own, or a QUIC
//! stream. On either the flow is cut into parts.

use std::{
    any::Any,
    collections::VecDeque,
    future::Future as _,
    io::{self, IoSlice, Write as _},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use rap_mesh_core::{
    carrier::{Carrier, MAX_DATA, Malformed, Part, Parts},
    ended::Close,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _},
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_rustls::TlsStream;

use super::super::{
    Inlet, Outlet,
    copies::{MAX_COPY, slices},
    lost, tcp,
};
use crate::tcp::TlsIo;

/// Pieces that are received from a QUIC stream at once.
const CHUNKS: usize = 32;
/// How long a connection that is no longer needed stays, so that the other side reads all of it.
const LINGER: Duration = Duration::from_secs(1);

/// INVARIANT: `io` is there until the leg is dropped.
pub(crate) struct Leg {
    io: Option<Io>,
    parts: Parts,
    /// What it is counted among.
    _place: Option<Box<dyn Any + Send>>,
}

enum Io {
    Tls(Box<Tls>),
    Quic(Box<Quic>),
}

struct Tls {
    tls: TlsIo,
    input: BytesMut,
    _place: Option<OwnedSemaphorePermit>,
}

struct Quic {
    send: SendStream,
    recv: RecvStream,
    input: VecDeque<Bytes>,
    output: VecDeque<Bytes>,
}

/// The connection is gone, and what it said then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone(pub(super) Option<Close>);

pub(super) enum Got {
    Data(Bytes),
    Said(Part),
}

impl Leg {
    /// What carried the frames of an opening carries the flow from now on. `None` when something
    /// came that does not belong to it.
    pub(crate) fn new(outlet: Outlet, inlet: Inlet) -> Option<Self> {
        let (io, parts) = match (outlet, inlet) {
            (Outlet::Tcp(outlet), Inlet::Tcp(inlet)) => {
                let (tls, place, input, parts) = tcp::unpipe(outlet, inlet)?;
                (Io::Tls(Box::new(Tls { tls, input, _place: place })), parts)
            }
            (Outlet::Quic(send), Inlet::Quic(recv)) => {
                let (input, output) = (VecDeque::new(), VecDeque::new());
                (Io::Quic(Box::new(Quic { send, recv, input, output })), Parts::default())
            }
            _ => return None,
        };
        Some(Self { io: Some(io), parts: parts.lasting(), _place: None })
    }

    /// The same, which holds a place for as long as it lives.
    pub(crate) fn in_place(mut self, place: impl Any + Send) -> Self {
        self._place = Some(Box::new(place));
        self
    }

    pub(super) fn carrier(&self) -> Carrier {
        match self.io.as_ref().expect("INVARIANT") {
            Io::Tls(_) => Carrier::Tcp,
            Io::Quic(_) => Carrier::Quic,
        }
    }

    /// The next that the other side sent.
    pub(super) fn poll_got(&mut self, context: &mut Context<'_>) -> Poll<Result<Got, Gone>> {
        loop {
            let Self { io, parts, .. } = self;
            let taken = match io.as_mut().expect("INVARIANT") {
                Io::Tls(tls) => tls.take(parts),
                Io::Quic(quic) => quic.take(parts),
            };
            match taken {
                Ok(Some(got)) => return Poll::Ready(Ok(got)),
                Ok(None) => {}
                Err(Malformed) => return Poll::Ready(Err(Gone(None))),
            }
            match self.io() {
                Io::Tls(tls) => {
                    let filled = tcp::poll_fill(&mut tls.tls, &mut tls.input, context);
                    ready!(filled).map_err(|_| Gone(None))?;
                }
                Io::Quic(quic) => ready!(quic.poll_fill(context))?,
            }
        }
    }

    /// Hands one part to the connection, which takes it whole and sends it when it is flushed.
    /// `pieces` are its data.
    pub(super) fn put(&mut self, head: &[u8], pieces: &mut Vec<Bytes>) -> Result<(), Gone> {
        match self.io() {
            Io::Tls(tls) => tls.put(head, pieces).map_err(|_| Gone(None))?,
            Io::Quic(quic) => {
                quic.output.push_back(Bytes::copy_from_slice(head));
                quic.output.extend(pieces.drain(..));
            }
        }
        pieces.clear();
        Ok(())
    }

    /// Waits until nothing is left of what was put.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self.io() {
            Io::Tls(tls) => Pin::new(&mut tls.tls).poll_flush(context).map_err(|_| Gone(None)),
            Io::Quic(quic) => quic.poll_flush(context),
        }
    }

    fn io(&mut self) -> &mut Io {
        self.io.as_mut().expect("INVARIANT")
    }
}

impl Tls {
    fn take(&mut self, parts: &mut Parts) -> Result<Option<Got>, Malformed> {
        loop {
            let Some((skip, part)) = parts.next(&self.input)? else { return Ok(None) };
            self.input.advance(skip);
            match part {
                Part::Data(0) => {}
                Part::Data(length) => {
                    return Ok(Some(Got::Data(self.input.split_to(length).freeze())));
                }
                said => return Ok(Some(Got::Said(said))),
            }
        }
    }

    fn put(&mut self, head: &[u8], pieces: &[Bytes]) -> io::Result<()> {
        let mut part = Vec::with_capacity(1 + pieces.len() + MAX_DATA / MAX_COPY);
        part.push(IoSlice::new(head));
        part.extend(pieces.iter().flat_map(|piece| slices(piece)));
        let expected: usize = part.iter().map(|slice| slice.len()).sum();
        // Not through the stream, which would call the kernel for each part.
        let written = match &mut self.tls {
            TlsStream::Client(stream) => stream.get_mut().1.writer().write_vectored(&part),
            TlsStream::Server(stream) => stream.get_mut().1.writer().write_vectored(&part),
        };
        if written? == expected { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl Quic {
    fn take(&mut self, parts: &mut Parts) -> Result<Option<Got>, Malformed> {
        loop {
            let Some(front) = self.input.front_mut() else { return Ok(None) };
            let Some((skip, part)) = parts.next(front)? else {
                // The head of a part is in two pieces, or all of this one was taken.
                let front = self.input.pop_front().unwrap_or_default();
                match self.input.front_mut() {
                    Some(next) if !front.is_empty() => {
                        *next = [&front[..], &next[..]].concat().into();
                    }
                    Some(_) => {}
                    None => {
                        if !front.is_empty() {
                            self.input.push_front(front);
                        }
                        return Ok(None);
                    }
                }
                continue;
            };
            front.advance(skip);
            match part {
                Part::Data(0) => {}
                Part::Data(length) => return Ok(Some(Got::Data(front.split_to(length)))),
                said => return Ok(Some(Got::Said(said))),
            }
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        let read = ready!(pin!(self.recv.read_chunks(&mut chunks)).poll(context));
        let count = match read {
            Ok(Some(count)) => count,
            Ok(None) => return Poll::Ready(Err(Gone(None))),
            Err(ReadError::ConnectionLost(error)) => return Poll::Ready(Err(Gone(lost(&error)))),
            Err(_) => return Poll::Ready(Err(Gone(None))),
        };
        self.input.extend(chunks.into_iter().take(count));
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.output.is_empty() {
            let pieces = self.output.make_contiguous();
            let written = ready!(pin!(self.send.write_chunks(pieces)).poll(context));
            let written = written.map_err(|error| match error {
                WriteError::ConnectionLost(error) => Gone(lost(&error)),
                _ => Gone(None),
            })?;
            self.output.drain(..written.chunks);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        let (Some(Io::Tls(tls)), Ok(runtime)) =
            (self.io.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // Closing a socket with bytes unread resets it, and what was sent last can be lost.
        runtime.spawn(timeout(LINGER, linger(*tls)));
    }
}

async fn linger(Tls { mut tls, _place, .. }: Tls) {
    if tls.flush().await.is_err() || tls.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 4096];
    while tls.read(&mut rest).await.is_ok_and(|length| length > 0) {}
}
