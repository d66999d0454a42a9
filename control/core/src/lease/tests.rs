#![allow(clippy::unwrap_used)]
use std::{collections::BTreeMap, time::Duration};

use rap_proto::{Generation, LeaseClass, Moment, NodeId, Timestamp, VpnConnectionId};

use super::*;

const START: Moment = Moment::from_micros(1_000_000_000);
const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(1);
const CLASS: LeaseClass = LeaseClass::Fast;
const NODES: [NodeId; 3] = [NodeId::from_u128(1), NodeId::from_u128(2), NodeId::from_u128(3)];

fn generation(number: u64) -> Generation {
    Generation::new(number)
}

/// A grantor, the table that it reads, and a clock of each, which usually agree.
struct Shell {
    grantor: Grantor,
    now: Moment,
    database: Timestamp,
    timeline: u64,
    rows: BTreeMap<VpnConnectionId, Row>,
    commands: Vec<Effect>,
}

impl Shell {
    fn new() -> Self {
        let mut grantor = Grantor::new(START, LeaseClass::hold_off);
        let desired = Desired { class: CLASS, enabled: true, nodes: NODES.into(), drain: None };
        grantor.handle_input(START, Input::Desired([(CONNECTION, desired)].into()));
        grantor.handle_input(START, Input::Leading(true));
        Self {
            grantor,
            now: START,
            database: Timestamp::from_unix_millis(1_000_000),
            timeline: 1,
            rows: BTreeMap::new(),
            commands: Vec::new(),
        }
    }

    fn feed(&mut self, input: Input) {
        self.grantor.handle_input(self.now, input);
        self.drain();
    }

    fn report(&mut self, node: usize, ready: bool, holding: Option<u64>) {
        let holding = holding.map(generation);
        let floor = holding.unwrap_or_default();
        let readiness = Readiness { ready, floor, holding };
        let connections = [(CONNECTION, readiness)].into();
        self.feed(Input::Reported { node: NODES[node], connections });
    }

    fn drain(&mut self) {
        while let Some(effect) = self.grantor.poll_effect() {
            match effect {
                Effect::Read { read } => {
                    let rows = self.rows.clone();
                    let table = Table { timeline: self.timeline, now: self.database, rows };
                    self.grantor.handle_input(self.now, Input::Read { read, table });
                }
                command => self.commands.push(command),
            }
        }
    }

    /// Lets time pass on both clocks, with every node but the given ones reporting that it is
    /// ready, and what stands in the table as it is.
    fn wait(&mut self, span: Duration, silent: &[usize]) {
        let step = Duration::from_millis(100);
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + step;
            self.database = self.database + step;
            for node in (0..NODES.len()).filter(|node| !silent.contains(node)) {
                let held = self.rows.get(&CONNECTION).filter(|row| row.holder == NODES[node]);
                let held = held.filter(|row| matches!(row.hold, Hold::Held { .. }));
                self.report(node, true, held.map(|row| row.generation.number()));
            }
            while self.grantor.poll_timeout().is_some_and(|at| at <= self.now) {
                let commands = self.commands.len();
                self.grantor.handle_timeout(self.now);
                self.drain();
                if self.commands.len() > commands {
                    return;
                }
            }
        }
    }

    fn hold(&mut self, node: usize, number: u64) {
        let hold =
            Hold::Held { renewed_at: self.database, valid_until: self.database + CLASS.ttl() };
        let generation = generation(number);
        let row = Row { generation, holder: NODES[node], revision: number, hold };
        self.rows.insert(CONNECTION, row);
    }

    fn renew(&mut self) {
        let row = self.rows[&CONNECTION];
        self.hold(
            NODES.iter().position(|node| *node == row.holder).unwrap(),
            row.generation.number(),
        );
    }

    fn end(&mut self) {
        let row = self.rows.get_mut(&CONNECTION).unwrap();
        row.hold = Hold::Ended;
        row.revision += 1;
        self.feed(Input::Changed(CONNECTION));
    }

    /// The holder renews for a while.
    fn work(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.renew();
            self.wait(Duration::from_secs(1), &[]);
        }
    }

    fn reason(&self) -> Reason {
        self.grantor.reasons()[&CONNECTION]
    }

    fn granted(&mut self) -> (NodeId, u64, Reason) {
        match self.commands.pop() {
            Some(Effect::Grant { node, generation, reason, .. }) => {
                (node, generation.number(), reason)
            }
            other => panic!("{other:?} and not a grant, {}", self.reason()),
        }
    }
}

