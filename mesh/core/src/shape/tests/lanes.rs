//! The order of the lanes, and their floors, to the byte.

use proptest::prelude::*;

use super::{super::turns::LanesAhead, *};

const GRANTS: usize = 16 * 16 * 20;

/// How many of [`GRANTS`] grants each lane has of which all of `waiting` want more than there is.
fn served(waiting: &[Lane], bytes: usize) -> BTreeMap<Lane, usize> {
    let mut ahead = LanesAhead::default();
    let mut served = BTreeMap::new();
    for _ in 0..GRANTS {
        let mut order = ahead.due().order().into_iter();
        let lane = order.find(|lane| waiting.contains(lane)).unwrap();
        ahead.count(lane, bytes);
        *served.entry(lane).or_insert(0) += 1;
    }
    served
}

/// Within what one turn of the floor makes.
fn is_near(grants: usize, expected: usize) -> bool {
    grants.abs_diff(expected) <= 16
}

#[test]
fn nobody_below_is_served_first_unless_its_floor_is_due() {
    let mut ahead = LanesAhead::default();
    assert_eq!(ahead.due().order(), [Lane::Interactive, Lane::Media, Lane::Bulk]);
    // What lower lanes have while nobody is before them gives nothing away later.
    ahead.count(Lane::Bulk, MAX_GRANT);
    ahead.count(Lane::Media, MIN_GRANT);
    assert_eq!(ahead.due().order(), [Lane::Interactive, Lane::Media, Lane::Bulk]);
    // Fifteen before bulk, of which fourteen were before media.
    (0..14).for_each(|_| ahead.count(Lane::Interactive, MIN_GRANT));
    assert_eq!(ahead.due().order(), [Lane::Bulk, Lane::Interactive, Lane::Media]);
    ahead.count(Lane::Interactive, MIN_GRANT);
    assert_eq!(ahead.due().order(), [Lane::Bulk, Lane::Media, Lane::Interactive]);
    ahead.count(Lane::Bulk, MIN_GRANT);
    assert_eq!(ahead.due().order(), [Lane::Media, Lane::Interactive, Lane::Bulk]);
}

proptest! {
    #[test]
    fn one_byte_in_sixteen_is_each_lower_lanes_beside_what_is_before_it(
        bytes in MIN_GRANT..=MAX_GRANT,
        interactive in any::<bool>(),
        media in any::<bool>(),
        bulk in any::<bool>(),
    ) {
        let waits = [(Lane::Interactive, interactive), (Lane::Media, media), (Lane::Bulk, bulk)];
        let waiting: Vec<Lane> =
            waits.into_iter().filter(|(_, waits)| *waits).map(|(lane, _)| lane).collect();
        prop_assume!(!waiting.is_empty());
        let served = served(&waiting, bytes);
        let of = |lane| served.get(&lane).copied().unwrap_or(0);
        let rest = if bulk && (interactive || media) {
            prop_assert!(is_near(of(Lane::Bulk), GRANTS / 16), "{served:?}");
            GRANTS - of(Lane::Bulk)
        } else {
            GRANTS
        };
        if media && interactive {
            prop_assert!(is_near(of(Lane::Media), rest / 16), "{served:?}");
        }
    }
}
