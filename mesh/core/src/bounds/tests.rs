#![allow(clippy::unwrap_used)]

use super::*;

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1_000)
}

fn of(asker: u128, organization: Option<u128>) -> Whose {
    let organization = organization.map(OrganizationId::from_u128);
    Whose { asker: NodeId::from_u128(asker), organization }
}

const WIDE: Bound = Bound::new(8_000_000, 100_000_000_000);
/// A megabyte in a second, and 50,000 at once.
const BYTES: Bound = Bound::new(8_000_000, 8_000_000);
/// A thousand datagrams in a second, and 50 at once.
const DATAGRAMS: Bound = Bound::new(1_000, 100_000_000_000);

const fn within(flow: Bound, asker: Bound, organization: Bound) -> Limits {
    Limits { flow, asker, organization }
}

/// So many datagrams of a thousand bytes with their headers.
const fn run(datagrams: usize) -> Run {
    let stride = 1_000 - HEADER_BYTES;
    Run { bytes: datagrams * stride, stride }
}

#[test]
fn bytes_beyond_the_bound_of_a_flow_are_dropped_and_counted_and_the_flow_goes_on() {
    let mut bounds = Bounds::new(within(BYTES, WIDE, WIDE));
    bounds.begin(at(0), 1, of(1, None));
    assert_eq!(bounds.admit(at(0), 1, run(40)), 40);
    assert_eq!(bounds.admit(at(0), 1, run(40)), 10, "the first ones pass");
    assert_eq!(bounds.admit(at(0), 1, run(1)), 0);
    assert_eq!(bounds.admit(at(20), 1, run(40)), 20, "20 ms later");
    let counts = bounds.counts();
    assert_eq!((counts.datagrams, counts.bytes), (70, run(70).bytes as u64));
    assert_eq!((counts.dropped_datagrams, counts.dropped_bytes), (51, run(51).bytes as u64));
}

#[test]
fn datagrams_beyond_the_bound_are_dropped_however_small() {
    let mut bounds = Bounds::new(within(DATAGRAMS, WIDE, WIDE));
    bounds.begin(at(0), 1, of(1, None));
    let small = Run { bytes: 599, stride: 10 };
    assert_eq!(bounds.admit(at(0), 1, small), 50, "of sixty");
    assert_eq!(bounds.counts().dropped_bytes, 99, "the last one is shorter");
    assert_eq!(bounds.admit(at(10), 1, small), 10);
}

#[test]
fn datagrams_of_no_bytes_count_with_their_headers() {
    let empty = Run { bytes: 0, stride: 0 };
    let passed = |limits| {
        let mut bounds = Bounds::new(limits);
        bounds.begin(at(0), 1, of(1, None));
        let passed: usize = (0..2_000).map(|_| bounds.admit(at(0), 1, empty)).sum();
        let counts = bounds.counts();
        assert_eq!((counts.datagrams, counts.bytes), (passed as u64, 0));
        assert_eq!((counts.dropped_datagrams, counts.dropped_bytes), (2_000 - passed as u64, 0));
        passed
    };
    assert_eq!(passed(within(DATAGRAMS, WIDE, WIDE)), 50);
    assert_eq!(passed(within(BYTES, WIDE, WIDE)), 50_000 / HEADER_BYTES);
}

#[test]
fn all_flows_of_one_asker_have_one_bound_and_others_their_own() {
    let mut bounds = Bounds::new(within(WIDE, BYTES, WIDE));
    for (flow, asker) in [(1, 1), (2, 1), (3, 2)] {
        bounds.begin(at(0), flow, of(asker, None));
    }
    assert_eq!(bounds.admit(at(0), 1, run(50)), 50);
    assert_eq!(bounds.admit(at(0), 2, run(50)), 0);
    assert_eq!(bounds.admit(at(0), 3, run(50)), 50);
}

#[test]
fn all_legs_of_one_organization_have_one_bound_whoever_asks() {
    let mut bounds = Bounds::new(within(WIDE, WIDE, BYTES));
    for (flow, asker, organization) in [(1, 1, 1), (2, 2, 1), (3, 1, 2)] {
        bounds.begin(at(0), flow, of(asker, Some(organization)));
    }
    assert_eq!(bounds.admit(at(0), 1, run(50)), 50);
    assert_eq!(bounds.admit(at(0), 2, run(50)), 0, "another relay asked for it");
    assert_eq!(bounds.admit(at(0), 3, run(50)), 50);
}

#[test]
fn a_new_flow_brings_its_asker_no_new_bound() {
    let mut bounds = Bounds::new(within(WIDE, BYTES, WIDE));
    bounds.begin(at(0), 1, of(1, Some(1)));
    assert_eq!(bounds.admit(at(0), 1, run(50)), 50);
    bounds.end(1);
    bounds.begin(at(10), 2, of(1, Some(1)));
    assert_eq!(bounds.admit(at(10), 2, run(50)), 10);
    bounds.end(2);
    bounds.begin(at(1_000), 3, of(2, None));
    assert_eq!((bounds.askers.len(), bounds.organizations.len()), (1, 0), "and none is kept");
}

#[test]
fn a_stream_is_held_back_until_there_is_more_to_be_read_than_a_little() {
    let mut bounds = Bounds::new(within(WIDE, BYTES, WIDE));
    bounds.begin(at(0), 1, of(1, None));
    assert_eq!(bounds.quota(at(0), 1), Quota::Now(50_000));
    // A message of a resource is not cut where the bound is.
    bounds.passed(at(0), 1, 49_000);
    let Quota::At(later) = bounds.quota(at(0), 1) else { panic!("there is little left") };
    assert_eq!(later, at(3), "4 ms of it, less what is there");
    assert_eq!(bounds.quota(later, 1), Quota::Now(4_000));
    assert_eq!((bounds.counts().held_back, bounds.counts().bytes), (1, 49_000));
}

#[test]
fn the_slowest_bound_lets_a_datagram_through_now_and_then() {
    let slowest = Bound::new(1, 8_000);
    let mut bounds = Bounds::new(within(slowest, slowest, slowest));
    bounds.begin(at(0), 1, of(1, Some(1)));
    let stride = 1_200 - HEADER_BYTES;
    let datagram = Run { bytes: stride, stride };
    let passed = (0..60).filter(|second| bounds.admit(at(second * 1_000), 1, datagram) == 1);
    assert!((50..60).contains(&passed.count()), "a kilobyte in a second");
}

#[test]
fn a_flow_that_has_ended_counts_for_nobody() {
    let mut bounds = Bounds::new(within(BYTES, BYTES, BYTES));
    bounds.begin(at(0), 1, of(1, None));
    bounds.end(1);
    assert_eq!(bounds.admit(at(0), 1, run(100)), 100);
    bounds.begin(at(0), 2, of(1, None));
    assert_eq!(bounds.admit(at(0), 2, run(50)), 50);
}