#[test]
fn after_the_start_nothing_is_granted_within_the_hold_off() {
    let mut shell = Shell::new();
    shell.wait(CLASS.hold_off() - Duration::from_millis(100), &[]);
    assert!(shell.commands.is_empty());
    assert_eq!(shell.reason(), Reason::HoldingOff);
    shell.wait(Duration::from_secs(1), &[]);
    assert_eq!(shell.granted(), (NODES[0], 1, Reason::NeverGranted));
}

#[test]
fn a_lease_is_granted_again_when_both_clocks_say_so() {
    for database_is_ahead in [true, false] {
        let mut shell = Shell::new();
        shell.hold(0, 1);
        shell.work(10);
        // One clock says at once that it is over.
        if database_is_ahead {
            shell.database = shell.database + Duration::from_secs(3_600);
        } else {
            shell.now = shell.now + Duration::from_secs(3_600);
        }
        let begun = shell.now;
        shell.wait(Duration::from_secs(3), &[0]);
        assert!(shell.commands.is_empty(), "{:?}", shell.commands);
        assert_eq!(shell.reason(), Reason::RunningOut);
        shell.wait(Duration::from_secs(3), &[0]);
        assert_eq!(shell.granted(), (NODES[1], 2, Reason::RanOut));
        assert!(shell.now.since(begun) <= CLASS.hold_off() + Duration::from_millis(200));
    }
}

#[test]
fn a_failover_starts_the_hold_off_anew_and_lifts_the_generation() {
    let mut shell = Shell::new();
    shell.hold(0, 1);
    shell.work(10);
    shell.timeline = 2;
    shell.rows.get_mut(&CONNECTION).unwrap().hold = Hold::Ended;
    let begun = shell.now;
    shell.wait(Duration::from_secs(20), &[]);
    assert!(shell.now.since(begun) >= CLASS.hold_off());
    let (_, number, _) = shell.granted();
    assert!(number > 1 << 32, "above whatever the first timeline granted unseen: {number}");
}

#[test]
fn a_table_that_went_back_is_not_granted_on_until_somebody_accepts_it() {
    let mut shell = Shell::new();
    shell.hold(0, 7);
    shell.work(10);
    shell.timeline = 2;
    shell.hold(1, 6);
    shell.rows.get_mut(&CONNECTION).unwrap().hold = Hold::Ended;
    shell.wait(Duration::from_secs(60), &[]);
    assert!(shell.commands.is_empty());
    assert_eq!(shell.reason(), Reason::TableWentBack);
    shell.feed(Input::LossAccepted { timeline: 2 });
    let accepted = shell.now;
    shell.wait(Duration::from_secs(20), &[]);
    assert!(shell.now.since(accepted) >= CLASS.hold_off());
    assert!(shell.granted().1 > 7);
}

#[test]
fn what_was_accepted_on_an_earlier_timeline_says_nothing_of_this_one() {
    let mut shell = Shell::new();
    shell.hold(0, 7);
    shell.work(10);
    shell.timeline = 3;
    shell.hold(1, 6);
    shell.rows.get_mut(&CONNECTION).unwrap().hold = Hold::Ended;
    shell.feed(Input::LossAccepted { timeline: 2 });
    shell.wait(Duration::from_secs(60), &[]);
    assert!(shell.commands.is_empty());
    assert_eq!(shell.reason(), Reason::TableWentBack);
}

#[test]
fn what_a_node_agreed_to_counts_as_granted() {
    let mut shell = Shell::new();
    shell.report(2, true, Some(9));
    let readiness = Readiness { ready: true, floor: generation(9), holding: None };
    for _ in 0..80 {
        shell.wait(Duration::from_millis(100), &[2]);
        shell.feed(Input::Reported {
            node: NODES[2],
            connections: [(CONNECTION, readiness)].into(),
        });
    }
    assert!(shell.commands.is_empty());
    assert_eq!(shell.reason(), Reason::TableWentBack);
}

