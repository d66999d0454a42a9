//! What all parts of one endpoint share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use quinn::{Connection, VarInt};
use rap_mesh_core::{
    View,
    carrier::Carrier,
    ended::Close,
    path_audit::{Part, PathAudit},
    paths::Candidate,
    reports::ReportGate,
    sessions::{EgressSessions, EntrySessions},
};
use rap_proto::{Lane, RefusalCode, observation::Claimed};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

use crate::{
    Dialer, MeshLimits,
    clock::Clock,
    egress::{Meetings, TokenCache},
    entry::{Clients, Tickets, Ways},
    event::EventSender,
    fencing::Fencing,
    frames::traceparent,
    hops::Hops,
    kept::KeptFlows,
    lanes::Lanes,
    network::Network,
    reachable::{Knocker, Lines},
    relay::{Looks, Reachable, Relay},
    relays::RelayOrders,
    shaping::Shaping,
    tally::Tally,
    tcp::Controllers,
    tls::NodeConfigs,
};

/// How long a refused peer gets to read the refusal before its connection is closed.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

pub(crate) struct Mesh {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) network: Arc<dyn Network>,
    /// The network has TCP connections.
    pub(crate) has_tcp: bool,
    pub(crate) knocker: Knocker,
    pub(crate) clock: Clock,
    pub(crate) views: rap_watch::Sender<Arc<View>>,
    pub(crate) configs: RwLock<Arc<NodeConfigs>>,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) fencing: Fencing,
    pub(crate) limits: MeshLimits,
    pub(crate) carrier: Option<Carrier>,
    pub(crate) events: EventSender,
    pub(crate) tally: Tally,
    pub(crate) controllers: Controllers,
    pub(crate) reports: Mutex<ReportGate>,
    /// Which lanes have direct paths.
    pub(crate) path_audit: Mutex<PathAudit>,
    pub(crate) entry: Mutex<EntrySessions>,
    pub(crate) clients: Clients,
    /// Ways to egresses that clients were given, and the flows that go over them.
    pub(crate) tickets: Tickets,
    pub(crate) ways: Ways,
    pub(crate) egress: Mutex<EgressSessions>,
    pub(crate) tokens: TokenCache,
    /// The egress' flows that outlive their connection.
    pub(crate) kept: KeptFlows,
    /// The clients' channels that do.
    pub(crate) kept_channels: KeptFlows,
    pub(crate) lanes: Lanes,
    pub(crate) hops: Hops,
    pub(crate) relay: Relay,
    /// Nodes that keep themselves reachable here.
    pub(crate) reachable: Reachable,
    /// Where this node keeps itself reachable.
    pub(crate) lines: Lines,
    /// Who is told from where this relay sees it.
    pub(crate) looks: Looks,
    /// Whose flows through this relay wait for a knock: what is looked for takes no place of theirs.
    pub(crate) knocked_flows: Looks,
    /// With whom this egress looks for direct paths.
    pub(crate) meetings: Meetings,
    pub(crate) relays: RelayOrders,
    pub(crate) shaping: Shaping,
    /// Cancelled when the node leaves: sessions end, nothing new is accepted.
    pub(crate) leaving: CancellationToken,
    /// Where everything runs but bulk.
    pub(crate) tasks: Tasks,
    /// Where bulk does: what is on TCP, and lanes for bulk.
    pub(crate) bulk: Tasks,
}

/// Tasks of an endpoint, which waits for them when it leaves, and where they run.
#[derive(Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
}

impl Tasks {
    pub(crate) fn on(runtime: Handle) -> Self {
        Self { tracker: TaskTracker::new(), runtime }
    }

    /// The same endpoint's tasks that run elsewhere.
    pub(crate) fn beside(&self, runtime: Handle) -> Self {
        Self { tracker: self.tracker.clone(), runtime }
    }

    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn_on(task, &self.runtime)
    }

    /// Waits until every task has ended.
    pub(crate) async fn end(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Mesh {
    pub(crate) fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    pub(crate) fn configs(&self) -> Arc<NodeConfigs> {
        self.configs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Where a lane between nodes runs, and the channels of a client's.
    pub(crate) const fn tasks_of(&self, lane: Lane) -> &Tasks {
        match lane {
            Lane::Interactive | Lane::Media => &self.tasks,
            Lane::Bulk => &self.bulk,
        }
    }

    /// The trace context to pass on from `span`; see [`Dialer::continue_trace`].
    pub(crate) fn continue_trace(&self, span: &Span, received: Option<String>) -> Option<String> {
        self.dialer.continue_trace(span, traceparent(received))
    }

    /// Reports a refusal for the audit, unless there were too many of its kind.
    pub(crate) fn refused(&self, code: RefusalCode, claimed: Option<Claimed>) {
        self.tally.refused(code);
        if !locked(&self.reports).admit(self.clock.moment(), claimed.is_some()) {
            return self.events.drop_one();
        }
        self.events.refused(self.clock.now(), code, claimed);
    }

    /// Something of a lane has another path than before, or none; reported where that is asked for.
    pub(crate) fn path_changed(&self, part: Part, change: (Option<Candidate>, Option<Candidate>)) {
        let audited = self.views.borrow().paths.rule.audited;
        let now = self.clock.moment();
        let mut audit = locked(&self.path_audit);
        if let Some(change) = audit.moved(now, part, change, audited)
            && !self.events.path_changed(self.clock.now(), change)
        {
            audit.lost(now, change);
        }
    }
}

/// Locks state whose every change is complete in itself, so that a panic elsewhere in the
/// process does not make it unusable.
pub(crate) fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn code(code: u64) -> VarInt {
    VarInt::from_u64(code).expect("every code of ours is small")
}

pub(crate) fn close(connection: &Connection, close: Close) {
    connection.close(code(close.code()), b"");
}

/// Closes a connection whose peer was sent its refusal on a stream.
pub(crate) async fn close_refused(connection: &Connection, refused: RefusalCode) {
    let _ = tokio::time::timeout(REFUSAL_LINGER, connection.closed()).await;
    close(connection, Close::Refused(refused));
}
