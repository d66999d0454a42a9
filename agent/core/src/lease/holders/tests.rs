#![allow(clippy::unwrap_used)]

use rap_proto::{
    OrganizationId,
    wire::node_api::{LeaseRelease, MAX_LEASES_PER_CALL, RenewalAnswer},
};

use super::*;

const START: Moment = Moment::from_micros(1_000_000_000);
const CLASS: LeaseClass = LeaseClass::Fast;

fn connection(number: u128) -> VpnConnectionId {
    VpnConnectionId::from_u128(number)
}

fn told(number: u128, granted: Option<u64>) -> Connection {
    Connection {
        id: connection(number),
        organization: OrganizationId::from_u128(9),
        class: CLASS,
        enabled: true,
        granted: granted.map(Generation::new),
    }
}

/// The machine with a disk, a driver and a control that do at once what they are asked.
struct Shell {
    machine: Holders,
    now: Moment,
    floors: BTreeMap<VpnConnectionId, Generation>,
    active: BTreeMap<VpnConnectionId, Generation>,
    calls: Vec<LeasesRequest>,
    reports: Vec<LeaseReport>,
    /// Whether control answers.
    answers: bool,
}

impl Shell {
    fn new() -> Self {
        Self {
            machine: Holders::new(START, 7),
            now: START,
            floors: BTreeMap::new(),
            active: BTreeMap::new(),
            calls: Vec::new(),
            reports: Vec::new(),
            answers: true,
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle_input(self.now, input);
        self.perform();
    }

    fn tell(&mut self, connections: Vec<Connection>) {
        self.feed(Input::Authority { until: None });
        self.tell_snapshot(connections);
    }

    /// Without a word about authority.
    fn tell_snapshot(&mut self, connections: Vec<Connection>) {
        let until = self.now + Duration::from_secs(3_600);
        self.feed(Input::Told { connections, draining: false, until });
    }

    fn perform(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            let input = match effect {
                Effect::LoadFloor { connection } => {
                    let floor = self.floors.get(&connection).copied().unwrap_or_default();
                    Input::Loaded { connection, floor: Some(floor) }
                }
                Effect::PersistFloor { connection, generation } => {
                    self.floors.insert(connection, generation);
                    Input::Persisted { connection, generation }
                }
                Effect::Activate { connection, generation } => {
                    self.active.insert(connection, generation);
                    Input::Activated { connection, generation }
                }
                Effect::Deactivate { connection, generation } => {
                    self.active.remove(&connection);
                    Input::Deactivated { connection, generation }
                }
                Effect::Probe { connection } => Input::Probed { connection, ready: true },
                Effect::Call(request) => {
                    self.calls.push(request.clone());
                    if !self.answers {
                        continue;
                    }
                    Input::Answered(Some(grants(request)))
                }
                Effect::Report(report) => {
                    self.reports.push(report);
                    continue;
                }
            };
            self.machine.handle_input(self.now, input);
        }
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.perform();
        }
        self.now = end;
    }

    fn may_forward(&self, number: u128, generation: u64) -> bool {
        let permit = self.machine.permit(connection(number));
        permit.is_some_and(|permit| permit.covers(self.now, Generation::new(generation)))
    }
}

/// What control says when everything that is asked for is so.
fn grants(request: LeasesRequest) -> LeasesReply {
    let renewed = |one: rap_proto::wire::node_api::LeaseRenewal| RenewalAnswer {
        connection: one.connection,
        request: one.request,
        outcome: RenewalVerdict::Renewed { generation: one.generation, remaining_ms: 4_000 },
    };
    let renewals = request.renewals.into_iter().map(renewed).collect();
    LeasesReply { renewals, released: request.releases }
}

