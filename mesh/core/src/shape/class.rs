//! One class: what it may take, and what it has taken.

use std::time::Duration;

use rap_proto::{
    BitRate, Lane, Moment, OrganizationId, ResourceId, ResourceKind, SessionId, UserId,
    VpnConnectionId,
    bandwidth::{Allowance, Each, Traffic},
    token::AccessClaims,
};

use super::{
    ClassId,
    bucket::Bucket,
    plan::Share,
    queue::QueueId,
    turns::{Ahead, Floors, LanesAhead, Order, Standing, Tags},
};

/// What a flow is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// Which class it is: the node's, an organization's, or a rule's (one for all, or one for each).
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
        (true, false) if traffic.while_interactive && of.lane == Lane::Interactive => {
            Some(Concern::Reason)
        }
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

#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: ClassName,
    said: Allowance,
    /// Flows that count in it, and queues that are why it counts.
    pub(super) flows: u32,
    pub(super) reasons: u32,
    /// Of an organization: classes of its rules for each of many.
    pub(super) ones: usize,
    meters: [Meter; 2],
}

/// One direction of a class.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) cap: Option<Bucket>,
    reserve: Option<Bucket>,
    /// Of an organization: who is ready. Of a rule: who waits for its cap.
    pub(super) order: Order,
    /// For whom so many bytes of the cap are kept, who is the first to want them.
    pub(super) claim: Option<(QueueId, usize)>,
    /// Who was told to be ready, as the cap has what it wants.
    pub(super) called: Option<QueueId>,
    /// When somebody looks at it again.
    pub(super) wake: Option<Moment>,
    pub(super) waited: Duration,
    gauge: Gauge,
    /// Of the floor of what is in excess, and of the lanes' among the committed and in excess.
    standings: Ahead,
    committed: LanesAhead,
    excess: LanesAhead,
    pub(super) among: Among,
}

/// What decides about turns within an organization, and about its own among others. Of no use to
/// other classes.
#[derive(Debug, Default)]
pub(super) struct Among {
    /// Where it stands at the node.
    pub(super) listed: Option<Listed>,
    /// How much it borrowed at the node.
    pub(super) tag: u64,
    /// Where those who come anew begin, by lane.
    interactive: Tags,
    media: Tags,
    bulk: Tags,
    /// Which cap last held all of it.
    pub(super) held_by: Option<ClassId>,
}

/// In which of the node's orders an organization is, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) committed: bool,
    pub(super) tag: u64,
    /// When its reserve has what it wants.
    pub(super) due: Option<Moment>,
}

