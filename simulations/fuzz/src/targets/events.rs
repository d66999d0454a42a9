//! Stored events of every type and schema, upcasting included, and their envelopes.

use rap_events::{DomainEvent, Envelope, catalogue::catalogue, log::MAX_PAYLOAD_BYTES};

use crate::round_trip::check;

/// The first byte chooses the type and schema; the one behind the last is an envelope.
pub fn target(data: &[u8]) {
    let Some((first, payload)) = data.split_first() else { return };
    let kinds = catalogue();
    let Some(kind) = kinds.get(usize::from(*first)) else {
        return check::<Envelope, { MAX_PAYLOAD_BYTES + 4_096 }>(payload);
    };
    let Ok(event) = DomainEvent::decode(kind.event_type, kind.schema, payload) else { return };
    assert!(payload.len() <= MAX_PAYLOAD_BYTES);
    let newest = event.kind();
    assert_eq!(newest.event_type, kind.event_type);
    assert!(newest.schema >= kind.schema, "reading never makes an event older");
    let own = event.encode();
    // Named fields may take more room than the form that arrived; then it was never ours.
    if own.len() <= MAX_PAYLOAD_BYTES {
        let again = DomainEvent::decode(newest.event_type, newest.schema, &own);
        assert_eq!(again.as_ref(), Ok(&event));
        assert_eq!(event.encode(), own);
    }
    // Upcasters know each type's schemas and no others.
    let beyond = DomainEvent::decode(kind.event_type, u16::MAX, payload);
    assert!(beyond.is_err());
}
