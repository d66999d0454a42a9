//! How long one route decision takes over a view of a thousand relays: one that is kept, the first
//! for a target, and one for which every relay is scored anew.
//!
//! Prints lines of `figure<TAB>value<TAB>unit`. Build it optimised; without, the numbers say nothing.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use rap_mesh_core::{
    View,
    many_relays::{self, forwarding, relay, view_of},
    score::{Candidate, ChannelClass, Decisions, Measured, decisions::Asked, relays::Use},
};
use rap_proto::{
    NodeId, OrganizationId, Preference, Timestamp,
    snapshot::{Place, Places},
};

const RELAYS: u128 = 1_000;
const ORGANIZATION: OrganizationId = OrganizationId::from_u128(2);
const NOW: Timestamp = Timestamp::from_unix_millis(1);
const TARGETS: u128 = 500;
const CACHED: u32 = 1_000_000;
const DECIDED: u32 = 5_000;
const ROUNDS: usize = 7;

fn main() {
    let views = [Arc::new(view()), Arc::new(view())];
    let mut decisions = Decisions::default();
    decisions.know((0..RELAYS).map(|number| (relay(number), known(number))).collect());
    for target in 0..TARGETS {
        decisions.ways(&views[0], asked(target), NOW);
    }
    let mut target = 0;
    let cached = median(CACHED, || {
        target = (target + 7) % TARGETS;
        black_box(decisions.ways(&views[0], black_box(asked(target)), NOW));
    });
    let first = median(DECIDED, || {
        target += 1;
        black_box(decisions.ways(&views[0], black_box(asked(TARGETS + target)), NOW));
    });
    // Nothing that was decided by one view holds under the other.
    let mut turn = 0;
    let anew = median(DECIDED, || {
        turn = 1 - turn;
        black_box(decisions.ways(&views[turn], black_box(asked(0)), NOW));
    });
    for (name, time) in [("route_cached", cached), ("route_first", first), ("route_anew", anew)] {
        println!("{name}\t{:.3}\tµs", time.as_secs_f64() * 1e6);
    }
}

fn asked(target: u128) -> Asked {
    Asked {
        target: NodeId::from_u128(target),
        organization: ORGANIZATION,
        class: ChannelClass::Interactive,
        purpose: Use::New,
    }
}

/// Every tenth relay is denied.
fn view() -> View {
    let peers = (0..RELAYS).map(|number| forwarding(relay(number), Some(ORGANIZATION)));
    let denied = (0..RELAYS).step_by(10).map(relay);
    view_of(peers.collect(), denied.collect(), places())
}

/// Every second relay is somewhere, every tenth preferred.
fn places() -> Places {
    let place = |number: u128| Place {
        region: format!("region-{}", number % 7).parse().ok(),
        preference: if number.is_multiple_of(10) {
            Preference::Preferred
        } else {
            Preference::Neutral
        },
        ..Place::default()
    };
    let placed = (0..RELAYS).step_by(2);
    Places { nodes: placed.map(|number| (relay(number), place(number))).collect() }
}

fn known(number: u128) -> Candidate<'static> {
    // Spread, and the same every time.
    let spread = |of: u32, factor: u32| (number as u32).wrapping_mul(factor) % of;
    let measured = Measured {
        rtt_us: Some(spread(80_000, 7_919)),
        loss_ppm: Some(spread(60_000, 104_729)),
        reliability: Some(u16::try_from(spread(1_001, 1_299_709)).unwrap_or(0)),
        load: Some(u16::try_from(spread(1_001, 15_485_863)).unwrap_or(0)),
        bandwidth_kbps: Some(spread(10_000_000, 32_452_843)),
        failures: u8::try_from(spread(7, 86_028_121)).unwrap_or(0),
    };
    many_relays::known(relay(number), measured)
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
