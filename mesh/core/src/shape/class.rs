//! One class: what it may take, and what it has taken.

use std::time::Duration;

use rap_proto::{
    BitRate, Lane, Moment, OrganizationId, ResourceId, ResourceKind, SessionId, UserId,
    VpnConnectionId,
    bandwidth::{Allowance, Bandwidth, Each, Traffic},
    token::AccessClaims,
};

use super::bucket::Bucket;

/// What a flow is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowOf {
    pub organization: OrganizationId,
    pub user: UserId,
    pub session: SessionId,
    pub resource: ResourceId,
    pub kind: ResourceKind,
    pub connection: Option<VpnConnectionId>,
    pub lane: Lane,
}

impl FlowOf {
    pub fn new(claims: &AccessClaims, lane: Lane) -> Self {
        Self {
            organization: claims.organization,
            user: claims.user,
            session: claims.session,
            resource: claims.resource,
            kind: claims.kind,
            connection: claims.leased.map(|leased| leased.connection),
            lane,
        }
    }
}

/// Which class it is: the node's, an organization's, a rule's (one for all, or one for each), a
/// session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClassName {
    Node,
    Organization(OrganizationId),
    Rule {
        organization: OrganizationId,
        traffic: Traffic,
        /// Of a rule that holds for each by itself; none when there were too many to tell apart.
        one: Option<One>,
    },
    /// What its flows have in common is only that they take turns.
    Session {
        organization: OrganizationId,
        session: Option<SessionId>,
    },
}

/// One of those that a rule holds for each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum One {
    User(UserId),
    Session(SessionId),
}

impl One {
    pub(super) const fn of(each: Each, of: &FlowOf) -> Self {
        match each {
            Each::User => Self::User(of.user),
            Each::Session => Self::Session(of.session),
        }
    }
}

/// How a rule concerns a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// It counts in the class.
    Counted,
    /// Its being there is why the class counts others.
    Reason,
}

pub(super) fn concern(traffic: &Traffic, of: &FlowOf) -> Option<Concern> {
    fn fits<T: PartialEq>(said: Option<T>, is: T) -> bool {
        said.is_none_or(|said| said == is)
    }
    let same = fits(traffic.resource, of.resource)
        && fits(traffic.kind, of.kind)
        && fits(traffic.user, of.user)
        && (traffic.connection.is_none() || traffic.connection == of.connection);
    let counted =
        if traffic.while_interactive { of.lane == Lane::Bulk } else { fits(traffic.lane, of.lane) };
    match (same, counted) {
        (true, true) => Some(Concern::Counted),
        (true, false) if traffic.while_interactive => Some(Concern::Reason),
        _ => None,
    }
}

/// Towards the resource, or towards the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Up,
    Down,
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) allowance: Allowance,
    while_interactive: bool,
    /// Flows that count in it, and flows that are why it counts.
    pub(super) flows: u32,
    pub(super) reasons: u32,
    /// When one of it was served last, in turns.
    pub(super) turn: u64,
    /// Bytes that interactive flows are ahead of bulk's floor, in each direction; below nothing
    /// when bulk had more.
    pub(super) ahead: [i64; 2],
    pub(super) meters: [Meter; 2],
}

/// One direction of a class.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    cap: Option<Bucket>,
    reserve: Option<Bucket>,
    /// Flows that wait for a grant.
    pub(super) waiting: u32,
    /// The round in which somebody before all others waits for this cap.
    pub(super) claimed: u64,
    pub(super) waited: Duration,
    gauge: Gauge,
}

impl Class {
    pub(super) fn new(name: &ClassName, allowance: Allowance, now: Moment) -> Self {
        let while_interactive = match name {
            ClassName::Rule { traffic, .. } => traffic.while_interactive,
            _ => false,
        };
        let mut class = Self {
            allowance: Allowance::default(),
            while_interactive,
            flows: 0,
            reasons: 0,
            turn: 0,
            ahead: [0; 2],
            meters: [Meter::default(), Meter::default()],
        };
        class.allow(allowance, now);
        class
    }

    pub(super) fn allow(&mut self, allowance: Allowance, now: Moment) {
        self.allowance = allowance;
        for meter in &mut self.meters {
            set(&mut meter.cap, allowance.cap, now);
            set(&mut meter.reserve, allowance.reserved, now);
        }
    }

