#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::record;

const START: Moment = Moment::from_micros(0);

fn url(number: usize) -> ControlUrl {
    format!("https://control-{number}.example").parse().unwrap()
}

fn named(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| url(number).to_string()).collect()
}

/// Joined at the first of so many.
fn servers(count: usize, seed: u64) -> Servers {
    Servers::new(url(0), HeldServers { servers: named(0..count) }, seed)
}

/// How many nodes are at each server.
fn spread(nodes: impl Iterator<Item = Servers>) -> BTreeMap<ControlUrl, u32> {
    let mut counts = BTreeMap::new();
    for node in nodes {
        *counts.entry(node.present().clone()).or_default() += 1;
    }
    counts
}

#[test]
fn whoever_begins_at_one_server_knows_no_more_than_the_limit_and_goes_on_at_the_others() {
    let many: Vec<_> = (0..2 * MAX_SERVERS).map(url).collect();
    let mut servers = Servers::at(url(99), many, 1);
    assert_eq!((servers.present(), servers.count()), (&url(99), MAX_SERVERS + 1));
    let next = servers.failed(&[url(99)], true);
    assert!(next.is_some_and(|next| next == *servers.present() && next != url(99)));
}

#[test]
fn a_call_asks_others_when_one_does_not_answer_and_stays_where_it_was_answered() {
    for seed in 0..50 {
        let mut servers = servers(3, seed);
        let first = servers.present().clone();
        let second = servers.failed(std::slice::from_ref(&first), true).unwrap();
        assert_ne!(first, second);
        assert_eq!((servers.present(), servers.changes()), (&second, 1));
        // A call that was under way finds that out later, and moves nobody.
        assert_eq!(servers.failed(std::slice::from_ref(&first), true), Some(second.clone()));
        servers.answered(&[first, second.clone()]);
        assert_eq!((servers.present(), servers.changes()), (&second, 1));
    }
}

#[test]
fn one_call_that_is_not_answered_moves_the_others_only_where_it_is_answered_elsewhere() {
    let mut servers = servers(3, 1);
    let first = servers.present().clone();
    // A call whose time is up before it may ask anybody else.
    let second = servers.failed(std::slice::from_ref(&first), false).unwrap();
    assert_eq!((servers.present(), servers.changes()), (&first, 0));
    // One that nobody can answer.
    let mut tried = vec![first.clone(), second.clone()];
    tried.extend(servers.failed(&tried, false));
    assert_eq!((tried.len(), servers.failed(&tried, false)), (3, None));
    assert_eq!((servers.present(), servers.changes()), (&first, 0));
    servers.answered(&[first, second.clone()]);
    assert_eq!((servers.present(), servers.changes()), (&second, 1));
}

#[test]
fn one_call_asks_so_many_servers_and_each_once() {
    let mut servers = servers(8, 1);
    let mut tried = vec![servers.present().clone()];
    while let Some(next) = servers.failed(&tried, true) {
        assert!(!tried.contains(&next));
        tried.push(next);
    }
    assert_eq!(tried.len(), MAX_TURNS);
    assert!(!tried.contains(servers.present()), "the next call begins at one that was not tried");
}

#[test]
fn a_node_that_knows_one_server_asks_that_one() {
    let mut servers = servers(1, 1);
    assert_eq!(servers.failed(&[url(0)], true), None);
    assert!(!servers.leave(START, &url(0)) && !servers.discover(START));
    assert_eq!((servers.present(), servers.count(), servers.changes()), (&url(0), 1, 0));
}

#[test]
fn a_server_that_answers_is_left_for_another_one_and_not_again_at_once() {
    let mut servers = servers(2, 1);
    let first = servers.present().clone();
    assert!(servers.leave(START, &first));
    let second = servers.present().clone();
    assert_ne!(first, second);
    assert!(!servers.leave(START + (LEAVE_PAUSE - Duration::from_micros(1)), &second));
    assert_eq!(servers.present(), &second);
    assert!(servers.leave(START + LEAVE_PAUSE, &second));
    assert_eq!(servers.present(), &first);
}

#[test]
fn only_the_server_that_brought_nothing_is_left() {
    let mut servers = servers(2, 1);
    let first = servers.present().clone();
    let second = servers.failed(std::slice::from_ref(&first), true).unwrap();
    assert!(!servers.leave(START, &first), "another call was faster");
    assert_eq!((servers.present(), servers.changes()), (&second, 1));
    assert!(servers.leave(START, &second), "and nothing has to wait for that");
}

