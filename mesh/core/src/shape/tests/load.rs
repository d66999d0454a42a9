//! Flows that want things, for some virtual time.

use proptest::prelude::*;
use rap_proto::bandwidth::Each;

use super::*;

/// What a flow wants: pieces of so many bytes, one whenever the one before has passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wants {
    pub(super) of: FlowOf,
    pub(super) piece: usize,
}

pub(super) struct Load {
    pub(super) shaper: Shaper,
    flows: Vec<(FlowId, Wants)>,
    pub(super) now: u64,
    /// Bytes that passed upwards, with the time and the flow.
    pub(super) passed: Vec<(u64, usize, usize)>,
    /// Who waits for how much.
    left: Vec<usize>,
    pub(super) wakes: u64,
}

impl Load {
    pub(super) fn new(policy: Bandwidth, wants: &[Wants]) -> Self {
        let mut shaper = Shaper::default();
        shaper.apply(at(0), &policy);
        let flows: Vec<_> =
            wants.iter().map(|one| (shaper.open(at(0), one.of).unwrap(), *one)).collect();
        let left = vec![0; flows.len()];
        let mut load = Self { shaper, flows, now: 0, passed: Vec::new(), left, wakes: 0 };
        (0..wants.len()).for_each(|flow| load.go_on(flow));
        load
    }

    /// Lets a flow ask for as long as it is answered at once, at this moment.
    fn go_on(&mut self, flow: usize) {
        let (id, wants) = self.flows[flow];
        if wants.piece == 0 {
            // It is only there.
            return;
        }
        loop {
            if self.left[flow] == 0 {
                self.left[flow] = wants.piece;
            }
            match self.shaper.ask(at(self.now), id, Direction::Up, self.left[flow]) {
                Answer::Now(bytes) => self.pass(flow, bytes),
                Answer::Later => return,
            }
        }
    }

    fn pass(&mut self, flow: usize, bytes: usize) {
        assert!(bytes > 0 && bytes <= self.left[flow]);
        self.left[flow] -= bytes;
        self.passed.push((self.now, flow, bytes));
    }

    fn perform(&mut self) {
        while let Some(effect) = self.shaper.poll_effect() {
            let Effect::Grant { flow, bytes, .. } = effect else { continue };
            let at = self.flows.iter().position(|(id, _)| *id == flow).unwrap();
            self.pass(at, bytes);
            self.go_on(at);
        }
    }

    pub(super) fn run_until(&mut self, end: u64) {
        self.perform();
        while let Some(wake) = self.shaper.poll_timeout().map(Moment::micros) {
            if wake > end {
                break;
            }
            self.now = self.now.max(wake);
            self.wakes += 1;
            self.shaper.handle_timeout(at(self.now));
            self.perform();
        }
        self.now = end;
    }

    pub(super) fn bytes(&self, from: u64, to: u64, counts: impl Fn(usize) -> bool) -> usize {
        // What passes later stands behind.
        let [from, to] = [from, to].map(|end| self.passed.partition_point(|(at, ..)| *at < end));
        let within = self.passed[from..to].iter();
        within.filter(|(_, flow, _)| counts(*flow)).map(|(.., bytes)| bytes).sum()
    }
}

const SECOND: u64 = 1_000_000;

fn some_flows() -> impl Strategy<Value = Vec<(u128, bool, usize)>> {
    prop::collection::vec((1_u128..5, any::<bool>(), 200_usize..70_000), 2..8)
}

fn wanted(flows: &[(u128, bool, usize)]) -> Vec<Wants> {
    let lane = |interactive| if interactive { Lane::Interactive } else { Lane::Bulk };
    flows
        .iter()
        .map(|(user, interactive, piece)| Wants {
            of: flow(*user, lane(*interactive)),
            piece: *piece,
        })
        .collect()
}

fn user(number: u128) -> Traffic {
    Traffic { user: Some(UserId::from_u128(number)), ..Traffic::default() }
}

