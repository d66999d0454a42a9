use std::time::Duration;

use proptest::prelude::*;
use rap_proto::{Moment, NodeId, Timestamp};

#[test]
fn ids_sort_by_age_and_read_back() {
    let older = NodeId::new(Timestamp::from_unix_millis(1_000), [0xff; 10]);
    let newer = NodeId::new(Timestamp::from_unix_millis(1_001), [0; 10]);
    assert!(older < newer);
    assert_eq!(older.to_string().parse(), Ok(older));
    assert_eq!(older.uuid().get_version_num(), 7);
}

#[test]
fn an_id_has_one_spelling() {
    let text = NodeId::from_u128(1).to_string();
    for wrong in ["", "1", &text[1..], &format!("{{{text}}}"), &text.replace('-', "")] {
        assert!(wrong.parse::<NodeId>().is_err(), "{wrong}");
    }
}

#[test]
fn a_time_is_written_as_rfc_3339() {
    let time = Timestamp::from_unix_millis(1_790_000_000_250);
    assert_eq!(time.to_string(), "2026-09-21T14:13:20.25Z");
    assert_eq!("2026-09-21T16:13:20.25+02:00".parse(), Ok(time));
    for wrong in ["", "yesterday", "2026-09-21", "1969-12-31T23:59:59Z", "2026-09-21 14:13"] {
        assert!(wrong.parse::<Timestamp>().is_err(), "{wrong}");
    }
}

#[test]
fn a_time_outside_what_can_be_written_is_refused_or_clamped() {
    let last = Timestamp::from_unix_millis(i64::MAX);
    for (text, nearest) in [
        ("0001-01-01T00:00:00+23:59", Timestamp::default()),
        ("1969-12-31T23:59:59.999Z", Timestamp::default()),
        // In UTC it is in the year 10000.
        ("9999-12-31T23:59:59-23:59", last),
    ] {
        assert!(text.parse::<Timestamp>().is_err(), "{text}");
        assert_eq!(Timestamp::parse_clamped(text), Ok(nearest), "{text}");
    }
    let within = "2026-09-21T14:13:20.25Z";
    assert_eq!(Timestamp::parse_clamped(within), within.parse());
    assert!(Timestamp::parse_clamped("yesterday").is_err());
}

#[test]
fn times_saturate_at_their_ends() {
    let last = Timestamp::from_unix_millis(i64::MAX);
    assert_eq!(last.to_string(), "9999-12-31T23:59:59.999Z");
    assert_eq!(last + Duration::MAX, last);
    assert_eq!(Timestamp::default() - Duration::MAX, Timestamp::default());
    assert_eq!(Timestamp::default().since(last), Duration::ZERO);
    let moment = Moment::from_micros(5);
    assert_eq!((moment + Duration::MAX).micros(), u64::MAX);
    assert_eq!(moment.since(Moment::from_micros(9)), Duration::ZERO);
}

proptest! {
    #[test]
    fn every_time_reads_back(millis in 0_i64..=253_402_300_799_999) {
        let time = Timestamp::from_unix_millis(millis);
        prop_assert_eq!(time.to_string().parse(), Ok(time));
        let json = serde_json::to_string(&time).unwrap();
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
    }
}
