//! Items and lone messages of channels: however the bytes are cut, the same is read.

use rap_mesh_core::channel::{Item, Items, Malformed, Policy, alone_head, read_alone};
use rap_proto::ChannelKind;

pub fn target(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else { return };
    let piece = usize::from(*length).max(1);
    for policy in ChannelKind::ALL.iter().filter_map(|kind| Policy::of(*kind)) {
        assert_eq!(read(policy, bytes, piece), read(policy, bytes, bytes.len().max(1)));
    }
    if let Ok((channel, head, message)) = read_alone(bytes.to_vec().into()) {
        let written = [&alone_head(channel, head)[..], &message[..]].concat();
        assert_eq!(read_alone(written.into()), Ok((channel, head, message)));
    }
}

/// The items, in order, and whether something was none.
fn read(policy: &Policy, bytes: &[u8], piece: usize) -> (Vec<Item>, Result<(), Malformed>) {
    let mut items = Items::new(policy);
    let mut read = Vec::new();
    for piece in bytes.chunks(piece) {
        items.push(piece);
        loop {
            match items.take() {
                Ok(Some(item)) => read.push(item),
                Ok(None) => break,
                Err(malformed) => return (read, Err(malformed)),
            }
        }
    }
    (read, Ok(()))
}
