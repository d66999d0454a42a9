//! The spool's file: a head, then one frame per observation, appended.
//!
//! ```text
//! "RAPL" 0x01  base (8 bytes, big-endian)  SHA-256 of both, the first 16 bytes
//! frame: length (4 bytes, big-endian)  SHA-256 of the body, the first 16 bytes  body
//! ```
//!
//! The base is a sequence number that no observation before the head was written had reached.

use rap_proto::{
    Digest, codec,
    observation::{Observation, Spooled},
};

use super::MAX_SPOOLED;

const MAGIC: &[u8; 5] = b"RAPL\x01";
const HEAD_BYTES: usize = 5 + 8 + 16;
const FRAME_HEAD_BYTES: usize = 4 + 16;
/// The largest frame's body; an observation takes a few hundred bytes.
pub const MAX_FRAME_BYTES: usize = 1024;
/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 4 * (HEAD_BYTES + MAX_SPOOLED * (FRAME_HEAD_BYTES + 1024));
/// How far the sequence is moved when a file was not whole: further than such a file can count.
const GAP: u64 = 1 << 20;
/// No spool ever counts this far: a file that says so was not written by an agent.
const GREATEST_SEQUENCE: u64 = 1 << 62;

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub kept: Vec<Spooled>,
    pub next_sequence: u64,
    /// Nothing was torn or damaged.
    pub whole: bool,
}

impl Default for Found {
    /// There is no file: the first sequence is one.
    fn default() -> Self {
        Self { kept: Vec::new(), next_sequence: 1, whole: true }
    }
}

pub(super) fn frame_too_large(observation: &Observation) -> bool {
    // Room for the sequence, the time and the names of the three fields.
    codec::encode(observation).len() + 64 > MAX_FRAME_BYTES
}

pub(super) fn whole<'a>(next: u64, kept: impl Iterator<Item = &'a Spooled>) -> Vec<u8> {
    let mut kept = kept.peekable();
    let base = kept.peek().map_or(next, |first| first.sequence);
    let mut bytes = [&MAGIC[..], &base.to_be_bytes()].concat();
    let sum = checksum(&bytes);
    bytes.extend(sum);
    bytes.extend(frames(kept));
    bytes
}

pub(super) fn frames<'a>(observations: impl Iterator<Item = &'a Spooled>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in observations {
        let body = codec::encode(one);
        let length = u32::try_from(body.len()).expect("bounded by MAX_FRAME_BYTES");
        bytes.extend(length.to_be_bytes());
        bytes.extend(checksum(&body));
        bytes.extend(body);
    }
    bytes
}

pub(super) fn read(bytes: &[u8]) -> Found {
    let Some((head, mut rest)) = bytes.split_at_checked(HEAD_BYTES) else {
        return lost_head();
    };
    let (stated, sum) = head.split_at(HEAD_BYTES - 16);
    if !stated.starts_with(MAGIC) || checksum(stated) != *sum {
        return lost_head();
    }
    let base = u64::from_be_bytes(stated[5..].try_into().expect("eight bytes follow the magic"));
    if base > GREATEST_SEQUENCE {
        return lost_head();
    }
    let mut found = Found { kept: Vec::new(), next_sequence: base, whole: true };
    while !rest.is_empty() {
        let Some((one, after)) = read_frame(rest, found.next_sequence) else {
            found.whole = false;
            found.next_sequence += GAP;
            break;
        };
        found.next_sequence = one.sequence + 1;
        found.kept.push(one);
        rest = after;
    }
    // More than a spool holds can only be what was confirmed and not yet cut off.
    let extra = found.kept.len().saturating_sub(MAX_SPOOLED);
    found.kept.drain(..extra);
    found
}

/// A head that cannot be read was replaced by nobody here: begin far above anything it counted.
fn lost_head() -> Found {
    Found { kept: Vec::new(), next_sequence: 1 << 40, whole: false }
}

fn read_frame(bytes: &[u8], at_least: u64) -> Option<(Spooled, &[u8])> {
    let (head, rest) = bytes.split_at_checked(FRAME_HEAD_BYTES)?;
    let length = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    if length > MAX_FRAME_BYTES {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length)?;
    if checksum(body) != head[4..] {
        return None;
    }
    let one: Spooled = codec::decode(body, MAX_FRAME_BYTES).ok()?;
    (at_least..=GREATEST_SEQUENCE).contains(&one.sequence).then_some((one, rest))
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let digest = Digest::of(bytes);
    digest.as_bytes()[..16].try_into().expect("a digest has 32 bytes")
}
