//! Congestion control by lane: a bulk lane has the mesh's own, every other connection quinn's.
//!
//! The accepting side learns the lane only with the handshake, and a lane's path changes under its
//! connection. So each connection has a [`Steering`] of its own, which its controllers look at.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;
use rap_mesh_core::bulk_window::{Acked, BulkWindow, Input};
use rap_proto::{Lane, Moment};

/// Whether the lane is bulk; what is above it counts the paths.
const BULK: u64 = 1;
const ONE_PATH: u64 = 2;

/// What one connection's congestion control is told from outside.
#[derive(Clone, Default)]
pub(crate) struct Steering(Arc<AtomicU64>);

impl Steering {
    pub(crate) fn of(lane: Lane) -> Self {
        let steering = Self::default();
        steering.serve(lane);
        steering
    }

    /// From now on the connection is a lane.
    pub(crate) fn serve(&self, lane: Lane) {
        if lane == Lane::Bulk {
            self.0.fetch_or(BULK, Ordering::Relaxed);
        }
    }

    /// What is sent from now on takes another path.
    pub(crate) fn path_changed(&self) {
        self.0.fetch_add(ONE_PATH, Ordering::Relaxed);
    }

    fn said(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steering({:#x})", self.said())
    }
}

impl ControllerFactory for Steering {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let stock = Arc::new(CubicConfig::default()).build(now, current_mtu);
        let steering = (*self).clone();
        let mut steered = Steered { steering, followed: 0, stock, bulk: None, mtu: current_mtu };
        steered.follow(now);
        Box::new(steered)
    }
}

/// quinn's own until the connection is a bulk lane.
struct Steered {
    steering: Steering,
    /// What was said when it was last looked at.
    followed: u64,
    stock: Box<dyn Controller>,
    bulk: Option<Bulk>,
    mtu: u16,
}

impl Steered {
    /// The window of a bulk lane, after what was said.
    fn follow(&mut self, now: Instant) -> Option<&mut Bulk> {
        let said = self.steering.said();
        if said != self.followed {
            self.followed = said;
            match &mut self.bulk {
                Some(bulk) => bulk.path_changed(now),
                None if said & BULK != 0 => self.bulk = Some(Bulk::new(now, self.mtu)),
                None => {}
            }
        }
        self.bulk.as_mut()
    }
}

impl Controller for Steered {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        if self.follow(now).is_none() {
            self.stock.on_sent(now, bytes, last_packet_number);
        }
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        match self.follow(now) {
            Some(bulk) => bulk.acked(sent, bytes),
            None => self.stock.on_ack(now, sent, bytes, app_limited, rtt),
        }
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        match self.follow(now) {
            Some(bulk) => bulk.end_acks(now, in_flight, app_limited),
            None => self.stock.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked),
        }
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        match self.follow(now) {
            Some(bulk) => bulk.lost(now, sent, is_persistent_congestion, lost_bytes),
            None => {
                self.stock.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
            }
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.stock.on_mtu_update(new_mtu);
        if let Some(bulk) = &mut self.bulk {
            bulk.datagram(new_mtu);
        }
    }

    fn window(&self) -> u64 {
        self.bulk.as_ref().map_or_else(|| self.stock.window(), |bulk| bulk.window.window())
    }

    /// quinn does this for a peer that comes from another port of the same host. It may come over
    /// another path, so a bulk lane's is measured anew.
    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            steering: self.steering.clone(),
            followed: 0,
            stock: self.stock.clone_box(),
            bulk: self.bulk.clone(),
            mtu: self.mtu,
        })
    }

    fn initial_window(&self) -> u64 {
        self.stock.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The core's window in quinn's words.
#[derive(Clone)]
struct Bulk {
    window: BulkWindow,
    begun: Instant,
    /// Since when the path is this one.
    path_since: Instant,
    batch: Batch,
}

/// quinn tells each packet of an acknowledgement by itself.
#[derive(Clone, Default)]
struct Batch {
    bytes: u64,
    newest: Option<Instant>,
}

impl Bulk {
    /// The moment at which it began. There is one before it, for what was sent earlier.
    const BEGINNING: u64 = 1;

    fn new(now: Instant, mtu: u16) -> Self {
        let window = BulkWindow::new(Moment::from_micros(Self::BEGINNING), mtu.into());
        Self { window, begun: now, path_since: now, batch: Batch::default() }
    }

    fn moment(&self, at: Instant) -> Moment {
        let micros = at.checked_duration_since(self.begun).map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX - 1) + Self::BEGINNING
        });
        Moment::from_micros(micros)
    }

    fn path_changed(&mut self, now: Instant) {
        self.path_since = now;
        self.window.handle_input(self.moment(now), Input::PathChanged);
    }

    fn acked(&mut self, sent: Instant, bytes: u64) {
        self.batch.bytes += bytes;
        self.batch.newest = self.batch.newest.max(Some(sent));
    }

    fn end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        let Batch { bytes, newest } = std::mem::take(&mut self.batch);
        let Some(newest) = newest else { return };
        let (sent_at, in_flight) = (self.moment(newest), in_flight.saturating_add(bytes));
        let acked = Acked { bytes, sent_at, in_flight, app_limited };
        self.window.handle_input(self.moment(now), Input::Acked(acked));
    }

    /// No bytes were lost when a router marked them instead. What was sent before the path began
    /// says nothing of it.
    fn lost(&mut self, now: Instant, sent: Instant, is_persistent: bool, bytes: u64) {
        if sent < self.path_since {
            return;
        }
        let input = match bytes {
            _ if is_persistent => Input::Stalled,
            0 => Input::Marked,
            bytes => Input::Lost { bytes },
        };
        self.window.handle_input(self.moment(now), input);
    }

    fn datagram(&mut self, mtu: u16) {
        // It is not about time.
        let now = Moment::from_micros(Self::BEGINNING);
        self.window.handle_input(now, Input::Datagram { bytes: mtu.into() });
    }
}

#[cfg(test)]
mod tests;