#[test]
fn a_node_that_lies_about_its_floor_holds_up_no_connection_but_that_one() {
    let other = VpnConnectionId::from_u128(2);
    let granted = |floor| {
        let mut shell = Shell::new();
        shell.feed(Input::Desired(shell_desired(other)));
        let lie = Readiness { ready: true, floor, holding: None };
        let honest = Readiness { ready: true, ..Readiness::default() };
        for _ in 0..80 {
            shell.wait(Duration::from_millis(100), &[0, 1, 2]);
            let connections = [(CONNECTION, lie), (other, honest)].into();
            shell.feed(Input::Reported { node: NODES[2], connections });
        }
        let granted = |effect: &Effect| match effect {
            Effect::Grant { connection, generation, .. } => Some((*connection, *generation)),
            _ => None,
        };
        shell.commands.iter().filter_map(granted).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(granted(generation(9)), [(other, generation(1))].into());
    let both = [(CONNECTION, generation(1)), (other, generation(1))].into();
    assert_eq!(granted(generation(u64::MAX)), both, "so many were never granted");
}

/// The usual connection and another one like it.
fn shell_desired(other: VpnConnectionId) -> BTreeMap<VpnConnectionId, Desired> {
    let desired = Desired { class: CLASS, enabled: true, nodes: NODES.into(), drain: None };
    [(CONNECTION, desired.clone()), (other, desired)].into()
}

#[test]
fn a_holder_that_works_keeps_its_connection() {
    let mut shell = Shell::new();
    shell.hold(2, 1);
    shell.work(60);
    assert!(shell.commands.is_empty(), "although others are preferred: {:?}", shell.commands);
    assert_eq!(shell.reason(), Reason::HolderWorks);
}

#[test]
fn a_draining_holder_hands_over_within_a_second_and_only_to_somebody_ready() {
    let mut shell = Shell::new();
    shell.hold(0, 1);
    shell.work(10);
    shell.feed(Input::Draining { node: NODES[0], draining: true });
    shell.wait(Duration::from_millis(100), &[]);
    let asked = shell.commands.pop().unwrap();
    let expected = Effect::AskRelease {
        connection: CONNECTION,
        node: NODES[0],
        generation: generation(1),
        reason: Reason::HolderDrains,
    };
    assert_eq!(asked, expected);
    shell.end();
    let begun = shell.now;
    shell.wait(Duration::from_secs(5), &[]);
    assert_eq!(shell.granted(), (NODES[1], 2, Reason::HandedOver));
    assert!(shell.now.since(begun) < Duration::from_millis(300), "at once");

    let mut shell = Shell::new();
    shell.hold(0, 1);
    shell.work(5);
    for node in [1, 2] {
        shell.feed(Input::Draining { node: NODES[node], draining: true });
    }
    shell.work(5);
    shell.feed(Input::Draining { node: NODES[0], draining: true });
    shell.work(5);
    assert!(shell.commands.is_empty());
    assert_eq!(shell.reason(), Reason::NobodyReady);
}

#[test]
fn a_connection_that_shall_move_goes_to_another_node_though_its_holder_is_preferred() {
    let mut shell = Shell::new();
    shell.hold(0, 1);
    shell.work(10);
    let drain = Some(generation(1));
    let desired = Desired { class: CLASS, enabled: true, nodes: NODES.into(), drain };
    shell.feed(Input::Desired([(CONNECTION, desired)].into()));
    shell.wait(Duration::from_millis(200), &[]);
    let asked = shell.commands.pop();
    assert!(matches!(asked, Some(Effect::AskRelease { reason: Reason::HolderDrains, .. })));
    // With the release the wish is fulfilled.
    let desired = Desired { class: CLASS, enabled: true, nodes: NODES.into(), drain: None };
    shell.feed(Input::Desired([(CONNECTION, desired)].into()));
    shell.end();
    shell.wait(Duration::from_secs(1), &[]);
    assert_eq!(shell.granted(), (NODES[1], 2, Reason::HandedOver));
}

#[test]
fn a_connection_that_shall_move_stays_while_no_other_node_is_ready() {
    let mut shell = Shell::new();
    shell.hold(0, 1);
    let (nodes, drain) = (NODES.into(), Some(generation(1)));
    let desired = Desired { class: CLASS, enabled: true, nodes, drain };
    shell.feed(Input::Desired([(CONNECTION, desired)].into()));
    for _ in 0..10 {
        shell.renew();
        shell.wait(Duration::from_secs(1), &[1, 2]);
    }
    assert!(shell.commands.is_empty(), "{:?}", shell.commands);
    assert_eq!(shell.reason(), Reason::NobodyReady);
}

#[test]
fn a_disabled_connection_is_taken_back_and_fenced_when_its_holder_is_silent() {
    let mut shell = Shell::new();
    shell.hold(0, 1);
    shell.work(10);
    let desired = Desired { class: CLASS, enabled: false, nodes: NODES.into(), drain: None };
    shell.feed(Input::Desired([(CONNECTION, desired)].into()));
    shell.wait(Duration::from_millis(200), &[]);
    assert!(matches!(
        shell.commands.pop(),
        Some(Effect::AskRelease { reason: Reason::Disabled, .. })
    ));
    for _ in 0..20 {
        shell.wait(Duration::from_secs(1), &[0]);
    }
    assert!(matches!(shell.commands.pop(), Some(Effect::Fence { reason: Reason::Disabled, .. })));
}

#[test]
fn a_holder_that_was_not_heard_is_told_again() {
    let mut shell = Shell::new();
    shell.hold(0, 1);
    for _ in 0..6 {
        shell.renew();
        shell.wait(Duration::from_secs(1), &[0]);
    }
    let offers =
        shell.commands.iter().filter(|effect| matches!(effect, Effect::Offer { .. })).count();
    assert!((4..=7).contains(&offers), "{offers}");
}

#[test]
fn a_draining_holder_is_followed_even_by_one_that_lost_the_connection_lately() {
    let mut shell = Shell::new();
    shell.wait(Duration::from_secs(20), &[]);
    for (node, number) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(shell.granted().0, NODES[node]);
        shell.hold(node, number);
        shell.feed(Input::Changed(CONNECTION));
        shell.wait(Duration::from_millis(300), &[]);
        shell.commands.clear();
        if node < 2 {
            // It gives up at once.
            shell.end();
            shell.wait(Duration::from_secs(5), &[]);
        }
    }
    shell.feed(Input::Draining { node: NODES[2], draining: true });
    shell.wait(Duration::from_secs(1), &[]);
    let asked = shell.commands.pop();
    assert!(matches!(asked, Some(Effect::AskRelease { .. })), "{asked:?} {}", shell.reason());
    shell.end();
    shell.wait(Duration::from_secs(5), &[]);
    assert_eq!(shell.granted(), (NODES[0], 4, Reason::HandedOver));
}

