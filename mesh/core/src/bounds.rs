//! What one relay forwards at most: of a flow, of whoever asked for it, and of the organization that
//! a leg is for.
//!
//! A bound has two meters, of bytes and of datagrams, each a token bucket as RFC 2697 has it. Both
//! directions of a flow count together. A datagram counts with its headers, so that one of no bytes
//! counts, too. One that does not fit is dropped, and counted: who sends it takes that for a loss and
//! slows down. A stream that does not fit is not read until it does, which its sender feels. Streams
//! have no datagrams, and count bytes alone.
//!
//! A relay carries legs of many organizations for one asker, another relay; so a leg counts for both.

use std::collections::BTreeMap;

use rap_proto::{BitRate, Moment, NodeId, OrganizationId};

use crate::shape::{Bucket, MIN_GRANT};

#[cfg(test)]
mod tests;

/// What one flow may pass.
pub const FLOW_BOUND: Bound = Bound::new(1_000_000, 20_000_000_000);
/// What all flows may that one node asked for.
pub const ASKER_BOUND: Bound = Bound::new(2_000_000, 40_000_000_000);
/// What all legs may that are for one organization, whoever asked for them: half of what one asker
/// may, who asks for many.
pub const ORGANIZATION_BOUND: Bound = Bound::new(1_000_000, 20_000_000_000);

/// What the link carries around a datagram: headers of IP and UDP, and a frame's. Many that are small
/// weigh as much as they take.
pub const HEADER_BYTES: usize = 48;

/// So much in a second, and 50 ms of it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub datagrams_per_second: u32,
    /// In bits per second, datagrams with their headers.
    pub rate: BitRate,
}

impl Bound {
    /// # Panics
    /// When `bits_per_second` is no [`BitRate`].
    pub const fn new(datagrams_per_second: u32, bits_per_second: u64) -> Self {
        let rate = BitRate::new(bits_per_second).expect("a rate that is written down here");
        Self { datagrams_per_second, rate }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub flow: Bound,
    pub asker: Bound,
    pub organization: Bound,
}

impl Limits {
    pub const RELAY: Self =
        Self { flow: FLOW_BOUND, asker: ASKER_BOUND, organization: ORGANIZATION_BOUND };
}

/// Whose a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    pub asker: NodeId,
    /// Of a leg.
    pub organization: Option<OrganizationId>,
}

/// Datagrams of the same size, but for the last, that were received together: at least one, which
/// may have no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub bytes: usize,
    /// Of one datagram.
    pub stride: usize,
}

impl Run {
    pub fn datagrams(self) -> usize {
        self.bytes.div_ceil(self.stride()).max(1)
    }

    /// The bytes of its first so many datagrams.
    pub fn bytes_of(self, datagrams: usize) -> usize {
        datagrams.saturating_mul(self.stride()).min(self.bytes)
    }

    /// What the link carries for its first so many datagrams.
    pub fn weight_of(self, datagrams: usize) -> usize {
        self.bytes_of(datagrams).saturating_add(datagrams.saturating_mul(HEADER_BYTES))
    }

    fn stride(self) -> usize {
        self.stride.max(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// A stream may pass so many bytes.
    Now(usize),
    /// It has to ask again then.
    At(Moment),
}

/// What was forwarded since the start, without headers; it names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub datagrams: u64,
    /// Of datagrams and of streams.
    pub bytes: u64,
    /// Beyond a bound.
    pub dropped_datagrams: u64,
    pub dropped_bytes: u64,
    /// How often a stream was not read for a while.
    pub held_back: u64,
}

/// INVARIANT: `askers` and `organizations` have a meter for each that has flows, and count them.
#[derive(Debug)]
pub struct Bounds {
    limits: Limits,
    flows: BTreeMap<u64, Flow>,
    askers: BTreeMap<NodeId, Shared>,
    organizations: BTreeMap<OrganizationId, Shared>,
    counts: Counts,
}

#[derive(Debug)]
struct Flow {
    whose: Whose,
    meter: Meter,
}

#[derive(Debug)]
struct Shared {
    flows: usize,
    meter: Meter,
}

impl Shared {
    fn new(now: Moment, bound: Bound) -> Self {
        Self { flows: 0, meter: Meter::full(now, bound) }
    }

