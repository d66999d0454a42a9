//! Batches of datagrams that a relayed flow forwards.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
};

use quinn_udp::{EcnCodepoint, RecvMeta};
use rap_mesh_core::bounds::Run;

/// Datagrams, or runs of them, that are received with one call.
const AT_ONCE: usize = 16;
/// Runs of one batch: as many as make a short turn of a flow whose datagrams the kernel does not put
/// together.
const MAX_RUNS: usize = 64;
/// Room for one run: as much as the kernel puts together.
const RUN_BYTES: usize = 64 * 1024;

/// Room for one batch. Only what is used of it takes up memory.
///
/// INVARIANT: the runs are in `bytes`, one behind the other and before `used`.
pub(super) struct Batch {
    bytes: Vec<u8>,
    runs: Vec<Received>,
    used: usize,
    /// What was taken from the socket, as the link counts it, whether or not it goes on.
    taken: usize,
    strangers: u64,
}

/// A run that came from the flow's peer.
struct Received {
    start: usize,
    run: Run,
    ecn: Option<EcnCodepoint>,
    /// How many of its datagrams go on, the first ones.
    datagrams: usize,
}

/// Whom a flow is received from.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) peer: SocketAddr,
    /// No part of the flow, as often as it comes.
    pub(super) knock: Option<&'a [u8]>,
}

/// Datagrams of this size, but for the last, that can be sent together.
pub(super) struct Piece<'a> {
    pub(super) contents: &'a [u8],
    pub(super) stride: usize,
    pub(super) ecn: Option<EcnCodepoint>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; AT_ONCE * RUN_BYTES],
            runs: Vec::with_capacity(MAX_RUNS),
            used: 0,
            taken: 0,
            strangers: 0,
        }
    }

    /// Takes what there is in place of what it holds, of about as many bytes as have `room`: the last
    /// run may go beyond it, as how much that is is not known before. `receive` takes at most so many
    /// runs, and says how many.
    ///
    /// # Errors
    /// Those of `receive`, when nothing was taken before.
    pub(super) fn fill(
        &mut self,
        room: usize,
        from: From<'_>,
        mut receive: impl FnMut(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.runs.clear();
        (self.used, self.taken, self.strangers) = (0, 0, 0);
        loop {
            let places = self.places(room);
            if places == 0 {
                return Ok(());
            }
            let mut metas = [RecvMeta::default(); AT_ONCE];
            let mut rooms = self.bytes[self.used..].chunks_mut(RUN_BYTES);
            let mut slices: [IoSliceMut<'_>; AT_ONCE] =
                std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
            match receive(&mut slices[..places], &mut metas) {
                Ok(received) => {
                    self.sort(&metas[..received], from);
                    if received < places {
                        return Ok(());
                    }
                }
                // What was taken goes on first.
                Err(_) if self.taken > 0 => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// How many datagrams were left out because they came from elsewhere.
    pub(super) const fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Leaves out the last datagrams of a run that `admit` does not want. Says how many bytes stay, as
    /// the link counts them.
    pub(super) fn shorten(&mut self, mut admit: impl FnMut(Run) -> usize) -> usize {
        let weights = self.runs.iter_mut().map(|received| {
            received.datagrams = admit(received.run).min(received.datagrams);
            received.run.weight_of(received.datagrams)
        });
        weights.sum()
    }

    /// What goes on, in pieces of at most so many datagrams.
    pub(super) fn pieces(&self, segments: usize) -> impl Iterator<Item = Piece<'_>> {
        let runs = self.runs.iter().filter(|received| received.datagrams > 0);
        runs.flat_map(move |&Received { start, run, ecn, datagrams }| {
            let stride = run.stride.max(1);
            let contents = &self.bytes[start..start + run.bytes_of(datagrams)];
            // A datagram of no bytes is one, too.
            let empty = contents.is_empty().then_some(contents);
            let pieces = contents.chunks(stride.saturating_mul(segments.max(1))).chain(empty);
            pieces.map(move |contents| Piece { contents, stride, ecn })
        })
    }

    /// How many runs may be received next so that there is room for all of them.
    fn places(&self, room: usize) -> usize {
        let left = room.saturating_sub(self.taken);
        let places = if left == 0 { 0 } else { (left / RUN_BYTES).clamp(1, AT_ONCE) };
        let rooms = (self.bytes.len() - self.used) / RUN_BYTES;
        places.min(rooms).min(MAX_RUNS - self.runs.len())
    }

    /// Sorts out what a call received behind what is there, a run in each room. What others sent
    /// before the socket was told who its peer is goes no further, nor a knock.
    fn sort(&mut self, metas: &[RecvMeta], from: From<'_>) {
        let first = self.used;
        for (place, meta) in metas.iter().enumerate() {
            let start = first + place * RUN_BYTES;
            let run = Run { bytes: meta.len, stride: meta.stride };
            let datagrams = run.datagrams();
            self.used = start + run.bytes;
            self.taken += run.weight_of(datagrams);
            let contents = &self.bytes[start..self.used];
            let is_knock = |knock| {
                !contents.is_empty() && contents.chunks(meta.stride.max(1)).all(|one| one == knock)
            };
            if !is_same(meta.addr, from.peer) {
                self.strangers += datagrams as u64;
            } else if !from.knock.is_some_and(is_knock) {
                self.runs.push(Received { start, run, ecn: meta.ecn, datagrams });
            }
        }
    }
}

fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

#[cfg(test)]
mod tests;
