//! What every request and every actor shares.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rap_bus::Bus;
use rap_control_core::State;
use rap_events::Log;
use rap_proto::{IncarnationId, Timestamp};
use tokio::sync::watch;

use crate::{
    custody::Custody, feed::Feed, in_flight::InFlight, live::LiveNodes, metrics::Metrics,
    node_api::bus_credentials::BusIssuer, options::Limits, password::Passwords, rates::RateLimiter,
    throttle::LoginThrottle, voice::Voice,
};

pub(crate) struct App {
    pub(crate) custody: Custody,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) bus_issuer: Option<BusIssuer>,
    pub(crate) voice: Voice,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: LoginThrottle,
    pub(crate) rates: RateLimiter,
    pub(crate) in_flight: InFlight,
    pub(crate) feed: Arc<Feed>,
    pub(crate) live: LiveNodes,
    pub(crate) metrics: Metrics,
    /// Whether every actor lives.
    pub(crate) healthy: watch::Receiver<bool>,
    states: watch::Receiver<Arc<State>>,
    /// Milliseconds since 1970: since when the nodes have been heard without a break.
    listening_since: AtomicI64,
}

/// What [`App::new`] is made of, beside what it makes itself.
pub(crate) struct Foundations {
    pub(crate) custody: Custody,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) bus_issuer: Option<BusIssuer>,
    pub(crate) incarnation: IncarnationId,
    pub(crate) healthy: watch::Receiver<bool>,
    pub(crate) states: watch::Receiver<Arc<State>>,
    pub(crate) limits: Limits,
}

impl App {
    pub(crate) fn new(foundations: Foundations) -> Self {
        let Foundations { custody, log, bus, bus_issuer, incarnation, healthy, states, limits } =
            foundations;
        let feed = Arc::new(Feed::new(states.borrow().position(), limits.streams));
        let voice = Voice::new(custody.cluster, incarnation, custody.control.clone());
        Self {
            custody,
            log,
            bus,
            bus_issuer,
            voice,
            passwords: Passwords::new(),
            throttle: LoginThrottle::default(),
            rates: RateLimiter::new(limits.rates),
            in_flight: InFlight::default(),
            feed,
            live: LiveNodes::default(),
            metrics: Metrics::default(),
            healthy,
            states,
            listening_since: AtomicI64::new(i64::MAX),
        }
    }

    pub(crate) fn listening_from(&self, at: Timestamp) {
        self.listening_since.store(at.unix_millis(), Ordering::Release);
    }

    /// The end of time when nobody listens yet.
    pub(crate) fn listening_since(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.listening_since.load(Ordering::Acquire))
    }

    /// The projections as they are now.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.states.borrow())
    }

    /// Sees each new state; several in between may be skipped.
    pub(crate) fn states(&self) -> watch::Receiver<Arc<State>> {
        self.states.clone()
    }

    /// The projections, once they have folded `position`; `None` when that takes longer than
    /// `patience`.
    pub(crate) async fn wait_for(&self, position: u64, patience: Duration) -> Option<Arc<State>> {
        let mut states = self.states();
        let reached = states.wait_for(|state| state.position() >= position);
        match tokio::time::timeout(patience, reached).await {
            Ok(Ok(state)) => Some(Arc::clone(&state)),
            _ => None,
        }
    }
}