#[test]
fn a_connection_that_nobody_can_keep_up_changes_its_holder_only_so_often() {
    let mut shell = Shell::new();
    let mut grants = Vec::new();
    shell.wait(Duration::from_secs(20), &[]);
    for _ in 0..10 {
        let (node, number, _) = shell.granted();
        grants.push((shell.now, node));
        let node = NODES.iter().position(|known| *known == node).unwrap();
        shell.hold(node, number);
        shell.feed(Input::Changed(CONNECTION));
        shell.wait(Duration::from_millis(300), &[]);
        shell.commands.clear();
        // It gives up at once.
        shell.end();
        shell.wait(Duration::from_secs(60), &[]);
    }
    // The first grant followed no loss.
    for window in grants[1..].windows(MAX_LOSSES + 1) {
        let took = window[MAX_LOSSES].0.since(window[0].0);
        assert!(took >= FLAP_WINDOW, "{took:?}");
    }
    assert_ne!(grants[0].1, grants[1].1, "another node is tried first");
}

#[test]
fn a_replica_that_does_not_lead_watches_and_acts_at_once_when_it_does() {
    let mut shell = Shell::new();
    shell.feed(Input::Leading(false));
    shell.wait(Duration::from_secs(20), &[]);
    assert!(shell.commands.is_empty());
    shell.feed(Input::Leading(true));
    let begun = shell.now;
    shell.wait(Duration::from_secs(5), &[]);
    assert_eq!(shell.granted().1, 1);
    assert!(shell.now.since(begun) <= READ_EVERY + Duration::from_millis(100));
}

