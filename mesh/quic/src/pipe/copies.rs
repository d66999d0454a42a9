//! Copying what TLS sends and receives, a little at a time.
//!
//! glibc 2.36, which Debian 12 has, copies what is longer than 2,112 bytes with `rep movsb` on every processor
//! that says to be fast at it. AMD's Zen 3 and 4 say so, and need twenty times as long where the destination
//! begins a few bytes further within its page than the source (glibc's bug 30994; later versions do
//! without). Here that is the rule: large buffers begin with a page, and rustls leaves five bytes free
//! in its own. What is shorter is copied with vectors, as fast as anything.

use std::io::IoSlice;

use bytes::BytesMut;

/// The most that is copied at once.
pub(super) const MAX_COPY: usize = 2048;

/// A piece, for somebody who copies each slice on its own.
pub(super) fn slices(piece: &[u8]) -> impl Iterator<Item = IoSlice<'_>> {
    piece.chunks(MAX_COPY).map(IoSlice::new)
}

/// Copies `bytes` to the end of what there is.
pub(super) fn append(to: &mut BytesMut, bytes: &[u8]) {
    to.reserve(bytes.len());
    bytes.chunks(MAX_COPY).for_each(|chunk| to.extend_from_slice(chunk));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_slice_is_longer_than_what_is_copied_at_once_and_together_they_are_the_piece() {
        let piece: Vec<u8> = (0..=255).cycle().take(3 * MAX_COPY + 1).collect();
        assert!(slices(&piece).all(|slice| slice.len() <= MAX_COPY));
        assert_eq!(slices(&piece).map(|slice| slice.to_vec()).collect::<Vec<_>>().concat(), piece);
        assert_eq!(slices(&[]).count(), 0);

        let mut whole = BytesMut::from(&b"before"[..]);
        append(&mut whole, &piece);
        assert_eq!(whole[..], [&b"before"[..], &piece[..]].concat());
    }
}