#[test]
fn who_looks_for_peers_has_pauses_of_its_own() {
    let mut servers = servers(2, 1);
    let first = servers.present().clone();
    assert!(servers.leave(START, &first));
    assert!(servers.discover(START));
    assert!(!servers.discover(START + (LEAVE_PAUSE - Duration::from_micros(1))));
    assert!(servers.discover(START + LEAVE_PAUSE));
    assert!(servers.leave(START + LEAVE_PAUSE, &servers.present().clone()));
}

#[test]
fn a_beat_that_counts_ends_the_pauses() {
    let mut servers = servers(2, 1);
    let leave = |servers: &mut Servers| servers.leave(START, &servers.present().clone());
    assert!(leave(&mut servers) && !leave(&mut servers));
    servers.told(&named(0..2));
    assert!(!leave(&mut servers));
    servers.confirmed(&[]);
    assert!(leave(&mut servers));
}

#[test]
fn where_no_server_is_better_they_are_left_ever_more_seldom_until_one_was() {
    let mut servers = servers(3, 1);
    let hour = Duration::from_secs(3_600);
    let left = |servers: &mut Servers, from: Duration| -> Vec<Duration> {
        let seconds = (0..hour.as_secs()).map(Duration::from_secs);
        let mut leaves = |second: &Duration| {
            let present = servers.present().clone();
            servers.leave(START + from + *second, &present)
        };
        seconds.filter(|second| leaves(second)).collect()
    };
    let moments = left(&mut servers, Duration::ZERO);
    let pauses: Vec<u64> = moments.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    assert_eq!(pauses[..5], [10, 20, 40, 40, 40]);
    assert!(pauses[2..].iter().all(|pause| *pause == LONGEST_LEAVE_PAUSE.as_secs()));
    // Nobody wanted to leave for a while.
    assert_eq!(left(&mut servers, 2 * hour), moments);
}

#[test]
fn nodes_spread_over_the_servers() {
    let fair = |counts: BTreeMap<ControlUrl, u32>, each: u32| {
        for (server, count) in counts {
            assert!(count.abs_diff(each) < each / 5, "{server}: {count} of about {each}");
        }
    };
    // They all joined at one, and hear of the others.
    fair(
        spread((0..3_000).map(|seed| {
            let mut servers = servers(1, seed);
            assert!(servers.told(&named(0..3)));
            servers
        })),
        1_000,
    );
    // They were started again.
    fair(spread((0..3_000).map(|seed| servers(3, seed))), 1_000);
    // The nodes of one that is lost.
    let at_it = (0..9_000).map(|seed| servers(3, seed)).filter(|node| *node.present() == url(1));
    let after = spread(at_it.map(|mut node| {
        node.failed(&[url(1)], true).unwrap();
        node
    }));
    assert_eq!(after.len(), 2);
    fair(after, 1_500);
}

#[test]
fn a_server_that_is_added_takes_its_share_and_nobody_else_moves() {
    let mut moved = 0;
    for seed in 0..3_000 {
        let mut servers = servers(2, seed);
        let before = servers.present().clone();
        servers.told(&named(0..3));
        if *servers.present() != before {
            assert_eq!(servers.present(), &url(2));
            moved += 1;
        }
    }
    assert!((900..1_100).contains(&moved), "{moved}");
}

#[test]
fn a_server_that_is_named_no_more_is_left_but_for_the_one_that_was_joined_at() {
    for seed in 0..50 {
        let mut servers = servers(3, seed);
        assert!(servers.confirmed(&named([2])));
        assert_ne!(servers.present(), &url(1));
        assert_eq!(servers.unkept().unwrap().servers, named([0, 2]));
    }
}

#[test]
fn a_wrong_list_leaves_the_server_that_said_it_until_another_one_answers() {
    for seed in 0..50 {
        let mut servers = servers(2, seed);
        servers.answered(&[url(1)]);
        // The one that it joined at is gone, and nobody is at what is named.
        assert!(servers.confirmed(&named(5..5 + MAX_SERVERS)));
        let kept = servers.unkept().unwrap();
        assert!(kept.servers.contains(&url(1).to_string()), "also over a restart");
        assert_eq!(servers.count(), 1 + MAX_SERVERS);
        assert_ne!(servers.present(), &url(1));
        let mut calls = 0;
        while servers.present() != &url(1) {
            let mut tried = vec![servers.present().clone()];
            while let Some(next) = servers.failed(&tried, true) {
                tried.push(next);
            }
            calls += 1;
            assert!(calls < 500, "it comes back");
        }
        servers.answered(&[url(6)]);
        assert!(!servers.known.contains(&url(1)));
        assert_eq!(servers.present(), &url(6));
        assert_eq!(servers.count(), 1 + MAX_SERVERS);
    }
}