impl Among {
    pub(super) fn clock(&mut self, lane: Lane) -> &mut Tags {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Media => &mut self.media,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

impl Meter {
    /// Counts what passes against the floors.
    pub(super) fn count(&mut self, lane: Lane, standing: Standing, bytes: usize) {
        self.standings.count(standing == Standing::Committed, bytes);
        let lanes = match standing {
            Standing::Committed => &mut self.committed,
            Standing::Excess => &mut self.excess,
        };
        lanes.count(lane, bytes);
    }

    pub(super) fn floors(&self) -> Floors {
        Floors {
            excess: self.standings.is_floor_due(),
            committed: self.committed.due(),
            in_excess: self.excess.due(),
        }
    }

    /// Bytes of the cap that are there for a queue.
    fn bytes(&self, cap: &Bucket, now: Moment, queue: QueueId) -> usize {
        cap.bytes(now).saturating_sub(self.kept_from(queue))
    }

    /// When there are so many.
    fn ready(&self, cap: &Bucket, now: Moment, queue: QueueId, bytes: usize) -> Moment {
        cap.ready(now, bytes.saturating_add(self.kept_from(queue)))
    }

    fn kept_from(&self, queue: QueueId) -> usize {
        self.claim.filter(|(of, _)| *of != queue).map_or(0, |(_, bytes)| bytes)
    }
}

impl Class {
    pub(super) fn new(name: ClassName) -> Self {
        Self {
            name,
            said: Allowance::default(),
            flows: 0,
            reasons: 0,
            ones: 0,
            meters: <[Meter; 2]>::default(),
        }
    }

    pub(super) fn allow(&mut self, share: Share, now: Moment) {
        self.said = share.said;
        let cap = share.said.cap.map(BitRate::bits_per_second);
        for meter in &mut self.meters {
            set(&mut meter.cap, cap, now);
            set(&mut meter.reserve, share.reserved, now);
        }
    }

    pub(super) fn meter(&self, direction: Direction) -> &Meter {
        &self.meters[direction.index()]
    }

    pub(super) fn meter_mut(&mut self, direction: Direction) -> &mut Meter {
        &mut self.meters[direction.index()]
    }

    pub(super) fn has_reserve(&self) -> bool {
        self.said.reserved.is_some()
    }

    /// Whether something was said of it.
    pub(super) fn is_said(&self) -> bool {
        self.said != Allowance::default()
    }

    /// The cap, where it counts now.
    fn cap(&self, direction: Direction) -> Option<&Bucket> {
        let counts = match self.name {
            ClassName::Rule { traffic, .. } => !traffic.while_interactive || self.reasons > 0,
            _ => true,
        };
        self.meter(direction).cap.as_ref().filter(|_| counts)
    }

    /// What who wants as much waits for at least; none without a cap.
    pub(super) fn quantum(&self, direction: Direction) -> Option<usize> {
        self.cap(direction).map(Bucket::quantum)
    }

    /// How many bytes a queue may have of the cap; none without one.
    pub(super) fn bytes(&self, now: Moment, direction: Direction, queue: QueueId) -> Option<usize> {
        Some(self.meter(direction).bytes(self.cap(direction)?, now, queue))
    }

    /// When a queue may have so many; none without a cap.
    pub(super) fn ready(
        &self,
        now: Moment,
        direction: Direction,
        queue: QueueId,
        bytes: usize,
    ) -> Option<Moment> {
        Some(self.meter(direction).ready(self.cap(direction)?, now, queue, bytes))
    }

    /// How much of the reserve there is for somebody who wants so much; none when too little.
    pub(super) fn committed(
        &self,
        now: Moment,
        direction: Direction,
        want: usize,
    ) -> Option<usize> {
        let reserve = self.meter(direction).reserve.as_ref()?;
        let bytes = reserve.bytes(now);
        (bytes >= want.min(reserve.quantum())).then_some(bytes)
    }

    /// When what is wanted is within the reserve; none without one.
    pub(super) fn commits_at(
        &self,
        now: Moment,
        direction: Direction,
        want: usize,
    ) -> Option<Moment> {
        let reserve = self.meter(direction).reserve.as_ref()?;
        Some(reserve.ready(now, want.min(reserve.quantum())))
    }

    /// Counts bytes that pass. What is excess to this class leaves its reserve as it is.
    pub(super) fn pass(&mut self, now: Moment, direction: Direction, bytes: usize, commits: bool) {
        let meter = self.meter_mut(direction);
        if let Some(cap) = &mut meter.cap {
            cap.take(now, bytes);
        }
        if let Some(reserve) = meter.reserve.as_mut().filter(|_| commits) {
            reserve.take(now, bytes);
        }
        meter.gauge.count(now, bytes);
    }
}

fn set(bucket: &mut Option<Bucket>, rate: Option<u64>, now: Moment) {
    match (bucket.as_mut(), rate) {
        (Some(bucket), Some(rate)) => bucket.change(rate, now),
        (None, Some(rate)) => *bucket = Some(Bucket::full(rate, now)),
        (_, None) => *bucket = None,
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
    pub(super) fn status(&self, now: Moment) -> ClassStatus {
        let [up, down] = self.meters.each_ref().map(|meter| MeterStatus {
            bits_per_second: meter.gauge.bits_per_second(now),
            waited: meter.waited,
        });
        ClassStatus { name: self.name, allowance: self.said, flows: self.flows, up, down }
    }
}
