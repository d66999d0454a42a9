#![allow(clippy::unwrap_used)]

use std::{collections::VecDeque, net::Ipv4Addr};

use rap_mesh_core::{
    bounds::HEADER_BYTES,
    lane_turns::{LONG_TURN, SHORT_TURN},
};

use super::*;

const KNOCK: &[u8] = b"a knock";

fn host(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What waits in a socket: runs of whom, their bytes, and the size of one datagram of them.
struct Socket {
    waiting: VecDeque<(SocketAddr, Vec<u8>, usize)>,
    /// How many runs each call was asked for.
    asked: Vec<usize>,
}

impl Socket {
    fn holding(waiting: impl IntoIterator<Item = (SocketAddr, Vec<u8>, usize)>) -> Self {
        Self { waiting: waiting.into_iter().collect(), asked: Vec::new() }
    }

    /// So many runs of the flow's peer.
    fn full(runs: usize, bytes: usize, stride: usize) -> Self {
        Self::holding((0..runs).map(|_| (host(1), vec![7; bytes], stride)))
    }

    fn receive(
        &mut self,
        rooms: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.asked.push(rooms.len());
        if self.waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let received = self.waiting.len().min(rooms.len());
        for (place, (from, bytes, stride)) in self.waiting.drain(..received).enumerate() {
            rooms[place][..bytes.len()].copy_from_slice(&bytes);
            metas[place] = RecvMeta { addr: from, len: bytes.len(), stride, ..RecvMeta::default() };
        }
        Ok(received)
    }

    fn fill(&mut self, batch: &mut Batch, room: usize) -> io::Result<()> {
        let from = From { peer: host(1), knock: Some(KNOCK) };
        batch.fill(room, from, |rooms, metas| self.receive(rooms, metas))
    }

    /// What a turn takes and passes on: datagrams, and bytes as the link counts them.
    fn taken(&mut self, room: usize) -> (usize, usize) {
        let mut batch = Batch::new();
        self.fill(&mut batch, room).unwrap();
        let mut datagrams = 0;
        let bytes = batch.shorten(|run| {
            datagrams += run.datagrams();
            run.datagrams()
        });
        (datagrams, bytes)
    }
}

#[test]
fn a_short_turn_takes_as_many_bytes_whether_or_not_the_kernel_puts_datagrams_together() {
    let apart = Socket::full(100, 1_200, 1_200).taken(SHORT_TURN);
    assert_eq!(apart, (53, 53 * (1_200 + HEADER_BYTES)));
    let together = Socket::full(100, 6_000, 1_200).taken(SHORT_TURN);
    assert_eq!(together, (55, 55 * (1_200 + HEADER_BYTES)));
    for (_, bytes) in [apart, together] {
        assert!((SHORT_TURN..SHORT_TURN + 6_000 + 5 * HEADER_BYTES).contains(&bytes), "{bytes}");
    }
    let largest = RUN_BYTES - 1_000;
    let whole = Socket::full(100, largest, largest).taken(SHORT_TURN);
    assert_eq!(whole.0, 2, "the second may have been small");
}

#[test]
fn a_long_turn_is_one_call() {
    for bytes in [1_200, RUN_BYTES] {
        let mut socket = Socket::full(100, bytes, 1_200);
        socket.taken(LONG_TURN);
        assert_eq!((socket.asked, socket.waiting.len()), (vec![AT_ONCE], 100 - AT_ONCE));
    }
}

#[test]
fn a_batch_has_so_many_runs_and_no_more() {
    let mut socket = Socket::full(100, 1, 1);
    assert_eq!(socket.taken(SHORT_TURN).0, MAX_RUNS);
    assert_eq!(socket.waiting.len(), 100 - MAX_RUNS);
}

#[test]
fn what_there_was_goes_on_before_an_error_and_an_empty_socket_is_one() {
    let mut socket = Socket::full(3, 1_200, 1_200);
    let mut batch = Batch::new();
    socket.fill(&mut batch, SHORT_TURN).unwrap();
    assert_eq!(batch.pieces(1).count(), 3);
    let empty = socket.fill(&mut batch, SHORT_TURN);
    assert_eq!(empty.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(batch.pieces(1).count(), 0);
}

/// However many they are, a turn comes to its end.
#[test]
fn strangers_and_knocks_go_no_further_and_count_as_taken() {
    let knocks = (0..2_000).map(|_| (host(1), KNOCK.to_vec(), KNOCK.len()));
    let strangers = (0..2_000).map(|_| (host(2), Vec::new(), 0));
    for waiting in [knocks.collect::<Vec<_>>(), strangers.collect()] {
        let mut socket = Socket::holding(waiting);
        assert_eq!(socket.taken(SHORT_TURN), (0, 0));
        let weighs = HEADER_BYTES + if socket.waiting[0].0 == host(1) { KNOCK.len() } else { 0 };
        assert_eq!(2_000 - socket.waiting.len(), SHORT_TURN.div_ceil(weighs));
    }
    let mixed = [(host(1), b"true".to_vec(), 4), (host(2), b"false".to_vec(), 2)];
    let mut batch = Batch::new();
    Socket::holding(mixed).fill(&mut batch, LONG_TURN).unwrap();
    assert_eq!(batch.strangers(), 3);
    let pieces: Vec<&[u8]> = batch.pieces(9).map(|piece| piece.contents).collect();
    assert_eq!(pieces, [b"true"]);
}

#[test]
fn each_run_goes_on_in_pieces_as_far_as_it_is_admitted() {
    let runs = [(b"aabbc".to_vec(), 2), (Vec::new(), 0), (b"ddeeff".to_vec(), 2)];
    let runs = runs.map(|(bytes, stride)| (host(1), bytes, stride));
    let mut batch = Batch::new();
    Socket::holding(runs).fill(&mut batch, SHORT_TURN).unwrap();
    let pieces = |batch: &Batch, segments| -> Vec<(Vec<u8>, usize)> {
        batch.pieces(segments).map(|it| (it.contents.to_vec(), it.stride)).collect()
    };
    let of = |bytes: &[u8]| (bytes.to_vec(), 2);
    let empty = (Vec::new(), 1);
    let whole = [of(b"aabb"), of(b"c"), empty.clone(), of(b"ddee"), of(b"ff")];
    assert_eq!(pieces(&batch, 2), whole);
    let weights = batch.shorten(|run| run.datagrams().min(2));
    assert_eq!(weights, 4 + 4 + 5 * HEADER_BYTES);
    assert_eq!(pieces(&batch, 9), [of(b"aabb"), empty, of(b"ddee")]);
    batch.shorten(|_| 0);
    assert_eq!(pieces(&batch, 9), []);
}