fn most(rate: BitRate, micros: u64) -> usize {
    burst(rate) + (rate.bits_per_second() * micros / 8_000_000) as usize + 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_class_passes_more_than_its_cap_and_a_burst_in_any_window(flows in some_flows()) {
        let (whole, one) = (rate("4mbit"), rate("1mbit"));
        let policy = acme(cap("4mbit"), &[rule(user(1), cap("1mbit"))]);
        let mut load = Load::new(policy, &wanted(&flows));
        load.run_until(2 * SECOND);
        for from in (0..2 * SECOND).step_by(97_003) {
            for length in [1_000, 50_000, 700_000] {
                let to = from + length;
                prop_assert!(load.bytes(from, to, |_| true) <= most(whole, length));
                let of_one = load.bytes(from, to, |at| flows[at].0 == 1);
                prop_assert!(of_one <= most(one, length));
            }
        }
    }

    #[test]
    fn caps_within_caps_hold_all_of_them_in_any_window(flows in some_flows()) {
        let (whole, bulk, one) = (rate("3mbit"), rate("2mbit"), rate("800kbit"));
        let on_bulk = Traffic { lane: Some(Lane::Bulk), ..Traffic::default() };
        let each = Traffic { each: Some(Each::User), ..Traffic::default() };
        let rules = [
            rule(on_bulk, cap("2mbit")),
            rule(each, cap("800kbit")),
            rule(user(2), reserved("2mbit")),
        ];
        let mut load = Load::new(acme(cap("3mbit"), &rules), &wanted(&flows));
        load.run_until(2 * SECOND);
        for from in (0..2 * SECOND).step_by(97_003) {
            for length in [1_000, 50_000, 700_000] {
                let to = from + length;
                prop_assert!(load.bytes(from, to, |_| true) <= most(whole, length));
                let of_bulk = load.bytes(from, to, |at| !flows[at].1);
                prop_assert!(of_bulk <= most(bulk, length));
                for number in 1..5 {
                    let of_one = load.bytes(from, to, |at| flows[at].0 == number);
                    prop_assert!(of_one <= most(one, length), "{of_one} of {number}");
                }
            }
        }
    }

    #[test]
    fn what_is_reserved_is_reached_under_any_load(flows in some_flows()) {
        let rules = [rule(user(9), reserved("1mbit"))];
        let mut wants = wanted(&flows);
        // Even bulk, beside whatever is interactive.
        wants.push(Wants { of: flow(9, Lane::Bulk), piece: 20_000 });
        let mut load = Load::new(acme(cap("4mbit"), &rules), &wants);
        load.run_until(4 * SECOND);
        let own = load.bytes(SECOND, 4 * SECOND, |at| at == flows.len());
        prop_assert!(own >= 3 * 125_000 * 95 / 100, "{own} bytes in three seconds");
    }

    #[test]
    fn nothing_is_left_unused_that_somebody_wants(flows in some_flows()) {
        let rules = [rule(user(1), cap("512kbit")), rule(user(2), reserved("1mbit"))];
        let others = flows.iter().any(|(user, ..)| *user != 1);
        prop_assume!(others);
        let mut load = Load::new(acme(cap("4mbit"), &rules), &wanted(&flows));
        load.run_until(3 * SECOND);
        let all = load.bytes(SECOND, 3 * SECOND, |_| true);
        prop_assert!(all >= 2 * 500_000 * 98 / 100, "{all} bytes in two seconds");
    }

    #[test]
    fn every_reserve_is_reached_in_proportion_where_less_was_granted(flows in some_flows()) {
        let rules = [rule(user(8), reserved("6mbit")), rule(user(9), reserved("2mbit"))];
        let mut wants = wanted(&flows);
        wants.extend([8, 9].map(|user| Wants { of: flow(user, Lane::Bulk), piece: 20_000 }));
        let mut load = Load::new(acme(cap("4mbit"), &rules), &wants);
        // Whoever took all of the first burst waits until the five others had as much of the floor,
        // which is one byte in 16: not five seconds.
        load.run_until(8 * SECOND);
        let passed = |flow| load.bytes(SECOND, 8 * SECOND, |at| at == flow);
        // 15 of 16 parts of 500 kB/s, by three to one.
        let (greater, lesser) = (passed(flows.len()), passed(flows.len() + 1));
        prop_assert!(greater >= 7 * 351_562 * 90 / 100, "{greater} bytes in seven seconds");
        prop_assert!(lesser >= 7 * 117_187 * 90 / 100, "{lesser} bytes in seven seconds");
        let interactive = flows.iter().any(|(_, interactive, _)| *interactive);
        for (flow, (_, is_interactive, _)) in flows.iter().enumerate() {
            let starves = passed(flow) == 0;
            prop_assert!(!starves || (interactive && !is_interactive), "{flow} passes");
        }
    }

    #[test]
    fn nobody_starves_and_nobody_is_woken_for_every_byte(flows in some_flows()) {
        let mut load = Load::new(acme(cap("4mbit"), &[]), &wanted(&flows));
        load.run_until(4 * SECOND);
        for flow in 0..flows.len() {
            prop_assert!(load.bytes(SECOND, 4 * SECOND, |at| at == flow) > 0, "{flow} passes");
        }
        prop_assert!(load.wakes <= 4 * 1_000, "{} wakes in four seconds", load.wakes);
    }
}
