//! The frames of a message channel: however the bytes are cut, the same is read, nothing that was
//! not granted is taken, and what is read is what was written.

use rap_mesh_core::channel::{Broken, Decoder, End, Frame, Malformed, Policy, VERSION};
use rap_proto::{ChannelKind, Moment};

pub fn target(data: &[u8]) {
    let [kind, piece, bytes @ ..] = data else { return };
    let kind = ChannelKind::ALL[usize::from(*kind) % ChannelKind::ALL.len()];
    let Some(policy) = Policy::of(kind) else { return };
    let piece = usize::from(*piece).max(1);
    let heard = read(policy, bytes, piece);
    assert_eq!(heard, read(policy, bytes, bytes.len().max(1)));
    let (frames, _) = heard;
    let mut said = Default::default();
    frames.iter().for_each(|frame| frame.encode(&mut said));
    let rest = bytes.strip_prefix(&[VERSION]);
    assert!(frames.is_empty() || rest.is_some_and(|rest| rest.starts_with(&said)));
    end(policy, bytes, piece);
}

fn read(policy: &Policy, bytes: &[u8], piece: usize) -> (Vec<Frame>, Result<(), Malformed>) {
    let (mut decoder, mut frames) = (Decoder::new(policy), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.handle_bytes(piece);
        loop {
            match decoder.poll_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(malformed) => return (frames, Err(malformed)),
            }
        }
    }
    (frames, Ok(()))
}

/// An end that grants once and reads nothing holds no more than that and one message.
fn end(policy: &Policy, bytes: &[u8], piece: usize) {
    let (mut end, now) = (End::new(policy), Moment::from_micros(0));
    end.poll_bytes(now);
    let mut heard: Result<(), Broken> = Ok(());
    for piece in bytes.chunks(piece) {
        heard = heard.and_then(|()| end.handle_bytes(now, piece));
    }
    assert!(end.arrived().came <= policy.ahead.messages as u64);
    let mut held = 0;
    while let Some(message) = end.poll_message(now) {
        held += message.bytes.len();
    }
    assert!(held <= policy.ahead.bytes + policy.max_message);
}
