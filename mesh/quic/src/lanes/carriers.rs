//! Which carrier new flows are tried on: measures those that run, asks [`Choice`], and remembers what
//! became of it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex},
    time::Duration,
};

use rap_mesh_core::{
    carrier::Carrier,
    carriers::{Choice, Chosen, Measure, Meter, Reason, allows},
    shape::Direction,
};
use rap_proto::{Lane, Moment, carriers::CarrierRuling};

use super::LaneKey;
use crate::{
    CarrierStatus,
    mesh::{Mesh, locked},
};

/// The most lanes that something is remembered of; beyond that the one that is unused for longest is
/// forgotten.
const MAX_CHOICES: usize = 2048;
/// How long a choice waits for its flow, which its client asks for at once.
const AHEAD: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Choices(Mutex<BTreeMap<LaneKey, Known>>);

struct Known {
    choice: Choice,
    /// What the last new flow took, and why.
    last: Option<(Carrier, Reason)>,
    /// What was chosen for a flow that will be asked for in a moment.
    ahead: Option<(Chosen, Moment)>,
    used: Moment,
}

impl Choices {
    pub(super) fn choose(&self, mesh: &Mesh, key: LaneKey) -> Option<Chosen> {
        let now = mesh.clock.moment();
        self.of(now, key, |known| match known.ahead.take() {
            Some((chosen, until)) if now < until => Some(chosen),
            _ => known.choice.choose(now, ruling(mesh, key), mesh.network.seed()),
        })
    }

    /// Nothing was done about this choice; the flow that it was made for takes it when it comes. A trial
    /// would be lost otherwise.
    pub(super) fn choose_ahead(&self, mesh: &Mesh, key: LaneKey, chosen: Chosen) {
        let now = mesh.clock.moment();
        self.of(now, key, |known| known.ahead = Some((chosen, now + AHEAD)));
    }

    /// A flow opened, on this carrier.
    pub(super) fn took(&self, mesh: &Mesh, key: LaneKey, (carrier, reason): (Carrier, Reason)) {
        let was = self.of(mesh.clock.moment(), key, |known| known.last.replace((carrier, reason)));
        if was != Some((carrier, reason)) {
            let (egress, lane, reason) = (key.egress, key.lane, reason.as_str());
            tracing::info!(%egress, %lane, %carrier, reason, "new flows take this carrier");
        }
    }

    /// The answer to a flow's opening came on this carrier.
    pub(super) fn opened(&self, mesh: &Mesh, key: LaneKey, carrier: Carrier, took: Duration) {
        self.measured(mesh.clock.moment(), key, carrier, Measure::Opened { took });
    }

    /// Whether a flow that is on this carrier since then leaves it.
    fn leaves(&self, mesh: &Mesh, key: LaneKey, (on, since): (Carrier, Moment)) -> bool {
        let now = mesh.clock.moment();
        self.of(now, key, |known| known.choice.leaves(now, ruling(mesh, key), on, since))
    }

    pub(super) fn status(&self, mesh: &Mesh) -> Vec<CarrierStatus> {
        let (now, view) = (mesh.clock.moment(), mesh.view());
        let status = |(key, known): (&LaneKey, &Known)| {
            let LaneKey { egress, organization, lane } = *key;
            let ruling = view.carrier_ruling(organization, lane);
            let known_of = known.choice.status(now);
            CarrierStatus { egress, organization, lane, ruling, last: known.last, known: known_of }
        };
        locked(&self.0).iter().map(status).collect()
    }

    fn measured(&self, now: Moment, key: LaneKey, carrier: Carrier, measure: Measure) {
        self.of(now, key, |known| known.choice.measured(now, carrier, measure));
    }

    fn of<T>(&self, now: Moment, key: LaneKey, what: impl FnOnce(&mut Known) -> T) -> T {
        let mut lanes = locked(&self.0);
        if lanes.len() >= MAX_CHOICES && !lanes.contains_key(&key) {
            let unused = lanes.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key);
            unused.and_then(|key| lanes.remove(&key));
        }
        let known = match lanes.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Known {
                choice: Choice::new(key.lane),
                last: None,
                ahead: None,
                used: now,
            }),
        };
        known.used = now;
        what(known)
    }
}

/// Whether a flow of the lane may run on this carrier, by the platform, its organization and this node.
pub(super) fn may_use(mesh: &Mesh, key: LaneKey, carrier: Carrier) -> bool {
    let ruling = mesh.view().carrier_ruling(key.organization, key.lane);
    mesh.carrier.is_none_or(|only| only == carrier) && allows(ruling, carrier)
}

/// A node that sends everything on one carrier makes no choice.
fn ruling(mesh: &Mesh, key: LaneKey) -> CarrierRuling {
    match mesh.carrier {
        Some(Carrier::Quic) => CarrierRuling::QuicOnly,
        Some(Carrier::Tcp) => CarrierRuling::TcpOnly,
        None => mesh.view().carrier_ruling(key.organization, key.lane),
    }
}

