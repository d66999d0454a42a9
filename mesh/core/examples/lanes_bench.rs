//! What the measurements of a fleet's relays cost an entry with two thousand lanes: once when every
//! lane looks at each of them, and once when only those look that are concerned.
//!
//! Prints lines of `figure<TAB>value<TAB>unit`. Build it optimised; without, the numbers say nothing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rap_mesh_core::{
    View,
    lane_path::{Input, LanePath, Worth, keeping},
    many_relays::{known_by_rtt, relay, view},
    paths::{self, PathBook},
    score::{
        Candidate, ChannelClass, Decisions,
        decisions::Asked,
        relays::Use,
        renewals::{Interest, Interests, Pace},
    },
};
use rap_proto::{Moment, NodeId, OrganizationId, Timestamp};

const NOW: Timestamp = Timestamp::from_unix_millis(1);
const LANES: u64 = 2_000;
const ORGANIZATIONS: u64 = 10;
/// Each relay is measured as often as most nodes ask their peers.
const MEASURED_EVERY: Duration = Duration::from_secs(10);
const SIMULATED: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(10);

fn main() {
    for relays in [8, 100] {
        for (name, everybody) in [("all", true), ("concerned", false)] {
            Entry::new(relays, everybody).run(name);
        }
    }
}

struct Lane {
    organization: OrganizationId,
    class: ChannelClass,
    egress: NodeId,
    machine: LanePath,
    pace: Pace,
}

struct Entry {
    view: Arc<View>,
    known: BTreeMap<NodeId, Candidate<'static>>,
    decisions: Decisions,
    interests: Interests,
    lanes: BTreeMap<u64, Lane>,
    relays: u128,
    /// Whether each measurement is told to every lane, at once.
    everybody: bool,
    chance: u64,
    looks: u64,
    most_at_once: u64,
}

impl Entry {
    fn new(relays: u128, everybody: bool) -> Self {
        let mut entry = Self {
            view: Arc::new(view(relays)),
            known: (0..relays).map(|number| known_of(number, 20_000)).collect(),
            decisions: Decisions::default(),
            interests: Interests::default(),
            lanes: BTreeMap::new(),
            relays,
            everybody,
            chance: 1,
            looks: 0,
            most_at_once: 0,
        };
        entry.decisions.know(entry.known.clone());
        for number in 0..LANES {
            let organization = OrganizationId::from_u128(u128::from(number % ORGANIZATIONS));
            let class = [ChannelClass::Interactive, ChannelClass::Bulk][number as usize % 2];
            let egress = NodeId::from_u128(1_000_000 + u128::from(number));
            let over = paths::Candidate::Relay(relay(u128::from(number) % relays));
            let machine = LanePath::new(number, Moment::default(), over, vec![over]);
            let pace = Pace::new(number);
            entry.lanes.insert(number, Lane { organization, class, egress, machine, pace });
        }
        (0..LANES).for_each(|number| entry.look(number, Moment::default()));
        entry
    }

    fn run(mut self, name: &str) {
        self.looks = 0;
        let (mut now, mut measured, mut took) = (Moment::default(), 0_u128, Duration::ZERO);
        let end = now + SIMULATED;
        let pause = MEASURED_EVERY / u32::try_from(self.relays).expect("few");
        while now < end {
            now = now + STEP;
            let begun = Instant::now();
            while Moment::default() + pause * u32::try_from(measured).expect("few") < now {
                self.measure(measured % self.relays, now);
                measured += 1;
            }
            let before = self.looks;
            let due = |pace: &Pace| pace.due(self.everybody).is_some_and(|at| at <= now);
            let looking = self.lanes.iter().filter(|(_, lane)| due(&lane.pace));
            let looking: Vec<u64> = looking.map(|(number, _)| *number).collect();
            looking.into_iter().for_each(|number| self.look(number, now));
            self.most_at_once = self.most_at_once.max(self.looks - before);
            took += begun.elapsed();
        }
        let (relays, seconds) = (self.relays, SIMULATED.as_secs_f64());
        let permille = took.as_secs_f64() * 1e3 / seconds;
        println!("lanes_{relays}_relays_{name}_looks\t{:.0}\t1/s", self.looks as f64 / seconds);
        println!("lanes_{relays}_relays_{name}_at_once\t{}\tlooks", self.most_at_once);
        println!("lanes_{relays}_relays_{name}_cpu\t{permille:.2}\tms/s");
    }

    /// A round trip of one relay, by up to a fifth more or less than the same as ever.
    fn measure(&mut self, number: u128, now: Moment) {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let rtt_us = 16_000 + u32::try_from((self.chance >> 33) % 8_000).expect("small");
        self.known.extend([known_of(number, rtt_us)]);
        self.decisions.know(self.known.clone());
        let changes = self.decisions.follow(NOW);
        if self.everybody {
            self.lanes.values_mut().for_each(|lane| lane.pace.concerned(now));
            return;
        }
        for number in self.interests.concerned(&changes) {
            self.lanes.get_mut(&number).into_iter().for_each(|lane| lane.pace.concerned(now));
        }
    }

    /// As the shell does it.
    fn look(&mut self, number: u64, now: Moment) {
        self.looks += 1;
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let (organization, class, target) = (lane.organization, lane.class, lane.egress);
        let asked = Asked { target, organization, class, purpose: Use::Running };
        let ways = self.decisions.ways(&self.view, asked, NOW).to_vec();
        let worth = |total| Worth { total, drains: false };
        let worths = ways.iter().map(|way| (way.path, worth(way.total))).collect();
        let plan = PathBook::default().plan(now, target, &[], ways.iter().copied());
        let candidates = plan.into_iter().map(|attempt| attempt.candidate).collect();
        let open = lane.machine.open_over_relays();
        let listed = keeping(candidates, &open);
        let interest = Interest::of((organization, class), &ways, &listed, &open);
        lane.machine.handle_input(now, Input::Candidates(listed));
        lane.machine.handle_input(now, Input::Worths(worths));
        while lane.machine.poll_effect().is_some() {}
        lane.pace.looked(now);
        if !self.everybody {
            self.interests.heed(number, interest);
        }
    }
}

fn known_of(number: u128, rtt_us: u32) -> (NodeId, Candidate<'static>) {
    (relay(number), known_by_rtt(relay(number), rtt_us))
}
