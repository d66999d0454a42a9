use rap_proto::{
    paths::DirectPaths,
    snapshot::{Peer, Places},
};

use super::*;
use crate::{
    View,
    many_relays::{forwarding, view_of},
};

const OWN: NodeId = NodeId::from_u128(1);
const TARGET: NodeId = NodeId::from_u128(2);

fn relay(number: u128) -> NodeId {
    NodeId::from_u128(100 + number)
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 4433))
}

fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn candidates(plan: &[Attempt]) -> Vec<Candidate> {
    plan.iter().map(|attempt| attempt.candidate).collect()
}

#[test]
fn direct_has_a_head_start_before_relays() {
    let plan = PathBook::default().plan(at(0), TARGET, &[address(1)], [relay(2), relay(1)]);
    assert_eq!(plan[0].candidate, Candidate::Direct(address(1)));
    assert_eq!(plan[0].start_after, Duration::ZERO);
    assert_eq!(plan[1].start_after, RELAY_HEAD_START);
    assert_eq!(plan[1].candidate, Candidate::Relay(relay(2)), "as they are given");
    assert_eq!(plan[2].start_after, RELAY_HEAD_START + ATTEMPT_STAGGER);
}

#[test]
fn without_a_direct_address_relays_start_at_once() {
    let plan = PathBook::default().plan(at(0), TARGET, &[], [relay(1)]);
    assert_eq!(
        plan,
        [Attempt { candidate: Candidate::Relay(relay(1)), start_after: Duration::ZERO }]
    );
}

#[test]
fn a_direct_path_that_the_platform_forbids_is_no_candidate() {
    let peer = Peer { addresses: vec![address(1)], ..forwarding(TARGET, None) };
    let mut view = view_of(vec![peer], [].into(), Places::default());
    let plan = |view: &View| {
        let plan = PathBook::default().plan(at(0), TARGET, view.direct_to(TARGET), [relay(7)]);
        candidates(&plan)
    };
    assert_eq!(plan(&view), [Candidate::Direct(address(1)), Candidate::Relay(relay(7))]);
    view.paths.rule.direct = DirectPaths::Forbidden;
    assert_eq!(plan(&view), [Candidate::Relay(relay(7))]);
}

#[test]
fn a_failed_direct_path_is_left_alone_until_its_time() {
    let mut book = PathBook::default();
    book.failed(at(0), TARGET, Candidate::Direct(address(1)));
    let plan = book.plan(at(59), TARGET, &[address(1)], [relay(1)]);
    assert_eq!(candidates(&plan), [Candidate::Relay(relay(1))]);
    assert_eq!(plan[0].start_after, Duration::ZERO, "nothing to wait for");
    let plan = book.plan(at(60), TARGET, &[address(1)], [relay(1)]);
    assert_eq!(plan.len(), 2);
}

#[test]
fn a_failure_towards_one_node_says_nothing_of_another() {
    let mut book = PathBook::default();
    book.failed(at(0), TARGET, Candidate::Relay(relay(1)));
    assert_eq!(book.plan(at(1), relay(9), &[], [relay(1)]).len(), 1);
}

#[test]
fn when_everything_failed_everything_is_tried_again() {
    let mut book = PathBook::default();
    book.failed(at(0), TARGET, Candidate::Direct(address(1)));
    book.relay_lost(at(0), relay(1), &[TARGET]);
    assert_eq!(book.plan(at(1), TARGET, &[address(1)], [relay(1)]).len(), 2);
}

#[test]
fn success_and_a_change_of_peers_clear_the_memory() {
    let mut book = PathBook::default();
    book.failed(at(0), TARGET, Candidate::Direct(address(1)));
    book.succeeded(TARGET, Candidate::Direct(address(1)));
    assert_eq!(book.plan(at(1), TARGET, &[address(1)], [relay(1)]).len(), 2);
    book.failed(at(0), TARGET, Candidate::Direct(address(1)));
    book.clear();
    assert_eq!(book.plan(at(1), TARGET, &[address(1)], [relay(1)]).len(), 2);
}

#[test]
fn the_order_of_relays_is_the_same_every_time_and_spread_over_targets() {
    let all: Vec<NodeId> = (0..8).map(relay).collect();
    let order = |target: u128| {
        let spread = Spread::new(OWN, NodeId::from_u128(target));
        let mut all = all.clone();
        all.sort_by_key(|relay| spread.rank(*relay));
        all
    };
    assert_eq!(order(2), order(2));
    let firsts: std::collections::BTreeSet<NodeId> = (0..64).map(|one| order(one)[0]).collect();
    assert!(firsts.len() > 4, "one relay carries everything: {firsts:?}");
}

#[test]
fn a_target_is_never_its_own_relay() {
    let plan = PathBook::default().plan(at(0), TARGET, &[], [TARGET, relay(1)]);
    assert_eq!(candidates(&plan), [Candidate::Relay(relay(1))]);
}