/// What a flow is on, and since when that was measured, or since when it was told to leave that.
#[derive(Default)]
struct Running(Option<(Carrier, Moment)>);

impl Running {
    /// The flow is measured on this carrier. Says whether it is to leave that, as `leaves` says it of one
    /// that is there since then. One that was told so is not asked about again until it is there for
    /// as long as a flow that just began: its other connection may take a while.
    fn is_to_leave(
        &mut self,
        now: Moment,
        on: Carrier,
        leaves: impl FnOnce((Carrier, Moment)) -> bool,
    ) -> bool {
        let known = self.0.filter(|(before, _)| *before == on).unwrap_or((on, now));
        let is_told = leaves(known);
        self.0 = Some(if is_told { (on, now) } else { known });
        is_told
    }
}

/// Measures one direction of one flow, or nothing.
pub(crate) struct Metered(Option<Metering>);

struct Metering {
    mesh: Arc<Mesh>,
    key: LaneKey,
    direction: Direction,
    meter: Meter,
    waited: Duration,
    /// Of both directions.
    running: Arc<Mutex<Running>>,
}

impl Metered {
    /// Both directions of a flow on this lane, if that is measured by its rate.
    pub(crate) fn of_flow(mesh: &Arc<Mesh>, key: LaneKey) -> [Self; 2] {
        let running = Arc::default();
        Direction::ALL.map(|direction| {
            Self((key.lane == Lane::Bulk).then(|| Metering {
                mesh: mesh.clone(),
                key,
                direction,
                meter: Meter::new(direction),
                waited: Duration::ZERO,
                running: Arc::clone(&running),
            }))
        })
    }

    /// When a wait begins.
    pub(crate) fn begin(&self) -> Option<Moment> {
        self.0.as_ref().map(|metering| metering.mesh.clock.moment())
    }

    /// A wait is over: for the source of that direction, or for where it goes.
    pub(crate) fn read(&mut self, since: Option<Moment>) {
        self.waited(Direction::Down, since);
    }

    pub(crate) fn wrote(&mut self, since: Option<Moment>) {
        self.waited(Direction::Up, since);
    }

    /// So many bytes passed. The lane's end of the flow says what carries it. Returns that when the flow
    /// is to leave it.
    pub(crate) fn passed(
        &mut self,
        bytes: usize,
        carrier: impl FnOnce() -> Option<Carrier>,
    ) -> Option<Carrier> {
        let Metering { mesh, key, direction, meter, waited, running } = self.0.as_mut()?;
        let (now, waited) = (mesh.clock.moment(), std::mem::take(waited));
        if !meter.passed(now, bytes as u64, waited) {
            return None;
        }
        let (carrier, bytes_per_second) = meter.take(now, carrier())?;
        let measure = Measure::Rate { direction: *direction, bytes_per_second };
        mesh.lanes.choices.measured(now, *key, carrier, measure);
        let leaves = |on| mesh.lanes.choices.leaves(mesh, *key, on);
        locked(running).is_to_leave(now, carrier, leaves).then_some(carrier)
    }

    /// What comes up waits for its lane when it is written, what comes down when it is read.
    fn waited(&mut self, direction: Direction, since: Option<Moment>) {
        if let (Some(metering), Some(since)) = (&mut self.0, since)
            && metering.direction == direction
        {
            metering.waited += metering.mesh.clock.moment().since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use rap_proto::{NodeId, OrganizationId};

    use super::*;

    #[test]
    fn so_many_lanes_are_remembered_and_the_one_unused_for_longest_is_forgotten() {
        let choices = Choices::default();
        let organization = OrganizationId::from_u128(1);
        let key = |egress: usize| LaneKey {
            egress: NodeId::from_u128(egress as u128),
            organization,
            lane: Lane::Bulk,
        };
        let touch = |egress, at| choices.of(Moment::from_micros(at), key(egress), |_| ());
        (0..MAX_CHOICES).for_each(|egress| touch(egress, 1));
        touch(0, 2);
        touch(MAX_CHOICES, 3);
        let lanes = locked(&choices.0);
        assert_eq!(lanes.len(), MAX_CHOICES);
        assert!(lanes.contains_key(&key(0)) && !lanes.contains_key(&key(1)));
    }

    #[test]
    fn a_flow_that_was_told_to_leave_its_carrier_counts_there_as_one_that_just_began() {
        let after = Duration::from_secs(10);
        let mut running = Running::default();
        let mut told_at = Vec::new();
        // Its other connection takes that long, and both directions are measured once in a second.
        for second in 0..25 {
            let now = Moment::from_micros(second * 1_000_000);
            for _ in Direction::ALL {
                if running.is_to_leave(now, Carrier::Tcp, |(_, since)| now.since(since) >= after) {
                    told_at.push(second);
                }
            }
        }
        assert_eq!(told_at, [10, 20]);
        let now = Moment::from_micros(25_000_000);
        assert!(!running.is_to_leave(now, Carrier::Quic, |known| known != (Carrier::Quic, now)));
    }
}
