use super::*;

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
    let order = |target: u128| spread_over(OWN, NodeId::from_u128(target), all.clone());
    assert_eq!(order(2), order(2));
    assert_eq!(order(2), spread_over(OWN, TARGET, all.iter().rev().copied()));
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
