#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const ALL: Audience = Audience::Platform { everything: true };
const PLATFORM: Audience = Audience::Platform { everything: false };

fn organization(number: u128) -> OrganizationId {
    OrganizationId::from_u128(number)
}

fn of(number: u128) -> Audience {
    Audience::Organization(organization(number))
}

/// What stands at a position of the log that these tests are about.
fn leaf(position: u64) -> Digest {
    Digest::of(&position.to_be_bytes())
}

fn seen(position: u64) -> Seen {
    Seen { position, leaf: Some(leaf(position)) }
}

/// Somebody who does not know which event it was.
fn unsure(position: u64) -> Seen {
    Seen { position, leaf: None }
}

fn shown(position: u64, owner: Option<u128>, bytes: usize) -> Shown<String> {
    Shown {
        position,
        leaf: leaf(position),
        organization: owner.map(organization),
        to_platform: format!("platform {position}"),
        to_organization: owner.map(|owner| format!("organization {owner} {position}")),
        bytes,
    }
}

fn positions(taken: Taken<String>) -> (Vec<u64>, u64) {
    match taken {
        Taken::Events { events, through } => {
            assert_eq!(through, seen(through.position));
            let position = |(at, _): (Seen, String)| {
                assert_eq!(at, seen(at.position));
                at.position
            };
            (events.into_iter().map(position).collect(), through.position)
        }
        other => panic!("{other:?}"),
    }
}

/// Ten events behind position 100: of 1, of 2 and of nobody in turn.
fn window() -> EventWindow<String> {
    let mut window = EventWindow::new(seen(100));
    for position in 101..=110 {
        let owner = [Some(1), Some(2), None][(position as usize - 101) % 3];
        window.push(shown(position, owner, 10));
    }
    window
}

#[test]
fn each_audience_takes_its_own_in_its_own_rendering() {
    let window = window();
    assert_eq!(positions(window.take(ALL, seen(100), 1_000)), ((101..=110).collect(), 110));
    assert_eq!(positions(window.take(PLATFORM, seen(100), 1_000)), (vec![103, 106, 109], 110));
    assert_eq!(positions(window.take(of(2), seen(102), 1_000)), (vec![105, 108], 110));
    assert_eq!(positions(window.take(of(3), seen(100), 1_000)), (vec![], 110));
    let Taken::Events { events, .. } = window.take(of(1), seen(109), 1_000) else { panic!() };
    assert_eq!(events, [(seen(110), "organization 1 110".to_owned())]);
    let Taken::Events { events, .. } = window.take(ALL, seen(109), 1_000) else { panic!() };
    assert_eq!(events, [(seen(110), "platform 110".to_owned())]);
}

#[test]
fn what_is_taken_at_once_is_bounded_and_goes_on_where_it_ended() {
    let window = window();
    assert_eq!(positions(window.take(ALL, seen(100), 25)), (vec![101, 102], 102));
    assert_eq!(positions(window.take(ALL, seen(102), 1)), (vec![103], 103));
    assert_eq!(positions(window.take(of(1), seen(100), 20)), (vec![101, 104], 104));
    assert_eq!(positions(window.take(of(1), seen(104), 20)), (vec![107, 110], 110));
    // Somebody who knows more than the window waits for it.
    assert_eq!(positions(window.take(ALL, seen(115), 20)), (vec![], 115));
    // Somebody who is as far and knows less learns which event it was.
    assert_eq!(positions(window.take(ALL, unsure(110), 20)), (vec![], 110));
}

#[test]
fn both_bounds_push_the_oldest_out() {
    let mut window = EventWindow::new(seen(0));
    let many = MAX_WINDOW_EVENTS as u64 + 5;
    for position in 1..=many {
        window.push(shown(position, None, 1));
    }
    assert_eq!(window.size(), (MAX_WINDOW_EVENTS, MAX_WINDOW_EVENTS));
    assert_eq!(window.take(ALL, seen(4), 10), Taken::Behind);
    assert_eq!(positions(window.take(ALL, seen(5), 1)), (vec![6], 6));
    window.push(shown(many + 1, None, MAX_WINDOW_BYTES - 2));
    assert_eq!(window.size(), (3, MAX_WINDOW_BYTES));
    window.push(shown(many + 2, Some(1), MAX_WINDOW_BYTES + 1));
    assert_eq!(window.size().0, 1);
    assert_eq!(positions(window.take(of(1), seen(many + 1), 1)), (vec![many + 2], many + 2));
}

#[test]
fn a_watched_organization_is_not_behind_for_the_events_of_others() {
    let mut window = window();
    window.watch(of(1));
    let busy = MAX_WINDOW_EVENTS as u64 + 3;
    for position in 111..=110 + busy {
        window.push(shown(position, Some(2), 1));
    }
    // Of 1, positions 101 to 110 were pushed out; behind the last of them nothing is missing.
    assert_eq!(window.take(of(1), seen(109), 1), Taken::Behind);
    assert_eq!(positions(window.take(of(1), seen(110), 1)), (vec![], 110 + busy));
    assert_eq!(positions(window.take(of(1), seen(112), 1)), (vec![], 110 + busy));
    // Nobody watches 3: who comes now and was away is behind.
    assert_eq!(window.take(of(3), seen(112), 1), Taken::Behind);
    window.watch(of(1));
    window.unwatch(of(1));
    assert!(positions(window.take(of(1), seen(112), 1)).0.is_empty());
    window.unwatch(of(1));
    assert_eq!(window.take(of(1), seen(112), 1), Taken::Behind);
}

