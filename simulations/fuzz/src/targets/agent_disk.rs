//! The agent's files: whatever a disk gives back, reading it ends in a value or an error.

use std::fmt::Debug;

use rap_agent_core::{
    Machine as _,
    lease::LeaseFloor,
    record::{self, Enrollment, HeldCredentials, HeldManifest, HeldPeers, Record},
    servers::HeldServers,
    snapshot::Floor,
    spool::{self, MAX_SPOOLED, Spool},
    standing::Standing,
    witness::Witnessed,
};
use rap_proto::{Digest, Moment, bus::MAX_OBSERVATIONS};

use crate::round_trip::choose;

pub fn target(data: &[u8]) {
    choose(
        &[
            record::<Enrollment>,
            record::<HeldCredentials>,
            record::<HeldManifest>,
            record::<Floor>,
            record::<Standing>,
            sealed_record::<Enrollment>,
            sealed_record::<HeldCredentials>,
            sealed_record::<HeldManifest>,
            sealed_record::<Floor>,
            sealed_record::<Standing>,
            restore,
            sealed_spool,
            record::<Witnessed>,
            sealed_record::<Witnessed>,
            record::<LeaseFloor>,
            sealed_record::<LeaseFloor>,
            record::<HeldPeers>,
            sealed_record::<HeldPeers>,
            record::<HeldServers>,
            sealed_record::<HeldServers>,
        ],
        data,
    );
}

fn record<T: Record + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = record::decode::<T>(bytes) {
        let own = record::encode(&value);
        if own.len() <= T::MAX_BYTES {
            assert_eq!(record::decode::<T>(&own).as_ref(), Ok(&value));
        }
    }
}

/// The bytes as a record's body under a checksum that fits, which no fuzzer would find.
fn sealed_record<T: Record + PartialEq + Debug>(body: &[u8]) {
    let Ok(length) = u32::try_from(body.len()) else { return };
    let sum = Digest::of_parts(&[&[T::KIND], body]);
    let parts = [&b"RAPR"[..], &[T::KIND], &length.to_be_bytes(), sum.as_bytes(), body];
    let bytes = parts.concat();
    assert!(
        !matches!(
            record::decode::<T>(&bytes),
            Err(record::RecordError::Torn | record::RecordError::WrongKind)
        ),
        "the target no longer writes the format"
    );
    record::<T>(&bytes);
}

fn restore(bytes: &[u8]) {
    let mut spool = Spool::restore(Some(bytes), 1);
    assert!(spool.waiting() <= MAX_SPOOLED);
    // What was kept is sent, in order and in bounded batches.
    spool.handle_input(Moment::from_micros(0), spool::Input::Link { up: true });
    while let Some(effect) = spool.poll_effect() {
        if let spool::Effect::Send(batch) = effect {
            assert!(batch.len() <= MAX_OBSERVATIONS);
            assert!(batch.is_sorted_by(|one, next| one.sequence < next.sequence));
        }
    }
}

/// The bytes as a list of frames (length of two bytes, body), each under a checksum that fits.
fn sealed_spool(data: &[u8]) {
    let Some((base, mut rest)) = data.split_first_chunk::<8>() else { return };
    let mut file = [&b"RAPL\x01"[..], base].concat();
    file.extend(checksum(&file));
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (body, after) = after.split_at(length);
        file.extend((length as u32).to_be_bytes());
        file.extend(checksum(body));
        file.extend(body);
        rest = after;
    }
    restore(&file);
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(&Digest::of(bytes).as_bytes()[..16]);
    sum
}
