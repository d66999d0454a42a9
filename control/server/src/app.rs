//! What every request and every actor shares.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rap_bus::Bus;
use rap_control_core::{Compiled, Compiler, Corrupt, NotCompiled, State, audit::Seen};
use rap_events::{BeatTable, Heads, LeaseTable, Log, SubjectKeys};
use rap_proto::{
    ControlUrl, Digest, IncarnationId, NodeId, ReplicaId, Timestamp,
    api::{EventId, Problem},
    bus::ControlBody,
    observation::LogRefusal,
};
use tokio::sync::watch;

use crate::{
    beat::{AuthorityBeat, Frozen},
    custody::Custody,
    feed::Feed,
    in_flight::InFlight,
    inquiries::Inquiries,
    leadership::Leadership,
    lease_desk::LeaseDesk,
    live::{LiveNodes, MAX_LIVE_NODES},
    manifests::{MAX_MANIFESTS, Manifests},
    metrics::Metrics,
    node_api::bus_credentials::BusIssuer,
    options::Limits,
    password::Passwords,
    quick_key::QuickKey,
    rates::{RateLimiter, Spending},
    rebuilds::Rebuilds,
    replays::Replays,
    sealing::Sealing,
    subjects::Subjects,
    throttle::LoginThrottle,
    voice::Voice,
};

pub(crate) struct App {
    pub(crate) custody: Custody,
    /// Signs what every node is sent.
    pub(crate) quick_key: Arc<QuickKey>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) leases: Arc<dyn LeaseTable>,
    pub(crate) beats: Arc<dyn BeatTable>,
    pub(crate) heads: Arc<dyn Heads>,
    pub(crate) subjects: Subjects,
    /// Which of the replicas this one is.
    pub(crate) replica: ReplicaId,
    pub(crate) leadership: Leadership,
    pub(crate) beat: AuthorityBeat,
    pub(crate) lease_desk: LeaseDesk,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) bus_issuer: Option<BusIssuer>,
    /// Where nodes and `rap` reach the servers of this cluster, as they are told.
    pub(crate) servers: Vec<String>,
    voice: Voice,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: LoginThrottle,
    pub(crate) rates: RateLimiter,
    pub(crate) in_flight: InFlight,
    pub(crate) inquiries: Inquiries,
    pub(crate) replays: Replays,
    pub(crate) rebuilds: Rebuilds,
    pub(crate) sealing: Sealing,
    pub(crate) manifests: Manifests,
    pub(crate) spending: Spending,
    pub(crate) feed: Arc<Feed>,
    pub(crate) live: LiveNodes,
    pub(crate) metrics: Metrics,
    /// Whether every actor lives.
    pub(crate) healthy: watch::Receiver<bool>,
    states: watch::Receiver<Arc<State>>,
    /// One change concerns many nodes, who ask at the same time.
    compiler: Mutex<Compiler>,
    /// Milliseconds since 1970: since when the nodes have been heard without a break.
    listening_since: AtomicI64,
    pub(crate) limits: Limits,
    /// Set once and for good: the log is not the one that nodes saw.
    refuted: OnceLock<LogRefusal>,
    /// Set once and for good: the projections fold no further.
    halted: OnceLock<Corrupt>,
}

/// What [`App::new`] is made of, beside what it makes itself.
pub(crate) struct Foundations {
    pub(crate) custody: Custody,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) leases: Arc<dyn LeaseTable>,
    pub(crate) beats: Arc<dyn BeatTable>,
    pub(crate) heads: Arc<dyn Heads>,
    pub(crate) subjects: Arc<dyn SubjectKeys>,
    pub(crate) replica: ReplicaId,
    pub(crate) leadership: Leadership,
    pub(crate) beat: AuthorityBeat,
    pub(crate) lease_desk: LeaseDesk,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) bus_issuer: Option<BusIssuer>,
    pub(crate) servers: Vec<ControlUrl>,
    pub(crate) incarnation: IncarnationId,
    pub(crate) healthy: watch::Receiver<bool>,
    pub(crate) states: watch::Receiver<Arc<State>>,
    /// Of the last event that the first of these was folded from.
    pub(crate) leaf: Option<Digest>,
    pub(crate) limits: Limits,
}