#[test]
fn after_a_skip_whoever_was_before_it_is_behind() {
    let mut window = window();
    window.watch(of(1));
    window.skip_to(seen(200));
    assert_eq!((window.end(), window.size()), (seen(200), (0, 0)));
    for audience in [ALL, PLATFORM, of(1), of(2)] {
        assert_eq!(window.take(audience, seen(199), 1), Taken::Behind);
        assert_eq!(positions(window.take(audience, seen(200), 1)), (vec![], 200));
    }
    window.push(shown(201, Some(1), 1));
    assert_eq!(positions(window.take(of(1), seen(200), 1)).0, [201]);
}

/// Another event than the one that somebody saw: in the window, at its end, before its first one.
#[test]
fn who_saw_another_event_than_stands_there_is_told() {
    let window = window();
    let other = |position| Seen { position, leaf: Some(Digest::of(b"lost")) };
    for position in [100, 105, 110] {
        for audience in [ALL, PLATFORM, of(1), of(3)] {
            assert_eq!(window.take(audience, other(position), 1_000), Taken::Replaced);
            assert!(matches!(window.take(audience, unsure(position), 1), Taken::Events { .. }));
        }
    }
    // Where the window holds nothing, it knows nothing.
    assert_eq!(window.take(ALL, other(99), 1), Taken::Behind);
    let Taken::Events { events, through } = window.take(ALL, other(111), 1) else { panic!() };
    assert_eq!((events, through), (vec![], other(111)));
}

#[test]
fn the_window_knows_what_stands_where_it_begins_and_where_it_ends() {
    let mut window = window();
    let known = |window: &EventWindow<String>| {
        let positions = 99..=205;
        positions.filter(|at| window.leaf_at(*at) == Some(leaf(*at))).collect::<Vec<_>>()
    };
    assert_eq!((known(&window), window.end()), ((100..=110).collect(), seen(110)));
    window.push(shown(111, None, MAX_WINDOW_BYTES));
    assert_eq!((known(&window), window.end()), (vec![110, 111], seen(111)));
    window.skip_to(seen(200));
    assert_eq!((known(&window), window.end()), (vec![200], seen(200)));
    // Whoever is as far and knows more keeps what it knows.
    window.skip_to(unsure(205));
    assert_eq!(window.leaf_at(205), None);
    assert_eq!(positions(window.take(ALL, seen(205), 1)), (vec![], 205));
}

#[test]
#[should_panic(expected = "no gaps")]
fn a_gap_is_not_taken_in() {
    EventWindow::new(seen(0)).push(shown(2, None, 1));
}

proptest! {
    /// Whoever takes from the window, and reads the log when behind, sees each event of its own once.
    #[test]
    fn nothing_is_missed_or_doubled(
        owners in prop::collection::vec(prop::option::of(1_u128..4), 1..120),
        sizes in prop::collection::vec(1_usize..MAX_WINDOW_BYTES / 8, 120),
        turns in prop::collection::vec(1_usize..9, 1..60),
    ) {
        for audience in [ALL, PLATFORM, of(1)] {
            let is_own = |position: u64| match audience {
                Audience::Platform { everything } => {
                    everything || owners[position as usize - 1].is_none()
                }
                Audience::Organization(_) => owners[position as usize - 1] == Some(1),
            };
            let mut window = EventWindow::new(seen(0));
            window.watch(audience);
            let mut follower = Follower::default();
            let mut coming = owners.iter().zip(&sizes).zip(1..);
            for turn in &turns {
                for ((owner, size), position) in coming.by_ref().take(*turn) {
                    window.push(shown(position, *owner, *size));
                }
                follower.step(&window, audience, &is_own);
            }
            while follower.cursor < window.end().position {
                follower.step(&window, audience, &is_own);
            }
            let all: Vec<u64> = (1..=window.end().position).filter(|position| is_own(*position)).collect();
            prop_assert_eq!(follower.seen, all);
        }
    }
}

#[derive(Default)]
struct Follower {
    cursor: u64,
    seen: Vec<u64>,
}

impl Follower {
    /// Takes what there is, or reads one event of the log.
    fn step(
        &mut self,
        window: &EventWindow<String>,
        audience: Audience,
        is_own: &impl Fn(u64) -> bool,
    ) {
        match window.take(audience, seen(self.cursor), 1) {
            Taken::Events { events, through } => {
                self.seen.extend(events.into_iter().map(|(seen, _)| seen.position));
                self.cursor = through.position;
            }
            Taken::Replaced => panic!("it is the same log"),
            Taken::Behind => {
                self.cursor += 1;
                self.seen.extend(Some(self.cursor).filter(|position| is_own(*position)));
            }
        }
    }
}
