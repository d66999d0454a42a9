#![allow(clippy::unwrap_used)]

use super::*;

fn node(n: usize) -> NodeId {
    NodeId::from_u128(n as u128 + 1)
}

fn nodes(range: std::ops::Range<usize>) -> Vec<NodeId> {
    range.map(node).collect()
}

fn none() -> BTreeSet<NodeId> {
    BTreeSet::new()
}

#[test]
fn the_best_are_chosen_and_no_more_than_so_many() {
    assert_eq!(choose(&[nodes(0..3)], &none(), &none()), nodes(0..3).into_iter().collect());
    let many = choose(&[nodes(0..MAX_RELAYS + 5)], &none(), &none());
    assert_eq!(many, nodes(0..MAX_RELAYS).into_iter().collect());
    assert!(choose(&[], &none(), &none()).is_empty());
    assert!(choose(&[Vec::new()], &none(), &none()).is_empty());
}

#[test]
fn what_is_held_stays_while_it_is_named() {
    let held = BTreeSet::from([node(MAX_RELAYS + 2), node(999)]);
    let chosen = choose(&[nodes(0..MAX_RELAYS + 5)], &held, &none());
    assert_eq!(chosen.len(), MAX_RELAYS);
    assert!(chosen.contains(&node(MAX_RELAYS + 2)), "though others are better");
    assert!(!chosen.contains(&node(999)), "no snapshot names it");
}

#[test]
fn no_organization_is_left_without_a_relay_for_another_ones_many() {
    let (many, other) = (nodes(0..20), nodes(50..52));
    let chosen = choose(&[many.clone(), other.clone()], &none(), &none());
    assert!(chosen.contains(&node(0)) && chosen.contains(&node(50)));
    let held = many.iter().copied().take(MAX_RELAYS).collect();
    assert!(choose(&[many, other], &held, &none()).contains(&node(50)), "whatever is held");
}

#[test]
fn each_lane_has_a_relay_that_carries_it_whatever_is_held_for_others() {
    // The first ones carry keys and pictures, the last two bulk.
    let (keys, bulk) = (nodes(0..MAX_RELAYS + 1), nodes(50..52));
    let orders = [keys.clone(), keys.clone(), bulk.clone()];
    assert!(choose(&orders, &none(), &none()).contains(&node(50)));
    let held = keys.iter().copied().take(MAX_RELAYS).collect();
    assert!(choose(&orders, &held, &none()).contains(&node(50)), "another one gives way");
    // What is held carries bulk alone from now on.
    let orders = [nodes(20..22), nodes(20..22), keys];
    assert!(choose(&orders, &held, &none()).contains(&node(20)));
    // One that carries all of them is enough, and leaves places to other organizations.
    let all = nodes(0..2);
    let others: Vec<Vec<NodeId>> = (10..17).map(|n| vec![node(n)]).collect();
    let orders = [&[all.clone(), all.iter().rev().copied().collect()][..], &others].concat();
    let chosen = choose(&orders, &none(), &none());
    assert!(others.iter().flatten().all(|relay| chosen.contains(relay)), "{chosen:?}");
}

#[test]
fn others_get_the_turn_of_relays_that_rest_as_long_as_there_are_others() {
    let resting: BTreeSet<NodeId> = nodes(0..3).into_iter().collect();
    let many = nodes(0..MAX_RELAYS + 5);
    let chosen = choose(std::slice::from_ref(&many), &none(), &resting);
    assert_eq!(chosen, nodes(3..MAX_RELAYS + 3).into_iter().collect());
    let few = choose(&[nodes(0..4)], &none(), &resting);
    assert_eq!(few, nodes(0..4).into_iter().collect(), "all are asked where they are so few");
    let all = choose(std::slice::from_ref(&many), &none(), &many.iter().copied().collect());
    assert_eq!(all, nodes(0..MAX_RELAYS).into_iter().collect());
    let chosen = choose(&[many, nodes(0..1)], &none(), &resting);
    assert!(chosen.contains(&node(0)), "an organization's only one");
    let held = BTreeSet::from([node(1)]);
    assert!(choose(&[nodes(0..20)], &held, &resting).contains(&node(1)), "it is held by now");
}

#[test]
fn pauses_grow_to_their_limit_and_begin_anew_after_a_line_that_was_held() {
    let within = |pause: Duration, base: Duration| (base / 2..=base * 3 / 2).contains(&pause);
    let mut pauses = Pauses::new(7);
    let mut base = FIRST_PAUSE;
    for _ in 0..20 {
        assert!(within(pauses.after(None), base));
        base = LONGEST_PAUSE.min(base * 2);
    }
    assert_eq!(base, LONGEST_PAUSE);
    let short = Some(HELD_WELL - Duration::from_millis(1));
    assert!(
        within(pauses.after(short), LONGEST_PAUSE),
        "whoever hangs up at once is not asked at once"
    );
    assert!(within(pauses.after(Some(HELD_WELL)), FIRST_PAUSE));
}

#[test]
fn two_nodes_do_not_come_back_together() {
    assert_ne!(Pauses::new(1).after(None), Pauses::new(2).after(None));
}

const SMALL: Limits = Limits { nodes: 2, calls: 3, calls_of_one: 2, calls_of_asker: 9 };

#[test]
fn so_many_nodes_are_kept_and_the_newest_line_of_each_counts() {
    let mut table = Table::new(SMALL);
    let first = table.take(node(1)).unwrap();
    table.take(node(2)).unwrap();
    assert_eq!(table.take(node(3)), Err(RefusalCode::LimitReached));
    let second = table.take(node(1)).unwrap();
    assert!(!table.lose(node(1), first), "the newer one stays");
    assert_eq!(table.len(), 2);
    assert!(table.lose(node(1), second));
    assert!(table.take(node(3)).is_ok(), "there is a place again");
}

#[test]
fn so_many_calls_wait_of_one_and_of_all_and_their_places_come_back() {
    let mut table = Table::new(SMALL);
    assert_eq!(table.call(node(7), node(1)), Err(RefusalCode::PathUnavailable), "nobody is there");
    for n in [1, 2] {
        table.take(node(n)).unwrap();
    }
    for _ in 0..SMALL.calls_of_one {
        table.call(node(7), node(1)).unwrap();
    }
    assert_eq!(table.call(node(7), node(1)), Err(RefusalCode::LimitReached));
    table.call(node(7), node(2)).unwrap();
    assert_eq!(table.call(node(7), node(2)), Err(RefusalCode::LimitReached), "of all");
    table.called(node(7), node(1));
    table.call(node(7), node(2)).unwrap();
    // Also when the line is gone meanwhile.
    let line = table.take(node(1)).unwrap();
    table.lose(node(1), line);
    table.called(node(7), node(1));
    table.called(node(7), node(1));
    for _ in 0..2 {
        table.called(node(7), node(2));
    }
    table.take(node(1)).unwrap();
    for _ in 0..SMALL.calls_of_one {
        table.call(node(7), node(1)).unwrap();
    }
}

#[test]
fn one_who_asks_takes_not_all_calls() {
    let mut table = Table::new(Limits { calls_of_asker: 2, ..SMALL });
    for n in [1, 2] {
        table.take(node(n)).unwrap();
        table.call(node(7), node(n)).unwrap();
    }
    assert_eq!(table.call(node(7), node(2)), Err(RefusalCode::LimitReached));
    table.call(node(8), node(2)).unwrap();
    table.called(node(7), node(1));
    table.call(node(7), node(1)).unwrap();
}
