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

fn shown(position: u64, owner: Option<u128>, bytes: usize) -> Shown<String> {
    Shown {
        position,
        organization: owner.map(organization),
        to_platform: format!("platform {position}"),
        to_organization: owner.map(|owner| format!("organization {owner} {position}")),
        bytes,
    }
}

fn positions(taken: Taken<String>) -> (Vec<u64>, u64) {
    match taken {
        Taken::Events { events, through } => {
            (events.into_iter().map(|(position, _)| position).collect(), through)
        }
        Taken::Behind => panic!("behind"),
    }
}

/// Ten events behind position 100: of 1, of 2 and of nobody in turn.
fn window() -> EventWindow<String> {
    let mut window = EventWindow::new(100);
    for position in 101..=110 {
        let owner = [Some(1), Some(2), None][(position as usize - 101) % 3];
        window.push(shown(position, owner, 10));
    }
    window
}

#[test]
fn each_audience_takes_its_own_in_its_own_rendering() {
    let window = window();
    assert_eq!(positions(window.take(ALL, 100, 1_000)), ((101..=110).collect(), 110));
    assert_eq!(positions(window.take(PLATFORM, 100, 1_000)), (vec![103, 106, 109], 110));
    assert_eq!(positions(window.take(of(2), 102, 1_000)), (vec![105, 108], 110));
    assert_eq!(positions(window.take(of(3), 100, 1_000)), (vec![], 110));
    let Taken::Events { events, .. } = window.take(of(1), 109, 1_000) else { panic!() };
    assert_eq!(events, [(110, "organization 1 110".to_owned())]);
    let Taken::Events { events, .. } = window.take(ALL, 109, 1_000) else { panic!() };
    assert_eq!(events, [(110, "platform 110".to_owned())]);
}

#[test]
fn what_is_taken_at_once_is_bounded_and_goes_on_where_it_ended() {
    let window = window();
    assert_eq!(positions(window.take(ALL, 100, 25)), (vec![101, 102], 102));
    assert_eq!(positions(window.take(ALL, 102, 1)), (vec![103], 103));
    assert_eq!(positions(window.take(of(1), 100, 20)), (vec![101, 104], 104));
    assert_eq!(positions(window.take(of(1), 104, 20)), (vec![107, 110], 110));
    // Somebody who knows more than the window waits for it.
    assert_eq!(positions(window.take(ALL, 115, 20)), (vec![], 115));
}

#[test]
fn both_bounds_push_the_oldest_out() {
    let mut window = EventWindow::new(0);
    let many = MAX_WINDOW_EVENTS as u64 + 5;
    for position in 1..=many {
        window.push(shown(position, None, 1));
    }
    assert_eq!(window.size(), (MAX_WINDOW_EVENTS, MAX_WINDOW_EVENTS));
    assert_eq!(window.take(ALL, 4, 10), Taken::Behind);
    assert_eq!(positions(window.take(ALL, 5, 1)), (vec![6], 6));
    window.push(shown(many + 1, None, MAX_WINDOW_BYTES - 2));
    assert_eq!(window.size(), (3, MAX_WINDOW_BYTES));
    window.push(shown(many + 2, Some(1), MAX_WINDOW_BYTES + 1));
    assert_eq!(window.size().0, 1);
    assert_eq!(positions(window.take(of(1), many + 1, 1)), (vec![many + 2], many + 2));
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
    assert_eq!(window.take(of(1), 109, 1), Taken::Behind);
    assert_eq!(positions(window.take(of(1), 110, 1)), (vec![], 110 + busy));
    assert_eq!(positions(window.take(of(1), 112, 1)), (vec![], 110 + busy));
    // Nobody watches 3: who comes now and was away is behind.
    assert_eq!(window.take(of(3), 112, 1), Taken::Behind);
    window.watch(of(1));
    window.unwatch(of(1));
    assert!(positions(window.take(of(1), 112, 1)).0.is_empty());
    window.unwatch(of(1));
    assert_eq!(window.take(of(1), 112, 1), Taken::Behind);
}

#[test]
fn after_a_skip_whoever_was_before_it_is_behind() {
    let mut window = window();
    window.watch(of(1));
    window.skip_to(200);
    assert_eq!((window.end(), window.size()), (200, (0, 0)));
    for audience in [ALL, PLATFORM, of(1), of(2)] {
        assert_eq!(window.take(audience, 199, 1), Taken::Behind);
        assert_eq!(positions(window.take(audience, 200, 1)), (vec![], 200));
    }
    window.push(shown(201, Some(1), 1));
    assert_eq!(positions(window.take(of(1), 200, 1)).0, [201]);
}

#[test]
#[should_panic(expected = "no gaps")]
fn a_gap_is_not_taken_in() {
    EventWindow::new(0).push(shown(2, None, 1));
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
            let mut window = EventWindow::new(0);
            window.watch(audience);
            let mut follower = Follower::default();
            let mut coming = owners.iter().zip(&sizes).zip(1..);
            for turn in &turns {
                for ((owner, size), position) in coming.by_ref().take(*turn) {
                    window.push(shown(position, *owner, *size));
                }
                follower.step(&window, audience, &is_own);
            }
            while follower.cursor < window.end() {
                follower.step(&window, audience, &is_own);
            }
            let all: Vec<u64> = (1..=window.end()).filter(|position| is_own(*position)).collect();
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
        match window.take(audience, self.cursor, 1) {
            Taken::Events { events, through } => {
                self.seen.extend(events.into_iter().map(|(position, _)| position));
                self.cursor = through;
            }
            Taken::Behind => {
                self.cursor += 1;
                self.seen.extend(Some(self.cursor).filter(|position| is_own(*position)));
            }
        }
    }
}
