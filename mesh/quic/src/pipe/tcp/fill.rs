//! Collecting what arrives on a TLS connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::AsyncBufRead as _;

use crate::{pipe::copies::append, tcp::TlsIo};

/// What is collected before it is passed on.
const FILL: usize = 64 * 1024;
/// Less than this gets no more room than it needs: whoever keeps it would keep the whole buffer.
const LITTLE: usize = 8 * 1024;

/// Receives what there is, at most about [`FILL`] bytes. The end of the connection is an error:
/// whoever finishes says so in a part. While nothing comes, no buffer is kept for it.
pub(in crate::pipe) fn poll_fill(
    tls: &mut TlsIo,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let before = input.len();
    loop {
        let received = match Pin::new(&mut *tls).poll_fill_buf(context) {
            // What came before the end or the failure counts; the next call finds it again.
            Poll::Ready(Err(_) | Ok([])) | Poll::Pending if input.len() > before => {
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Ok([])) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(received) => received?,
            Poll::Pending => {
                if input.is_empty() {
                    *input = BytesMut::new();
                }
                return Poll::Pending;
            }
        };
        if input.capacity() - input.len() < received.len() {
            // What is there already would have to be copied into a larger buffer.
            if input.len() > before {
                return Poll::Ready(Ok(()));
            }
            input.reserve(room_for(received.len()));
        }
        append(input, received);
        let length = received.len();
        Pin::new(&mut *tls).consume(length);
        if input.len() >= FILL {
            return Poll::Ready(Ok(()));
        }
    }
}

/// For what came first, and for what may come with it.
fn room_for(received: usize) -> usize {
    if received < LITTLE { received } else { received.max(FILL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keystroke_gets_no_large_buffer_and_bulk_gets_one() {
        assert_eq!(room_for(16), 16);
        assert_eq!(room_for(LITTLE - 1), LITTLE - 1);
        assert_eq!(room_for(LITTLE), FILL);
        assert_eq!(room_for(FILL + 1), FILL + 1);
    }
}