    fn is_needed(&self, now: Moment) -> bool {
        self.flows > 0 || !self.meter.is_full(now)
    }
}

impl Bounds {
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            flows: BTreeMap::new(),
            askers: BTreeMap::new(),
            organizations: BTreeMap::new(),
            counts: Counts {
                datagrams: 0,
                bytes: 0,
                dropped_datagrams: 0,
                dropped_bytes: 0,
                held_back: 0,
            },
        }
    }

    /// A flow begins. Its number is used once.
    pub fn begin(&mut self, now: Moment, flow: u64, whose: Whose) {
        self.end(flow);
        // Whoever ends its last flow and asks for another has no new meter by that.
        self.askers.retain(|_, shared| shared.is_needed(now));
        self.organizations.retain(|_, shared| shared.is_needed(now));
        let Limits { flow: own, asker, organization } = self.limits;
        self.flows.insert(flow, Flow { whose, meter: Meter::full(now, own) });
        let asking = self.askers.entry(whose.asker);
        asking.or_insert_with(|| Shared::new(now, asker)).flows += 1;
        if let Some(id) = whose.organization {
            let meant = self.organizations.entry(id);
            meant.or_insert_with(|| Shared::new(now, organization)).flows += 1;
        }
    }

    pub fn end(&mut self, flow: u64) {
        let Some(Flow { whose, .. }) = self.flows.remove(&flow) else { return };
        part(&mut self.askers, whose.asker);
        if let Some(organization) = whose.organization {
            part(&mut self.organizations, organization);
        }
    }

    /// How many datagrams of a run may pass: the first ones. The others are to be dropped.
    pub fn admit(&mut self, now: Moment, flow: u64, run: Run) -> usize {
        let received = run.datagrams();
        let whole = run.weight_of(received);
        let (mut datagrams, mut room) = (received, whole);
        self.meters(flow, |meter| {
            datagrams = datagrams.min(meter.datagrams.bytes(now) / MIN_GRANT);
            room = room.min(meter.bytes.bytes(now));
        });
        if room < whole {
            datagrams = datagrams.min(room / run.weight_of(1));
        }
        let bytes = run.bytes_of(datagrams);
        self.meters(flow, |meter| {
            meter.datagrams.take(now, datagrams.saturating_mul(MIN_GRANT));
            meter.bytes.take(now, run.weight_of(datagrams));
        });
        self.counts.datagrams += datagrams as u64;
        self.counts.bytes += bytes as u64;
        self.counts.dropped_datagrams += (received - datagrams) as u64;
        self.counts.dropped_bytes += (run.bytes - bytes) as u64;
        datagrams
    }

    /// How much of a stream may be read now, or when there is more to be read than a little.
    pub fn quota(&mut self, now: Moment, flow: u64) -> Quota {
        let (mut room, mut at) = (usize::MAX, now);
        self.meters(flow, |meter| {
            room = room.min(meter.bytes.bytes(now));
            at = at.max(meter.bytes.ready(now, meter.bytes.quantum()));
        });
        if room >= MIN_GRANT || at <= now {
            return Quota::Now(room);
        }
        self.counts.held_back += 1;
        Quota::At(at)
    }

    /// A stream passed so many bytes.
    pub fn passed(&mut self, now: Moment, flow: u64, bytes: usize) {
        self.meters(flow, |meter| meter.bytes.take(now, bytes));
        self.counts.bytes += bytes as u64;
    }

    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// All meters that a flow counts for; none of one that has ended.
    fn meters(&mut self, flow: u64, mut each: impl FnMut(&mut Meter)) {
        let Some(Flow { whose, meter }) = self.flows.get_mut(&flow) else { return };
        each(meter);
        if let Some(shared) = self.askers.get_mut(&whose.asker) {
            each(&mut shared.meter);
        }
        let organization = whose.organization.and_then(|id| self.organizations.get_mut(&id));
        if let Some(shared) = organization {
            each(&mut shared.meter);
        }
    }
}

/// One flow less of somebody.
fn part<K: Ord>(shared: &mut BTreeMap<K, Shared>, key: K) {
    if let Some(found) = shared.get_mut(&key) {
        found.flows -= 1;
    }
}

#[derive(Debug)]
struct Meter {
    bytes: Bucket,
    /// Each counts as [`MIN_GRANT`] bytes, about what a datagram has.
    datagrams: Bucket,
}

impl Meter {
    fn full(now: Moment, bound: Bound) -> Self {
        let datagrams = u64::from(bound.datagrams_per_second).saturating_mul(MIN_GRANT as u64 * 8);
        Self {
            bytes: Bucket::full(bound.rate.bits_per_second(), now),
            datagrams: Bucket::full(datagrams, now),
        }
    }

    fn is_full(&self, now: Moment) -> bool {
        self.bytes.is_full(now) && self.datagrams.is_full(now)
    }
}
