//! The catalogue: names, redaction, and what happens to events that nobody knows.

use std::collections::BTreeSet;

use super::samples::every_event;
use crate::{
    DomainEvent,
    aggregate::EventError,
    catalogue::{PERSONAL_FIELDS, REDACTED_FIELDS, catalogue, personal_fields, redacted_fields},
};

#[test]
fn every_type_is_named_category_dot_past_tense_and_stands_once() {
    let kinds = catalogue();
    let distinct: BTreeSet<_> = kinds.iter().copied().collect();
    assert_eq!(distinct.len(), kinds.len());
    for kind in kinds {
        let (category, verb) = kind.event_type.split_once('.').unwrap();
        let word = |text: &str| text.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
        assert!(word(category) && word(verb), "{}", kind.event_type);
        assert!(kind.schema >= 1);
    }
}

#[test]
fn every_type_has_a_sample_in_order() {
    let mut types: Vec<_> = catalogue().into_iter().map(|kind| kind.event_type).collect();
    types.dedup();
    let sampled: BTreeSet<_> = every_event().iter().map(|e| e.kind().event_type).collect();
    assert_eq!(sampled, types.into_iter().collect());
}

#[test]
fn sensitive_and_personal_fields_are_listed_and_never_printed() {
    for event in every_event() {
        let printed = format!("{event:?}");
        let hidden: Vec<&str> = printed
            .split(", ")
            .filter_map(|part| part.split_once(": …"))
            .map(|(before, _)| before.rsplit([' ', '{']).next().unwrap())
            .collect();
        let event_type = event.kind().event_type;
        let listed = [redacted_fields(event_type), personal_fields(event_type)].concat();
        assert_eq!(hidden, listed, "{event_type}: {printed}");
        assert!(!printed.contains("argon2") && !printed.contains("Alice"), "{printed}");
    }
    let known: BTreeSet<_> = catalogue().into_iter().map(|kind| kind.event_type).collect();
    let listed = REDACTED_FIELDS.iter().chain(PERSONAL_FIELDS);
    assert!(listed.map(|(event_type, _)| event_type).all(|listed| known.contains(listed)));
}

#[test]
fn unknown_events_are_errors() {
    for (event_type, schema) in [
        ("organization.dissolved", 1),
        ("organization.created", 2),
        ("resource.created", 0),
        ("nonsense.happened", 1),
        ("organization", 1),
        ("", 1),
    ] {
        let unknown = EventError::Unknown { event_type: event_type.to_owned(), schema };
        assert_eq!(DomainEvent::decode(event_type, schema, &[0x80]), Err(unknown));
    }
}

#[test]
fn a_payload_of_another_shape_is_an_error() {
    for event in every_event() {
        let kind = event.kind();
        let mut payload = event.encode();
        let read = |payload: &[u8]| DomainEvent::decode(kind.event_type, kind.schema, payload);
        let malformed = |payload: &[u8]| matches!(read(payload), Err(EventError::Malformed { .. }));
        assert!(malformed(&payload[..payload.len() - 1]), "{event:?} cut short");
        assert!(malformed(&[0x81, 0xa1, b'x', 0xc0]), "{event:?} with an unknown field");
        payload.push(0xc0);
        assert!(malformed(&payload), "{event:?} with a trailing byte");
    }
}