impl App {
    pub(crate) fn new(foundations: Foundations) -> Self {
        let Foundations {
            custody,
            log,
            leases,
            beats,
            heads,
            subjects,
            replica,
            leadership,
            beat,
            lease_desk,
            bus,
            bus_issuer,
            servers,
            incarnation,
            healthy,
            states,
            leaf,
            limits,
        } = foundations;
        let seen = Seen { position: states.borrow().position(), leaf };
        let feed = Arc::new(Feed::new(seen, limits.streams));
        let subjects = Subjects::new(subjects, &custody.wrapping_key());
        let quick_key = Arc::new(QuickKey::new(&custody.control));
        let voice = Voice::new(custody.cluster, incarnation, Arc::clone(&quick_key));
        Self {
            custody,
            quick_key,
            log,
            leases,
            beats,
            heads,
            subjects,
            replica,
            leadership,
            beat,
            lease_desk,
            bus,
            bus_issuer,
            servers: servers
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            voice,
            passwords: Passwords::new(),
            throttle: LoginThrottle::default(),
            rates: RateLimiter::new(limits.rates),
            in_flight: InFlight::default(),
            inquiries: Inquiries::default(),
            replays: Replays::default(),
            rebuilds: Rebuilds::default(),
            sealing: Sealing::default(),
            manifests: Manifests::new(MAX_MANIFESTS),
            spending: Spending::default(),
            feed,
            live: LiveNodes::new(MAX_LIVE_NODES),
            metrics: Metrics::default(),
            healthy,
            states,
            compiler: Mutex::default(),
            listening_since: AtomicI64::new(i64::MAX),
            limits,
            refuted: OnceLock::new(),
            halted: OnceLock::new(),
        }
    }

    /// By which whoever follows the log says how far it was.
    pub(crate) fn event_id(&self, Seen { position, leaf }: Seen) -> EventId {
        let imprint = leaf.map(|leaf| self.custody.derivation.imprint(&leaf));
        EventId { cluster: self.custody.cluster, position, imprint }
    }

    /// Proven by a tree head that a node presented: nothing more is built upon this log.
    pub(crate) fn refute(&self, code: LogRefusal, known: u64, size: u64) {
        if self.refuted.set(code).is_ok() {
            tracing::error!(%code, known, size, "the log is not the one that nodes saw; frozen");
        }
    }

    pub(crate) fn refuted(&self) -> Option<LogRefusal> {
        self.refuted.get().copied()
    }

    /// An event cannot be folded, now or ever: the state stays as it is, and is too old to grant
    /// anything by. Who follows the log goes on at another replica.
    pub(crate) fn halt(&self, corrupt: Corrupt) {
        tracing::error!(%corrupt, "the projections halt");
        // The first reason is the one that a person has to look at.
        let _ = self.halted.set(corrupt);
        self.feed.close();
    }

    pub(crate) fn halted(&self) -> Option<&Corrupt> {
        self.halted.get()
    }

    /// Whether the state may be left for the next start: not when the log is not the one that it was
    /// folded from, or may not be.
    pub(crate) fn may_keep(&self) -> bool {
        self.refuted().is_none() && self.halted().is_none()
    }

    /// Why nothing may be granted now; `None` when it may.
    pub(crate) fn frozen(&self) -> Option<Frozen> {
        match self.refuted() {
            Some(code) => Some(Frozen::LogRefused(code)),
            None if self.halted().is_some() => Some(Frozen::Halted),
            None if self.beat.held().is_none() => Some(Frozen::NoQuorum),
            None => None,
        }
    }

    /// For whatever gives authority: asked before it is begun, and again right before its append, since
    /// what was let in may have waited for the database meanwhile.
    pub(crate) fn may_grant(&self) -> Result<(), Problem> {
        self.frozen().map_or(Ok(()), |frozen| Err(frozen.problem()))
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

    /// The subject and the bytes of one message to a node, as of now.
    pub(crate) fn say(&self, node: NodeId, body: ControlBody, now: Timestamp) -> (String, Bytes) {
        self.voice.say(node, self.state().authority().epoch(), body, now)
    }

    /// Compiles the snapshot of one node.
    pub(crate) fn compile(&self, state: &State, node: NodeId) -> Result<Compiled, NotCompiled> {
        let mut compiler = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        compiler.compile(state, node)
    }

    /// Compiles anew from here on: the same position may mean another state.
    pub(crate) fn forget_compiled(&self) {
        *self.compiler.lock().unwrap_or_else(PoisonError::into_inner) = Compiler::default();
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
