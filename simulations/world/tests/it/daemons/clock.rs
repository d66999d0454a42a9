//! The clocks of simulated hosts: each runs at a rate of its own, within what leases assume, and its calendar
//! is wrong, now and then by far. What an agent is given are two functions, so each place has two.
//!
//! tokio's timers run by the true time: one that an agent sets is early or late by its clock's rate.

use std::{cell::RefCell, time::Duration};

use rap_node_agent::Clock;
use rap_proto::{Moment, Timestamp};
use rap_simulations::{
    beat::clock::Calendar,
    kit::{Chance, clock::DriftClock},
    level2::Mutation,
};

use crate::meshes::now;

/// Hosts have places below.
const PLACES: usize = 5;
const CLOCKS: [Clock; PLACES] = [of::<0>(), of::<1>(), of::<2>(), of::<3>(), of::<4>()];
/// A planted bug: of the time that passes, a clock shows one part of so many.
const TOO_SLOW: u64 = 2;

thread_local! {
    /// Those of the fabric that runs on this thread, by places.
    static HOSTS: RefCell<Vec<HostClock>> = const { RefCell::new(Vec::new()) };
}

struct HostClock {
    counted: DriftClock,
    calendar: Calendar,
    plant: Option<Mutation>,
}

/// So many hosts get clocks.
pub(super) fn begin(hosts: usize, seed: u64, plant: Option<Mutation>) {
    let host = |place| {
        let mut chance = Chance::new(seed, 80 + place as u64);
        let counted = DriftClock::draw(&mut chance);
        HostClock { counted, calendar: Calendar::draw(&mut chance), plant }
    };
    HOSTS.set((0..hosts).map(host).collect());
}

pub(super) fn clock(place: usize) -> Clock {
    CLOCKS[place]
}

/// The host has power again.
pub(super) fn restart(place: usize, chance: &mut Chance) {
    change(place, |host| host.counted.restart(chance));
}

/// Somebody sets the host's calendar wrong. What leases count by does not follow, unless that is planted.
pub(super) fn jump(place: usize, by: Duration, back: bool) {
    change(place, |host| {
        let millis = i64::try_from(by.as_millis()).unwrap();
        host.calendar.jump(if back { -millis } else { millis });
        if back && host.plant == Some(Mutation::ClockSetBack) {
            host.counted.back(by);
        }
    });
}

/// Somebody sets the host's calendar right.
pub(super) fn set_right(place: usize) {
    change(place, |host| host.calendar.repair());
}

fn change(place: usize, what: impl FnOnce(&mut HostClock)) {
    HOSTS.with_borrow_mut(|hosts| what(&mut hosts[place]));
}

const fn of<const PLACE: usize>() -> Clock {
    Clock { moment: moment::<PLACE>, now: calendar::<PLACE> }
}

fn moment<const PLACE: usize>() -> Moment {
    let slowed = |at: Moment| Moment::from_micros(at.micros() / TOO_SLOW);
    HOSTS.with_borrow(|hosts| {
        let HostClock { counted, plant, .. } = &hosts[PLACE];
        let is_slow = *plant == Some(Mutation::ClockTooSlow);
        counted.show(if is_slow { slowed(now()) } else { now() })
    })
}

fn calendar<const PLACE: usize>() -> Timestamp {
    HOSTS.with_borrow(|hosts| hosts[PLACE].calendar.show(now()))
}