#[test]
fn a_grant_in_a_snapshot_is_written_down_renewed_and_only_then_acted_on() {
    let mut shell = Shell::new();
    shell.answers = false;
    shell.tell(vec![told(1, Some(3))]);
    assert_eq!(shell.floors[&connection(1)], Generation::new(3));
    assert!(shell.active.is_empty(), "not renewed yet");
    let call = shell.calls.pop().unwrap();
    shell.feed(Input::Answered(Some(grants(call))));
    assert_eq!(shell.active[&connection(1)], Generation::new(3));
    assert!(shell.may_forward(1, 3) && !shell.may_forward(1, 4));
    shell.wait(Duration::from_secs(4));
    assert!(!shell.may_forward(1, 3), "nobody renewed it");
    assert!(shell.active.is_empty());
}

#[test]
fn what_a_snapshot_does_not_name_is_never_taken_and_what_it_names_no_more_is_given_up() {
    let mut shell = Shell::new();
    let offer = |number, generation| Input::Offered {
        connection: connection(number),
        generation: Generation::new(generation),
        class: CLASS,
    };
    shell.feed(offer(1, 1));
    shell.tell(vec![told(2, None)]);
    shell.feed(offer(1, 1));
    assert!(shell.floors.is_empty() && shell.calls.is_empty());
    shell.feed(offer(2, 5));
    assert!(shell.may_forward(2, 5));
    shell.tell(vec![]);
    assert!(!shell.may_forward(2, 5) && shell.active.is_empty());
    shell.feed(offer(2, 6));
    shell.wait(Duration::from_secs(2));
    let released = LeaseRelease { connection: connection(2), generation: Generation::new(5) };
    assert!(shell.calls.iter().any(|call| call.releases == [released]));
    assert_eq!(shell.machine.each().count(), 0, "nothing is left of it");
    let last = shell.reports.last().unwrap();
    assert!(last.connections.is_empty());
    let reports = shell.reports.len();
    shell.wait(Duration::from_secs(60));
    assert_eq!(shell.reports.len(), reports, "who carries nothing says nothing");
}

#[test]
fn a_connection_that_nobody_wants_any_more_is_given_up() {
    let mut shell = Shell::new();
    shell.tell(vec![told(1, Some(1))]);
    assert!(shell.may_forward(1, 1));
    shell.tell(vec![Connection { enabled: false, ..told(1, Some(1)) }]);
    assert!(shell.active.is_empty());
}

#[test]
fn a_lease_ends_with_the_life_of_the_snapshot() {
    let mut shell = Shell::new();
    let until = shell.now + Duration::from_secs(10);
    let connections = vec![told(1, Some(1))];
    shell.feed(Input::Authority { until: None });
    shell.feed(Input::Told { connections, draining: false, until });
    shell.wait(Duration::from_secs(9));
    assert!(shell.may_forward(1, 1));
    shell.wait(Duration::from_secs(1));
    assert!(!shell.may_forward(1, 1) && shell.active.is_empty());
}

#[test]
fn many_connections_share_calls_and_a_call_holds_so_many() {
    let mut shell = Shell::new();
    let count = MAX_LEASES_PER_CALL + 9;
    let all = (1..=count as u128).map(|number| told(number, Some(1))).collect();
    shell.tell(all);
    shell.wait(Duration::from_secs(1));
    assert_eq!(shell.active.len(), count);
    assert!(shell.calls.iter().all(|call| call.renewals.len() <= MAX_LEASES_PER_CALL));
    let (before, span) = (shell.calls.len(), Duration::from_secs(10));
    shell.wait(span);
    let calls = u32::try_from(shell.calls.len() - before).unwrap();
    assert!(CALL_GAP * calls <= span + CALL_GAP, "{calls}");
    assert_eq!(shell.active.len(), count, "and all of them are renewed in time");
    assert!(shell.machine.counts().renewed > 10 * count as u64);
}

#[test]
fn one_call_at_a_time_and_one_that_failed_is_followed_by_another() {
    let mut shell = Shell::new();
    shell.tell(vec![told(1, Some(1))]);
    shell.answers = false;
    shell.wait(Duration::from_millis(2_500));
    assert_eq!(shell.calls.len(), 2, "the second is not answered yet");
    shell.feed(Input::Answered(None));
    shell.answers = true;
    shell.wait(Duration::from_millis(500));
    assert!(shell.calls.len() > 2 && shell.may_forward(1, 1));
}

