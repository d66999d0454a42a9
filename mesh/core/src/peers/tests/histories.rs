//! Whatever comes in whatever order: the bounds hold, and only the directory makes a peer.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a history is short, and its inputs are matched whole"
)]
enum Happening {
    Input(Input),
    Time(u64),
}

fn any_node() -> impl Strategy<Value = u128> {
    prop_oneof![100..116_u128, 200..206_u128]
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let one = |make: fn(NodeId) -> Input| {
        any_node().prop_map(move |number| Happening::Input(make(node(number))))
    };
    let answered = |node| Input::Answered {
        node,
        rtt_us: 5_000,
        said: None,
        packets: Some(Packets { sent: 9, lost: 1 }),
        certificate_until: LATER,
        at: Timestamp::from_unix_millis(1_000),
    };
    let through = (any_node(), any_node(), any::<bool>()).prop_map(|(relay, target, passed)| {
        let (relay, target) = (node(relay), node(target));
        Happening::Input(Input::Through { relay, target, rtt_us: passed.then_some(9) })
    });
    let listing = prop::collection::btree_set(any_node(), 0..20).prop_map(|numbers| {
        let directory = directory(1, numbers);
        Happening::Input(Input::Directory { directory, at: Timestamp::default() })
    });
    let policy = (0..3_usize)
        .prop_map(|kind| Happening::Input(Input::Policy(PeerPolicy::of(Kind::ALL[kind]))));
    prop_oneof![
        1 => policy,
        4 => one(answered),
        2 => one(|node| Input::Missed { node }),
        1 => one(|node| Input::Full { node }),
        1 => one(|node| Input::Lost { node }),
        2 => through,
        1 => listing,
        4 => (0..40_000_000_u64).prop_map(Happening::Time),
    ]
}

proptest! {
    #[test]
    fn the_bounds_hold_and_only_the_directory_makes_a_peer(
        happenings in prop::collection::vec(any_happening(), 1..200),
        seed in any::<u64>(),
        kind in 0..3_usize,
    ) {
        let mut policy = PeerPolicy::of(Kind::ALL[kind]);
        let mut book = PeerBook::new(policy, seed);
        let mut now = Moment::from_micros(1);
        let mut named: BTreeSet<NodeId> = BTreeSet::new();
        let mut version = 1;
        for happening in happenings {
            match happening {
                Happening::Input(Input::Directory { mut directory, at }) => {
                    version += 1;
                    directory.version = version;
                    named = directory.listed.iter().map(|listed| listed.node).collect();
                    book.handle_input(now, Input::Directory { directory, at });
                }
                Happening::Input(Input::Policy(other)) => {
                    policy = other;
                    book.handle_input(now, Input::Policy(other));
                }
                Happening::Input(input) => book.handle_input(now, input),
                Happening::Time(micros) => {
                    now = now + Duration::from_micros(micros);
                    book.handle_timeout(now);
                    if let Some(next) = book.poll_timeout() {
                        prop_assert!(next > now, "{next:?} is not after {now:?}");
                    }
                }
            }
            while let Some(effect) = book.poll_effect() {
                match effect {
                    Effect::Heartbeat { node } | Effect::Probe { node } => {
                        prop_assert!(named.contains(&node));
                    }
                    Effect::ProbeThrough { relay, target } => {
                        prop_assert!(named.contains(&relay) && named.contains(&target));
                    }
                    _ => {}
                }
            }
            let standing = book.standing();
            prop_assert!(standing.active <= policy.counts.most_active);
            prop_assert!(standing.warm <= policy.counts.most_warm);
            prop_assert!(book.candidates().all(|candidate| named.contains(&candidate.node)));
        }
    }
}
