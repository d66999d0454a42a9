//! How long one route decision takes: a kept one, and one over a thousand candidates.
//!
//! Build it optimised; without, the numbers say nothing.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rap_mesh_core::score::{
    Candidate, ChannelClass, Decisions, Identity, Measured, Placement, Policy, Preference,
    Question, decisions::Asked, rank, relays::Use,
};
use rap_proto::{
    Authority, ClusterId, NodeId, NodeRole, OrganizationId, Timestamp, snapshot::RoleScope,
};

const CANDIDATES: u128 = 1_000;
const KEPT: u32 = 1_000_000;
const WORKED_OUT: u32 = 5_000;
const ROUNDS: usize = 7;

fn main() {
    let candidates: Vec<_> = (0..CANDIDATES).map(candidate).collect();
    let policy = Policy::default();
    let question = Question {
        now: Timestamp::from_unix_millis(1),
        cluster: ClusterId::from_u128(1),
        organization: Some(OrganizationId::from_u128(2)),
        role: Some(NodeRole::RelayNode),
        placement: Placement::Anywhere,
        authority_epoch: 1,
        authority: Authority::Healthy,
        class: ChannelClass::Interactive,
        region: None,
    };
    let weights = policy.weights(question.class);
    let mut decisions = Decisions::default();
    let asked = |target| Asked {
        target: NodeId::from_u128(target),
        organization: OrganizationId::from_u128(2),
        class: ChannelClass::Interactive,
        purpose: Use::New,
    };
    for target in 0..500 {
        decisions.keep(asked(target), rank(&question, weights, &candidates, 12));
    }
    let mut target = 0;
    let kept = median(KEPT, || {
        target = (target + 7) % 500;
        black_box(decisions.get(black_box(asked(target))));
    });
    let worked_out = median(WORKED_OUT, || {
        black_box(rank(black_box(&question), weights, black_box(&candidates), 12));
    });
    println!("kept decision: {} ns (at most 1,000)", kept.as_nanos());
    println!("over {CANDIDATES} candidates: {} ns (at most 50,000)", worked_out.as_nanos());
}

fn candidate(number: u128) -> Candidate {
    // Spread, and the same every time.
    let spread = |of: u32, factor: u32| (number as u32).wrapping_mul(factor) % of;
    Candidate {
        node: NodeId::from_u128(number),
        cluster: ClusterId::from_u128(1),
        identity: if number.is_multiple_of(10) { Identity::Denied } else { Identity::Proven },
        certificate_until: None,
        roles: vec![RoleScope { role: NodeRole::RelayNode, organizations: None }],
        authority_epoch: 1,
        region: None,
        preference: Preference::Neutral,
        measured: Measured {
            rtt_us: Some(spread(80_000, 7_919)),
            loss_ppm: Some(spread(60_000, 104_729)),
            reliability: Some(u16::try_from(spread(1_001, 1_299_709)).unwrap_or(0)),
            load: Some(u16::try_from(spread(1_001, 15_485_863)).unwrap_or(0)),
            bandwidth_kbps: Some(spread(10_000_000, 32_452_843)),
            failures: u8::try_from(spread(7, 86_028_121)).unwrap_or(0),
        },
    }
}

/// The median of some rounds of `count` calls, for each call.
fn median(count: u32, mut call: impl FnMut()) -> Duration {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..count).for_each(|_| call());
            begun.elapsed() / count
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}