#[test]
fn plans_and_memory_are_bounded() {
    let plan = PathBook::default().plan(at(0), TARGET, &[], (0..100).map(relay));
    assert_eq!(plan.len(), MAX_ATTEMPTS);
    let mut book = PathBook::default();
    for number in 0..=(MAX_REMEMBERED as u128) {
        book.failed(at(0), TARGET, Candidate::Relay(relay(number)));
    }
    assert_eq!(book.failed_until.len(), MAX_REMEMBERED);
    book.failed(at(1_000), TARGET, Candidate::Relay(relay(5)));
    assert_eq!(book.failed_until.len(), 1, "what is over makes room");
}

#[test]
fn a_carrier_that_another_stands_in_for_is_not_tried_where_everything_failed() {
    let mut book = PathBook::default();
    book.failed(at(0), TARGET, Candidate::Direct(address(1)));
    let untried =
        |book: &PathBook, now| candidates(&book.untried(now, TARGET, &[address(1)], [relay(1)]));
    assert_eq!(untried(&book, at(1)), [Candidate::Relay(relay(1))]);
    book.failed(at(1), TARGET, Candidate::Relay(relay(1)));
    assert_eq!(untried(&book, at(2)), []);
    assert_eq!(untried(&book, at(11)), [Candidate::Relay(relay(1))]);
    assert_eq!(book.plan(at(2), TARGET, &[address(1)], [relay(1)]).len(), 2);
}

#[test]
fn a_direct_path_that_a_relay_overtook_is_left_alone() {
    let mut book = PathBook::default();
    let plan = book.plan(at(0), TARGET, &[address(1)], [relay(1)]);
    book.won(at(0), TARGET, &plan, Candidate::Direct(address(1)));
    assert_eq!(book.plan(at(1), TARGET, &[address(1)], [relay(1)]), plan);
    book.won(at(1), TARGET, &plan, Candidate::Relay(relay(1)));
    let next = book.plan(at(2), TARGET, &[address(1)], [relay(1)]);
    assert_eq!(candidates(&next), [Candidate::Relay(relay(1))]);
}

fn chain(numbers: &[u128]) -> Candidate {
    let relays: Vec<NodeId> = numbers.iter().map(|number| relay(*number)).collect();
    Candidate::Chain(Chain::new(&relays).expect("two or three, none twice"))
}

#[test]
fn a_chain_has_two_or_three_relays_and_none_twice() {
    for wrong in [&[][..], &[1], &[1, 1], &[1, 2, 1], &[1, 2, 3, 4]] {
        let relays: Vec<NodeId> = wrong.iter().map(|number| relay(*number)).collect();
        assert_eq!(Chain::new(&relays), None, "{wrong:?}");
    }
    let Candidate::Chain(two) = chain(&[2, 1]) else { panic!("a chain") };
    assert_eq!((two.first(), two.onward()), (relay(2), &[relay(1)][..]));
    assert_eq!(two.relays(), [relay(2), relay(1)]);
    assert!(chain(&[1, 2]).timeout() < chain(&[1, 2, 3]).timeout());
}

#[test]
fn chains_behind_the_relays_wait_until_those_had_time_to_fail() {
    let ways = [Candidate::Relay(relay(1)), chain(&[1, 2]), chain(&[2, 1])];
    let plan = PathBook::default().plan(at(0), TARGET, &[address(1)], ways);
    assert_eq!(candidates(&plan)[1..], ways);
    let first = RELAY_HEAD_START + CHAIN_HEAD_START;
    assert_eq!(plan[2].start_after, first);
    assert_eq!(plan[3].start_after, first + ATTEMPT_STAGGER);
    let plan = PathBook::default().plan(at(0), TARGET, &[], [chain(&[1, 2])]);
    assert_eq!(plan[0].start_after, Duration::ZERO, "nothing to wait for");
}

#[test]
fn a_chain_before_a_relay_starts_like_one() {
    let ways = [Candidate::Relay(relay(1)), chain(&[1, 2]), Candidate::Relay(relay(3))];
    let plan = PathBook::default().plan(at(0), TARGET, &[], ways);
    assert_eq!(candidates(&plan), ways);
    assert_eq!(plan[2].start_after, ATTEMPT_STAGGER * 2);
}

#[test]
fn however_many_relays_there_are_some_chains_are_tried() {
    let relays = (0..100).map(|number| Candidate::Relay(relay(number)));
    let chains = (0..50).map(|number| chain(&[number, number + 1, number + 2]));
    let plan = PathBook::default().plan(at(0), TARGET, &[], relays.chain(chains));
    assert_eq!(plan.len(), MAX_ATTEMPTS);
    let tried = plan.iter().filter(|one| matches!(one.candidate, Candidate::Chain(_)));
    assert_eq!(tried.count(), CHAIN_PLACES);
}

#[test]
fn a_chain_that_failed_says_nothing_of_its_relays_and_none_leads_over_its_target() {
    let mut book = PathBook::default();
    book.failed(at(0), TARGET, chain(&[1, 2]));
    let ways = [Candidate::Relay(relay(1)), chain(&[1, 2]), chain(&[2, 1])];
    let plan = book.plan(at(1), TARGET, &[], ways);
    assert_eq!(candidates(&plan), [ways[0], ways[2]]);
    let plan = book.plan(at(1), relay(1), &[], [chain(&[1, 2]), chain(&[3, 2])]);
    assert_eq!(candidates(&plan), [chain(&[3, 2])]);
}
