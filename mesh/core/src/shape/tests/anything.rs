//! Whatever happens in whatever order: everybody is answered, and nothing is left behind.

use proptest::prelude::*;
use rap_proto::bandwidth::Each;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Open { organization: bool, number: u128, lane: Lane },
    Close(usize),
    Ask(usize, Direction, usize),
    GiveUp(usize, Direction),
    Apply(usize),
    Pass(u64),
}

fn policies() -> Vec<Bandwidth> {
    let bulk = Traffic { lane: Some(Lane::Bulk), ..Traffic::default() };
    let user = Traffic { user: Some(UserId::from_u128(1)), ..Traffic::default() };
    let each = |each| Traffic { each: Some(each), ..Traffic::default() };
    let gives_way = Traffic { while_interactive: true, ..each(Each::Session) };
    let both = Allowance { cap: Some(rate("2mbit")), reserved: Some(rate("1mbit")) };
    let nested = [
        rule(bulk, cap("2mbit")),
        rule(user, both),
        rule(each(Each::Session), cap("800kbit")),
        rule(gives_way, cap("80kbit")),
    ];
    let said = |granted, rules: &[BandwidthRule]| OrganizationBandwidth {
        granted,
        rules: rules.to_vec(),
        ..Default::default()
    };
    let two = |node| Bandwidth {
        node: Some(rate(node)),
        organizations: [(ACME, said(both, &nested)), (ZULU, said(reserved("100gbit"), &[]))].into(),
        ..Bandwidth::default()
    };
    vec![
        Bandwidth::default(),
        acme(cap("8kbit"), &[]),
        acme(Allowance::default(), &nested),
        acme(cap("3mbit"), &nested[..2]),
        two("4mbit"),
        two("8kbit"),
        two("100gbit"),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(&Direction::ALL[..])
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop::sample::select(Lane::ALL);
    let bytes = prop_oneof![1_usize..200, 1_000_usize..90_000];
    prop_oneof![
        3 => (any::<bool>(), 0_u128..4, lane)
            .prop_map(|(organization, number, lane)| Step::Open { organization, number, lane }),
        1 => (0_usize..64).prop_map(Step::Close),
        10 => (0_usize..64, direction(), bytes).prop_map(|(at, way, n)| Step::Ask(at, way, n)),
        1 => (0_usize..64, direction()).prop_map(|(at, way)| Step::GiveUp(at, way)),
        1 => (0..policies().len()).prop_map(Step::Apply),
        4 => (0_u64..30_000).prop_map(Step::Pass),
    ]
}

/// What somebody who drives a shaper knows of it.
#[derive(Default)]
struct Driver {
    shaper: Shaper,
    now: u64,
    flows: Vec<FlowId>,
    /// Whether each flow was said to be shaped.
    shaped: BTreeSet<FlowId>,
    waiting: BTreeMap<(FlowId, Direction), usize>,
}

impl Driver {
    fn step(&mut self, step: Step) {
        let now = at(self.now);
        let found = |at: usize| (!self.flows.is_empty()).then(|| self.flows[at % self.flows.len()]);
        match step {
            Step::Open { organization, number, lane } => {
                let organization = if organization { ACME } else { ZULU };
                let of = FlowOf { organization, ..flow(number, lane) };
                self.flows.push(self.shaper.open(now, of).unwrap());
            }
            Step::Close(at) => {
                let Some(flow) = found(at) else { return };
                self.shaper.close(now, flow);
                self.flows.retain(|one| *one != flow);
                self.shaped.remove(&flow);
                self.waiting.retain(|(one, _), _| *one != flow);
            }
            Step::Ask(at, direction, bytes) => {
                let Some(flow) = found(at) else { return };
                self.waiting.remove(&(flow, direction));
                match self.shaper.ask(now, flow, direction, bytes) {
                    Answer::Now(passed) => assert!((1..=bytes).contains(&passed)),
                    Answer::Later => {
                        assert!(self.shaped.contains(&flow), "others do not wait");
                        self.waiting.insert((flow, direction), bytes);
                    }
                }
            }
            Step::GiveUp(at, direction) => {
                let Some(flow) = found(at) else { return };
                self.shaper.give_up(now, flow, direction);
                self.waiting.remove(&(flow, direction));
            }
            Step::Apply(policy) => self.shaper.apply(now, &policies()[policy]),
            Step::Pass(micros) => self.pass(micros),
        }
        self.perform();
    }

    /// Lets time pass, with the timer as it was asked for.
    fn pass(&mut self, micros: u64) {
        let end = self.now + micros;
        while let Some(wake) = self.shaper.poll_timeout().map(Moment::micros)
            && wake <= end
        {
            self.now = self.now.max(wake);
            self.shaper.handle_timeout(at(self.now));
            self.perform();
        }
        self.now = end;
    }

    fn perform(&mut self) {
        while let Some(effect) = self.shaper.poll_effect() {
            match effect {
                Effect::Grant { flow, direction, bytes } => {
                    let want = self.waiting.remove(&(flow, direction)).expect("it waits");
                    assert!((1..=want).contains(&bytes));
                }
                Effect::Shaped { flow, shaped: true } => assert!(self.shaped.insert(flow)),
                Effect::Shaped { flow, shaped: false } => assert!(self.shaped.remove(&flow)),
            }
        }
        self.check();
    }

    /// What the shaper promises itself, and that it knows of the same who wait.
    fn check(&self) {
        let mut waiting = 0;
        for (id, queue) in &self.shaper.queues {
            for direction in Direction::ALL {
                let line = queue.line(direction);
                waiting += line.waiting.len();
                assert_eq!(line.place.is_some(), !line.waiting.is_empty());
                assert!(line.waiting.is_empty() || queue.path.is_some());
                let calls = |class| self.shaper.classes[&class].meter(direction).called;
                assert!(line.called_by.is_none_or(|class| calls(class) == Some(*id)));
            }
        }
        for class in self.shaper.classes.values() {
            for direction in Direction::ALL {
                let meter = class.meter(direction);
                let claimed = meter.claim.map(|(queue, _)| queue);
                for queue in claimed.into_iter().chain(meter.called) {
                    let line = self.shaper.queues[&queue].line(direction);
                    assert!(!line.waiting.is_empty(), "who claims or was called waits");
                }
            }
        }
        assert_eq!(waiting, self.waiting.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_everybody_is_answered_and_nothing_is_left(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut driver = Driver::default();
        steps.into_iter().for_each(|step| driver.step(step));
        // At the slowest cap a grant takes a second and a half.
        driver.pass(600_000_000);
        prop_assert!(driver.waiting.is_empty(), "{} wait", driver.waiting.len());
        while let Some(flow) = driver.flows.pop() {
            driver.shaper.close(at(driver.now), flow);
        }
        is_as_new(&driver.shaper, 0);
    }
}
