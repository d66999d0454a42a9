#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn leased(connection: u128, generation: u64) -> Leased {
    Leased {
        connection: VpnConnectionId::from_u128(connection),
        generation: Generation::new(generation),
    }
}

#[test]
fn an_older_generation_is_refused_and_counted() {
    let mut fence = Fence::default();
    assert_eq!(fence.admit(leased(1, 4)), Ok(Admitted::Raise(leased(1, 4))));
    fence.raised(leased(1, 4)).unwrap();
    assert_eq!(fence.admit(leased(1, 4)), Ok(Admitted::Current));
    assert_eq!(fence.admit(leased(1, 3)), Err(RefusalCode::LeaseSuperseded));
    assert_eq!(fence.admit(leased(2, 3)), Ok(Admitted::Raise(leased(2, 3))), "another connection");
    assert_eq!(fence.admit(leased(1, 0)), Err(RefusalCode::Malformed));
    assert_eq!(fence.refused(), 1);
}

#[test]
fn a_generation_is_refused_as_soon_as_a_newer_one_is_seen() {
    let mut fence = Fence::new([leased(1, 4)]);
    assert_eq!(fence.admit(leased(1, 4)), Ok(Admitted::Current));
    assert_eq!(fence.admit(leased(1, 6)), Ok(Admitted::Raise(leased(1, 6))));
    assert_eq!(
        fence.admit(leased(1, 4)),
        Err(RefusalCode::LeaseSuperseded),
        "before it is durable"
    );
    assert_eq!(fence.admit(leased(1, 7)), Ok(Admitted::Raise(leased(1, 7))));
    assert_eq!(fence.raised(leased(1, 6)), Err(RefusalCode::LeaseSuperseded));
    assert_eq!(fence.raised(leased(1, 7)), Ok(()));
    assert_eq!(fence.admit(leased(1, 7)), Ok(Admitted::Current));
    assert_eq!(fence.highest(leased(1, 0).connection), Some(Generation::new(7)));
}

#[test]
fn a_full_fence_refuses_what_it_cannot_remember() {
    let mut fence = Fence::new((0..MAX_FENCED as u128).map(|connection| leased(connection, 1)));
    let one_more = leased(MAX_FENCED as u128, 1);
    assert_eq!(fence.admit(one_more), Err(RefusalCode::LimitReached));
    assert_eq!(fence.admit(leased(0, 2)), Ok(Admitted::Raise(leased(0, 2))), "known ones go on");
    fence.forget(leased(0, 2).connection);
    assert_eq!(fence.admit(one_more), Ok(Admitted::Raise(one_more)));
}

#[test]
fn only_the_holder_of_this_very_lease_is_the_holder() {
    let held = |generation, millis| {
        let remaining = Duration::from_millis(millis);
        Some(Held { generation: Generation::new(generation), remaining })
    };
    let asked = leased(1, 4);
    assert_eq!(check_held(asked, held(4, 1)), Ok(Duration::from_millis(1)));
    assert_eq!(check_held(asked, held(4, 0)), Err(RefusalCode::LeaseNotHeld), "its time is over");
    assert_eq!(check_held(asked, held(3, 1)), Err(RefusalCode::LeaseNotHeld), "not yet");
    assert_eq!(check_held(asked, held(5, 1)), Err(RefusalCode::LeaseSuperseded));
    assert_eq!(check_held(asked, None), Err(RefusalCode::LeaseNotHeld));
}

proptest! {
    /// Each step is (connection, generation, whether a crash comes before the mark is durable).
    #[test]
    fn what_was_let_through_is_never_followed_by_less(
        steps in proptest::collection::vec((0u128..3, 1u64..9, any::<bool>(), any::<bool>()), 1..80)
    ) {
        let mut disk: BTreeMap<VpnConnectionId, Leased> = BTreeMap::new();
        let mut let_through: BTreeMap<u128, u64> = BTreeMap::new();
        let mut fence = Fence::default();
        for (connection, generation, crash, written) in steps {
            let asked = leased(connection, generation);
            let passed = match fence.admit(asked) {
                Ok(Admitted::Current) => true,
                Ok(Admitted::Raise(mark)) => {
                    if !crash || written {
                        disk.insert(mark.connection, mark);
                    }
                    !crash && fence.raised(mark).is_ok()
                }
                Err(_) => false,
            };
            if passed {
                let before = let_through.insert(connection, generation).unwrap_or(0);
                prop_assert!(before <= generation, "{before} then {generation}");
            }
            if crash {
                fence = Fence::new(disk.values().copied());
            }
        }
    }
}