#[test]
fn a_lost_read_and_a_lost_command_are_repeated() {
    let mut grantor = Grantor::new(START, LeaseClass::hold_off);
    grantor.handle_timeout(START);
    assert_eq!(grantor.poll_effect(), Some(Effect::Read { read: ReadId(1) }));
    assert_eq!(grantor.poll_timeout(), Some(START + ANSWER_LIMIT));
    grantor.handle_timeout(START + ANSWER_LIMIT);
    assert_eq!(grantor.poll_effect(), Some(Effect::Read { read: ReadId(2) }));

    let mut shell = Shell::new();
    shell.wait(Duration::from_secs(20), &[]);
    let begun = shell.now;
    assert_eq!(shell.granted().1, 1);
    shell.wait(Duration::from_secs(20), &[]);
    assert_eq!(shell.granted().1, 1, "the same again");
    assert!(shell.now.since(begun) >= ANSWER_LIMIT);
}

#[test]
fn a_command_that_was_refused_is_given_again_after_a_pause() {
    let mut shell = Shell::new();
    shell.wait(Duration::from_secs(20), &[]);
    let first = shell.granted();
    for pause in [200, 400, 800, 1_000, 1_000, 1_000].map(Duration::from_millis) {
        let refused = shell.now;
        shell.feed(Input::Changed(CONNECTION));
        shell.wait(Duration::from_secs(5), &[]);
        assert_eq!(shell.granted(), first, "nothing moved");
        assert_eq!(shell.now.since(refused), pause);
    }
    // Something moved: what follows is another command, and is given at once.
    shell.hold(1, 5);
    shell.end();
    shell.wait(Duration::from_secs(5), &[]);
    assert_eq!(shell.granted().1, 6);
    let moved = shell.now;
    shell.rows.get_mut(&CONNECTION).unwrap().revision += 1;
    shell.feed(Input::Changed(CONNECTION));
    shell.wait(Duration::from_secs(5), &[]);
    assert_eq!(shell.granted().1, 6);
    assert!(shell.now.since(moved) < COMMAND_AGAIN);
    // It is refused, too: its pause is its own.
    let refused = shell.now;
    shell.feed(Input::Changed(CONNECTION));
    shell.wait(Duration::from_secs(5), &[]);
    assert_eq!(shell.granted().1, 6);
    assert_eq!(shell.now.since(refused), COMMAND_AGAIN);
}

#[test]
fn a_loss_counts_once_however_often_its_grant_is_refused() {
    let mut shell = Shell::new();
    shell.hold(0, 1);
    shell.work(10);
    shell.wait(Duration::from_secs(20), &[0]);
    for _ in 0..3 * MAX_LOSSES {
        assert_eq!(shell.granted(), (NODES[1], 2, Reason::RanOut));
        shell.feed(Input::Changed(CONNECTION));
        shell.wait(Duration::from_secs(5), &[0]);
    }
    assert_eq!(shell.reason(), Reason::RanOut, "and not that it is damped");
}

#[test]
fn one_read_leads_to_so_many_commands_and_the_next_to_the_others() {
    let connections = MAX_COMMANDS as u128 + 10;
    let ids = || (1..=connections).map(VpnConnectionId::from_u128);
    let desired = Desired { class: CLASS, enabled: true, nodes: NODES.into(), drain: None };
    let mut shell = Shell::new();
    shell.now = shell.now + Duration::from_secs(60);
    shell.feed(Input::Desired(ids().map(|id| (id, desired.clone())).collect()));
    let readiness = Readiness { ready: true, ..Readiness::default() };
    let reports = ids().map(|id| (id, readiness)).collect();
    shell.feed(Input::Reported { node: NODES[0], connections: reports });
    shell.grantor.handle_timeout(shell.now);
    shell.drain();
    assert_eq!(shell.commands.len(), MAX_COMMANDS);
    shell.grantor.handle_timeout(shell.now);
    shell.drain();
    assert_eq!(shell.commands.len(), MAX_COMMANDS + 10);
}