    pub(super) fn meter(&mut self, direction: Direction) -> &mut Meter {
        &mut self.meters[direction.index()]
    }

    /// The cap, where it counts now.
    pub(super) fn cap(&self, direction: Direction) -> Option<&Bucket> {
        let counts = !self.while_interactive || self.reasons > 0;
        self.meters[direction.index()].cap.as_ref().filter(|_| counts)
    }

    /// Whether what is wanted is within the reserve.
    pub(super) fn is_committed(&self, now: Moment, direction: Direction, want: usize) -> bool {
        let reserve = self.meters[direction.index()].reserve.as_ref();
        reserve.is_some_and(|reserve| reserve.bytes(now) >= want.min(reserve.quantum()))
    }

    /// How much of the reserve there is for somebody who wants so much; none when too little.
    pub(super) fn committed(
        &self,
        now: Moment,
        direction: Direction,
        want: usize,
    ) -> Option<usize> {
        let reserve = self.meters[direction.index()].reserve.as_ref()?;
        self.is_committed(now, direction, want).then(|| reserve.bytes(now))
    }

    /// Counts bytes that pass, of so many that were wanted. What is excess to this class leaves its
    /// reserve as it is.
    pub(super) fn pass(&mut self, now: Moment, direction: Direction, bytes: usize, want: usize) {
        let committed = self.is_committed(now, direction, want);
        let meter = self.meter(direction);
        if let Some(cap) = &mut meter.cap {
            cap.take(now, bytes);
        }
        if let Some(reserve) = meter.reserve.as_mut().filter(|_| committed) {
            reserve.take(now, bytes);
        }
        meter.gauge.count(now, bytes);
    }
}

fn set(bucket: &mut Option<Bucket>, rate: Option<BitRate>, now: Moment) {
    match (bucket.as_mut(), rate) {
        (Some(bucket), Some(rate)) => bucket.change(rate, now),
        (None, Some(rate)) => *bucket = Some(Bucket::full(rate, now)),
        (_, None) => *bucket = None,
    }
}

/// What the policy allows a class.
pub(super) fn allowance(policy: &Bandwidth, name: &ClassName) -> Allowance {
    match name {
        ClassName::Node => Allowance { cap: policy.node, reserved: None },
        ClassName::Organization(id) => {
            policy.organizations.get(id).map(|found| found.granted).unwrap_or_default()
        }
        ClassName::Rule { organization, traffic, .. } => {
            let rules = policy.organizations.get(organization).into_iter().flat_map(|o| &o.rules);
            let rule = rules.into_iter().find(|rule| rule.traffic == *traffic);
            rule.map(|rule| rule.allowance).unwrap_or_default()
        }
        ClassName::Session { .. } => Allowance::default(),
    }
}

/// Bytes of the last whole second.
#[derive(Debug, Clone, Copy, Default)]
struct Gauge {
    second: u64,
    this: u64,
    last: u64,
}

impl Gauge {
    fn count(&mut self, now: Moment, bytes: usize) {
        let second = now.micros() / 1_000_000;
        if second != self.second {
            self.last = if second == self.second + 1 { self.this } else { 0 };
            (self.second, self.this) = (second, 0);
        }
        self.this = self.this.saturating_add(bytes as u64);
    }

    fn bits_per_second(&self, now: Moment) -> u64 {
        match (now.micros() / 1_000_000).checked_sub(self.second) {
            Some(0) => self.last.saturating_mul(8),
            Some(1) => self.this.saturating_mul(8),
            _ => 0,
        }
    }
}

/// What a node's operator is shown of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassStatus {
    pub name: ClassName,
    pub allowance: Allowance,
    pub flows: u32,
    pub up: MeterStatus,
    pub down: MeterStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterStatus {
    /// Of the last second.
    pub bits_per_second: u64,
    /// How long flows have waited for this class, all together.
    pub waited: Duration,
}

impl Class {
    pub(super) fn status(&self, name: ClassName, now: Moment) -> ClassStatus {
        let [up, down] = self.meters.each_ref().map(|meter| MeterStatus {
            bits_per_second: meter.gauge.bits_per_second(now),
            waited: meter.waited,
        });
        ClassStatus { name, allowance: self.allowance, flows: self.flows, up, down }
    }
}