#[test]
fn a_node_tells_how_it_stands_each_second_and_after_a_change() {
    let mut shell = Shell::new();
    shell.tell(vec![told(1, None), told(2, None)]);
    shell.wait(REPORT_GAP);
    let report = shell.reports.last().unwrap().clone();
    assert_eq!(report.connections.len(), 2);
    assert!(report.connections.iter().all(|one| one.ready && one.holding.is_none()));
    shell.reports.clear();
    shell.wait(Duration::from_secs(10));
    assert!((9..=12).contains(&shell.reports.len()), "{}", shell.reports.len());
    shell.feed(Input::Leave);
    shell.wait(REPORT_GAP);
    let report = shell.reports.last().unwrap();
    assert!(report.draining && report.connections.iter().all(|one| !one.ready));
}

#[test]
fn a_node_that_leaves_waits_to_be_asked_and_stops_when_it_gives_up() {
    let mut shell = Shell::new();
    shell.tell(vec![told(1, Some(1)), told(2, Some(1))]);
    shell.feed(Input::Leave);
    shell.wait(Duration::from_secs(2));
    assert_eq!(shell.active.len(), 2, "it goes on until somebody can follow");
    let asked = Input::ReleaseAsked { connection: connection(1), generation: Generation::new(1) };
    shell.feed(asked);
    assert!(!shell.machine.is_idle());
    shell.feed(Input::GiveUp);
    shell.wait(Duration::from_secs(1));
    assert!(shell.active.is_empty() && shell.machine.is_idle());
}

#[test]
fn a_connection_whose_floor_cannot_be_read_is_not_carried_and_not_reported() {
    let mut shell = Shell::new();
    shell.machine.handle_input(
        shell.now,
        Input::Told {
            connections: vec![told(1, Some(1))],
            draining: false,
            until: shell.now + Duration::from_secs(60),
        },
    );
    assert_eq!(shell.machine.poll_effect(), Some(Effect::LoadFloor { connection: connection(1) }));
    shell.feed(Input::Loaded { connection: connection(1), floor: None });
    shell.wait(Duration::from_secs(2));
    assert!(shell.active.is_empty());
    assert!(shell.reports.iter().all(|report| report.connections.is_empty()));
}

#[test]
fn so_many_connections_are_carried_and_the_others_left_to_other_nodes() {
    let mut shell = Shell::new();
    let all = (1..=MAX_CONNECTIONS as u128 + 5).map(|number| told(number, None)).collect();
    shell.tell(all);
    assert_eq!(shell.machine.each().count(), MAX_CONNECTIONS);
}

#[test]
fn nothing_is_held_before_the_beat_was_asked_and_nothing_outlives_what_it_gives() {
    let mut shell = Shell::new();
    shell.tell_snapshot(vec![told(1, Some(5))]);
    shell.wait(Duration::from_secs(2));
    assert!(!shell.may_forward(1, 5), "whether control has a quorum is not known");
    let isolated_at = shell.now + Duration::from_secs(20);
    shell.feed(Input::Authority { until: Some(isolated_at) });
    shell.wait(Duration::from_secs(15));
    assert!(shell.may_forward(1, 5));
    // A control without quorum goes on renewing.
    shell.wait(Duration::from_secs(5));
    assert!(!shell.may_forward(1, 5));
    shell.wait(Duration::from_secs(5));
    assert!(shell.active.is_empty(), "the driver was stopped");
    assert!(!shell.calls.is_empty());
}

#[test]
fn a_later_beat_prolongs_what_the_earlier_gave() {
    let mut shell = Shell::new();
    shell.feed(Input::Authority { until: Some(shell.now + Duration::from_secs(10)) });
    shell.tell_snapshot(vec![told(1, Some(5))]);
    shell.wait(Duration::from_secs(5));
    assert!(shell.may_forward(1, 5));
    shell.feed(Input::Authority { until: Some(shell.now + Duration::from_secs(10)) });
    shell.wait(Duration::from_secs(9));
    assert!(shell.may_forward(1, 5));
    shell.wait(Duration::from_secs(1));
    assert!(!shell.may_forward(1, 5));
}
