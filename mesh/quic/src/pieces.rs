//! What was received in many small pieces, as QUIC brings it: written with few calls to the kernel, or put
//! together for another stream.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

/// How many received pieces are passed on at once.
pub const PIECES: usize = 32;
/// Less than this is rather copied than kept as it is: it would keep all that arrived with it.
pub(crate) const LITTLE: usize = 8 * 1024;

/// Writes the first `bytes` of what the pieces hold, which lose them.
pub(crate) async fn write_first(
    to: &mut (impl AsyncWrite + Unpin),
    pieces: &mut [Bytes],
    mut bytes: usize,
) -> io::Result<()> {
    while bytes > 0 {
        let writing = poll_fn(|context| {
            let (slices, used) = slices(pieces, bytes);
            Pin::new(&mut *to).poll_write_vectored(context, &slices[..used])
        });
        let mut written = writing.await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes -= written;
        for piece in pieces.iter_mut() {
            let here = piece.len().min(written);
            written -= here;
            if here == piece.len() {
                // An empty rest would hold the memory of the whole.
                *piece = Bytes::new();
            } else {
                piece.advance(here);
            }
        }
    }
    Ok(())
}

/// Puts pieces together into the first where all of them are small. quinn looks through all pieces of a stream
/// that wait to be acknowledged for each packet that it sends, and each piece holds the memory of the datagrams
/// with which it came.
pub(crate) fn gather(pieces: &mut [Bytes]) {
    let filled = pieces.iter().filter(|piece| !piece.is_empty()).count();
    if filled < 2 || pieces.iter().any(|piece| piece.len() >= LITTLE) {
        return;
    }
    let whole = pieces.concat().into();
    pieces.fill(Bytes::new());
    pieces[0] = whole;
}

/// The first `bytes` of the pieces, and in how many slices they are.
fn slices(pieces: &[Bytes], mut bytes: usize) -> ([IoSlice<'_>; PIECES], usize) {
    let (mut slices, mut used) = ([IoSlice::new(&[]); PIECES], 0);
    for piece in pieces.iter().filter(|piece| !piece.is_empty()).take(PIECES) {
        let here = piece.len().min(bytes);
        if here > 0 {
            slices[used] = IoSlice::new(&piece[..here]);
            (used, bytes) = (used + 1, bytes - here);
        }
    }
    (slices, used)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::task::{Context, Poll};

    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    /// Takes so many bytes with each call, as a socket does whose room is short.
    struct Narrow(tokio::io::DuplexStream, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let most = bytes.len().min(self.1);
            Pin::new(&mut self.0).poll_write(context, &bytes[..most])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.poll_write(context, &bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn the_first_bytes_of_pieces_are_written_in_order_and_taken_from_them() {
        for most in 1..=10 {
            let (near, mut far) = duplex(64);
            let mut to = Narrow(near, most);
            let mut pieces = [&b"abc"[..], b"", b"de", b"fgh"].map(Bytes::from_static);
            write_first(&mut to, &mut pieces, 4).await.unwrap();
            assert_eq!(pieces.each_ref().map(Bytes::len), [0, 0, 1, 3], "{most} at once");
            write_first(&mut to, &mut pieces, 4).await.unwrap();
            drop(to);
            let mut written = String::new();
            far.read_to_string(&mut written).await.unwrap();
            assert_eq!(written, "abcdefgh", "{most} at once");
        }
    }

    #[test]
    fn so_many_pieces_and_bytes_are_written_at_once() {
        let many = vec![Bytes::from_static(b"xy"); PIECES + 3];
        let (all, used) = slices(&many, 2 * many.len());
        assert_eq!(used, PIECES);
        assert!(all.iter().all(|slice| **slice == *b"xy"));
        let (some, used) = slices(&many, 5);
        assert_eq!((used, &*some[2]), (3, &b"x"[..]));
    }

    #[test]
    fn small_pieces_become_one_and_large_ones_stay() {
        let mut pieces = [&b""[..], b"ab", b"", b"cde"].map(Bytes::from_static);
        gather(&mut pieces);
        assert_eq!(pieces, [&b"abcde"[..], b"", b"", b""]);

        let large = Bytes::from(vec![7; LITTLE]);
        for kept in [[large.clone(), Bytes::from_static(b"a")], [Bytes::new(), large]] {
            let mut pieces = kept.clone();
            gather(&mut pieces);
            let places = |pieces: &[Bytes; 2]| pieces.each_ref().map(|piece| piece.as_ptr());
            assert_eq!(places(&pieces), places(&kept), "nothing was copied");
        }
    }
}