#[test]
fn however_many_are_refused_all_the_others_have_their_turn() {
    let last = VpnConnectionId::from_u128(u128::MAX);
    let refused = 3 * MAX_COMMANDS as u128;
    let ids = || (1..=refused).map(VpnConnectionId::from_u128);
    let desired =
        Desired { class: CLASS, enabled: true, nodes: NODES.to_vec().into(), drain: None };
    let mut shell = Shell::new();
    shell.now = shell.now + Duration::from_secs(60);
    let wanted = ids().chain([last]).map(|id| (id, desired.clone())).collect();
    shell.feed(Input::Desired(wanted));
    shell.hold(0, 1);
    let held = shell.rows.remove(&CONNECTION).unwrap();
    shell.rows.insert(last, held);
    shell.feed(Input::Draining { node: NODES[0], draining: true });
    let readiness = Readiness { ready: true, ..Readiness::default() };
    let reports: BTreeMap<_, _> = ids().chain([last]).map(|id| (id, readiness)).collect();
    // By the next read each grant was refused, and its pause is over.
    for _ in 0..4 {
        shell.now = shell.now + READ_EVERY;
        shell.feed(Input::Reported { node: NODES[1], connections: reports.clone() });
        ids().for_each(|id| shell.feed(Input::Changed(id)));
        shell.grantor.handle_timeout(shell.now);
        shell.drain();
    }
    let asked = |effect: &&Effect| matches!(effect, Effect::AskRelease { .. });
    assert_eq!(shell.commands.iter().filter(asked).count(), 1);
    assert!(shell.commands.len() >= 4 * MAX_COMMANDS - 1, "every read had enough to command");
    let of = |id| move |effect: &&Effect| matches!(effect, Effect::Grant { connection, .. } if *connection == id);
    for id in ids() {
        assert!(shell.commands.iter().filter(of(id)).count() >= 1, "{id}");
    }
}

#[test]
fn of_a_connection_that_is_neither_wanted_nor_in_the_table_nothing_is_remembered() {
    let mut shell = Shell::new();
    let other = VpnConnectionId::from_u128(2);
    let only = |id| shell_desired(other).into_iter().filter(|(it, _)| *it == id).collect();
    let known = |shell: &mut Shell, desired| {
        shell.feed(Input::Desired(desired));
        shell.grantor.handle_timeout(shell.now);
        shell.drain();
        shell.grantor.reasons().keys().copied().collect::<Vec<_>>()
    };
    assert_eq!(known(&mut shell, shell_desired(other)), [CONNECTION, other]);
    assert_eq!(known(&mut shell, only(other)), [other]);
    shell.hold(0, 1);
    assert_eq!(known(&mut shell, only(other)), [CONNECTION, other], "it has a row");
    assert_eq!(known(&mut shell, BTreeMap::new()), [CONNECTION]);
    shell.rows.clear();
    assert_eq!(known(&mut shell, BTreeMap::new()), []);
    assert_eq!(known(&mut shell, only(CONNECTION)), [CONNECTION]);
}

#[test]
fn reports_are_bounded_and_silent_nodes_make_room() {
    let mut nodes = Nodes::default();
    let ready = Readiness { ready: true, ..Readiness::default() };
    let report = || [(CONNECTION, ready)].into();
    for id in 0..MAX_NODES as u128 {
        nodes.reported(START, NodeId::from_u128(id), report());
    }
    let one_more = NodeId::from_u128(MAX_NODES as u128);
    nodes.reported(START, one_more, report());
    assert!(!nodes.is_ready(START, one_more, CONNECTION));
    nodes.reported(START + READY_FOR, one_more, report());
    assert!(nodes.is_ready(START + READY_FOR, one_more, CONNECTION));
}
