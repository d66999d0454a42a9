//! The places of each organization's relays.

use rap_proto::OrganizationId;

use super::*;

const OF_THE_MANY: OrganizationId = OrganizationId::from_u128(1);
const OF_ONE: OrganizationId = OrganizationId::from_u128(2);
/// Its only relay.
const ONLY: u128 = 110;

fn organization(number: u128) -> OrganizationId {
    OrganizationId::from_u128(number)
}

fn assigned(role: NodeRole, organizations: &[OrganizationId]) -> Vec<RoleScope> {
    vec![RoleScope { role, organizations: Some(organizations.iter().copied().collect()) }]
}

fn relay_of(number: u128, organization: OrganizationId) -> Listed {
    Listed { roles: assigned(NodeRole::RelayNode, &[organization]), ..listed(number) }
}

/// One organization has several relays, another one a single one that is far away; egresses are better
/// company than all of them.
fn many_of_one_and_one_of_another() -> (Bench, Directory) {
    let mut bench = Bench::new(Kind::Normal);
    bench.answers = (100..106).map(|number| (node(number), 20_000)).collect();
    bench.answers.insert(node(ONLY), 150_000);
    bench.answers.extend((200..240).map(|number| (node(number), 100)));
    let mut known = directory(1, 200..240);
    known.listed.extend((100..106).map(|number| relay_of(number, OF_THE_MANY)));
    known.listed.push(relay_of(ONLY, OF_ONE));
    (bench, known)
}

fn is_near(bench: &Bench, number: u128) -> bool {
    bench.status(number).class != Class::Cold
}

fn forwards(bench: &Bench, number: u128) -> bool {
    is_near(bench, number) && bench.status(number).forwards == Some(true)
}

#[test]
fn a_place_is_kept_for_a_relay_of_each_organization() {
    for kind in Kind::ALL.iter().copied() {
        let (mut bench, known) = many_of_one_and_one_of_another();
        bench.book = PeerBook::new(PeerPolicy::of(kind), 7);
        let counts = PeerPolicy::of(kind).counts;
        // It is heard of when all places are taken.
        let others = |listed: &Listed| listed.node != node(ONLY);
        let without = known.listed.iter().filter(|it| others(it)).cloned().collect();
        let first = Directory { listed: without, ..known.clone() };
        bench.feed(Input::Directory { directory: first, at: bench.calendar() });
        bench.seconds(1_200);
        let newer = Directory { version: 2, ..known };
        bench.feed(Input::Directory { directory: newer, at: bench.calendar() });
        bench.seconds(60);
        for _ in 0..60 {
            assert!(forwards(&bench, ONLY), "{kind:?}: {:?}", bench.status(ONLY));
            let standing = bench.book.standing();
            assert!(standing.warm <= counts.most_warm, "{kind:?}");
            bench.seconds(60);
        }
        assert!((100..106).any(|number| forwards(&bench, number)), "{kind:?}");
        assert!(bench.most_active <= counts.most_active, "{kind:?}");
    }
}

#[test]
fn an_organizations_only_relay_that_failed_is_tried_again_soon_though_others_have_theirs() {
    for swallows in [false, true] {
        let (mut bench, known) = many_of_one_and_one_of_another();
        bench.feed(Input::Directory { directory: known, at: bench.calendar() });
        bench.seconds(600);
        assert!(forwards(&bench, ONLY));
        for _ in 0..3 {
            if swallows {
                bench.swallows.insert(node(ONLY));
            } else {
                bench.answers.remove(&node(ONLY));
            }
            bench.seconds(900);
            assert!(!forwards(&bench, ONLY), "{swallows}");
            assert!((100..106).any(|number| forwards(&bench, number)), "{swallows}");
            bench.swallows.clear();
            bench.answers.insert(node(ONLY), 150_000);
            bench.seconds(90);
            assert!(forwards(&bench, ONLY), "{swallows}: {:?}", bench.status(ONLY));
        }
    }
}

/// Each organization has a single relay, and there are more of them than warm places.
fn each_its_own(own: u128) -> Directory {
    let mut known = directory(1, 200..240);
    known.own = node(own);
    known.listed.extend((100..120).map(|number| relay_of(number, organization(number))));
    known
}

#[test]
fn of_more_organizations_than_places_the_first_in_the_nodes_own_order_have_one() {
    let places = 4;
    let order = |own: u128| {
        let mut bench = Bench::new(Kind::Normal);
        bench.feed(Input::Policy(super::told::counts(1, 2, places)));
        bench.answers = (200..240).map(|number| (node(number), 100)).collect();
        bench.feed(Input::Directory { directory: each_its_own(own), at: bench.calendar() });
        // Of those that come first, some answer long after the others.
        let first: Vec<u128> = bench.book.scopes[..usize::from(places)]
            .iter()
            .map(|scope| scope.unwrap().uuid().as_u128())
            .collect();
        let late = |number: &u128| first.contains(number);
        bench.answers.extend((100..120).filter(|it| !late(it)).map(|number| (node(number), 1_000)));
        bench.seconds(1_200);
        bench.answers.extend(first.iter().map(|number| (node(*number), 150_000)));
        bench.seconds(1_800);
        for number in &first {
            assert!(forwards(&bench, *number), "{number}: {:?}", bench.status(*number));
        }
        let standing = bench.book.standing();
        assert!(standing.active <= 2 && standing.warm <= usize::from(places));
        first
    };
    assert_ne!(order(1), order(2), "a fleet serves them all");
    assert_eq!(order(1), order(1));
}

#[test]
fn a_place_is_kept_for_whom_the_node_serves_alone() {
    let (mut bench, mut known) = many_of_one_and_one_of_another();
    known.own_roles = assigned(NodeRole::EntryNode, &[OF_THE_MANY]);
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    assert_eq!(bench.book.scopes, [Some(OF_THE_MANY)]);
}

#[test]
fn a_relay_of_the_platforms_leads_for_every_organization() {
    let (mut bench, mut known) = many_of_one_and_one_of_another();
    bench.answers.remove(&node(ONLY));
    bench.answers.insert(node(120), 20_000);
    known.listed.push(listed(120));
    bench.feed(Input::Directory { directory: known, at: bench.calendar() });
    bench.seconds(1_200);
    assert!(forwards(&bench, 120));
    assert_eq!(bench.book.missed_scopes(None), []);
    assert_eq!(bench.book.scopes[0], None, "its place comes before all");
}
