//! The parts of a flow on TCP: however the bytes are cut, the same is read.

use rap_mesh_core::carrier::{Malformed, Part, Parts};

pub fn target(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else { return };
    let piece = usize::from(*length).max(1);
    for parts in [Parts::default(), Parts::default().lasting()] {
        assert_eq!(read(parts.clone(), bytes, piece), read(parts, bytes, bytes.len().max(1)));
    }
}

/// The data, and everything else that was said, in order.
fn read(
    mut parts: Parts,
    bytes: &[u8],
    piece: usize,
) -> (Vec<u8>, Vec<Part>, Result<(), Malformed>) {
    let mut buffer = Vec::new();
    let (mut data, mut said) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parts.next(&buffer) {
                Ok(Some((skip, part))) => {
                    buffer.drain(..skip);
                    match part {
                        Part::Data(length) => data.extend(buffer.drain(..length)),
                        part => said.push(part),
                    }
                }
                Ok(None) => break,
                Err(malformed) => return (data, said, Err(malformed)),
            }
        }
    }
    (data, said, Ok(()))
}