#[test]
fn a_list_is_kept_once_a_beat_counts_and_again_until_it_is_written() {
    let mut servers = servers(1, 1);
    assert!(servers.told(&named(0..3)));
    assert_eq!((servers.count(), servers.unkept()), (3, None), "in memory alone");
    assert!(!servers.confirmed(&[]));
    assert_eq!(servers.unkept(), None);
    assert!(!servers.confirmed(&named(0..3)), "the same is no news, and has to be written");
    let unkept = servers.unkept().unwrap();
    assert_eq!(servers.unkept().as_ref(), Some(&unkept), "that write failed");
    servers.confirmed(&named(0..4));
    servers.kept(unkept);
    let unkept = servers.unkept().unwrap();
    assert_eq!(unkept.servers, named(0..4), "what came during the write");
    servers.kept(unkept);
    assert_eq!(servers.unkept(), None);
}

#[test]
fn nobody_named_and_the_same_named_are_no_news() {
    let mut servers = servers(3, 1);
    assert!(!servers.told(&[]));
    assert!(!servers.told(&named([2, 1])), "in any order, with or without the one joined at");
    assert!(!servers.told(&[named(1..3), vec!["nats://elsewhere".to_owned()]].concat()));
    assert_eq!((servers.count(), servers.changes()), (3, 0));
}

#[test]
fn so_many_servers_are_known_and_fit_on_the_disk() {
    let mut servers = servers(1, 1);
    assert!(servers.told(&named(1..100)));
    assert_eq!(servers.count(), 1 + MAX_SERVERS);
    let host = "a.".repeat(126) + "a";
    let longest = |number: usize| format!("https://{}{}:65535", &host[..250], number + 100);
    let held = HeldServers { servers: (0..=MAX_SERVERS).map(longest).collect() };
    assert!(held.servers.iter().all(|text| text.parse::<ControlUrl>().is_ok()));
    assert_eq!(record::decode::<HeldServers>(&record::encode(&held)), Ok(held));
}

#[derive(Debug, Clone)]
enum Step {
    Call { answers: Vec<bool>, lost: bool },
    Leave { after_ms: u64, discover: bool },
    Told(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (proptest::collection::vec(any::<bool>(), 0..4), any::<bool>())
            .prop_map(|(answers, lost)| Step::Call { answers, lost }),
        (0u64..20_000, any::<bool>())
            .prop_map(|(after_ms, discover)| Step::Leave { after_ms, discover }),
        proptest::collection::vec(0usize..40, 0..40).prop_map(Step::Told),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_bounds_hold(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut servers = servers(1, seed);
        let mut now = START;
        for step in steps {
            match step {
                Step::Call { answers, lost } => {
                    let mut tried = vec![servers.present().clone()];
                    for answered in answers {
                        if answered {
                            servers.answered(&tried);
                            prop_assert_eq!(Some(servers.present()), tried.last());
                            break;
                        }
                        let Some(next) = servers.failed(&tried, lost) else { break };
                        prop_assert!(!tried.contains(&next));
                        tried.push(next);
                    }
                    prop_assert!(tried.len() <= MAX_TURNS);
                }
                Step::Leave { after_ms, discover } => {
                    now = now + Duration::from_millis(after_ms);
                    let before = servers.present().clone();
                    let left = match discover {
                        true => servers.discover(now),
                        false => servers.leave(now, &before),
                    };
                    prop_assert_eq!(left, *servers.present() != before);
                }
                Step::Told(numbers) => {
                    servers.told(&named(numbers));
                }
            }
            prop_assert!(servers.count() <= 1 + MAX_SERVERS);
            prop_assert!(servers.known.contains(servers.present()));
            prop_assert!(servers.known.contains(&url(0)));
            prop_assert!(servers.answered.iter().all(|answered| servers.known.contains(answered)));
        }
    }
}
