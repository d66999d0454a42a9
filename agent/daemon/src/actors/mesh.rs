//! Feeds the mesh with snapshots and certificates, and carries what it saw to the spool.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context, Handler, Message};
use rap_agent_core::snapshot::Snapshot;
use rap_mesh::{
    CarrierStatus, ClassName, ClassStatus, ControllerCounts, Counted, Counts, Dialer, Identity,
    Measured, MeshEndpoint, MeshEvent, MeshEvents, MeshLimits, MeshOptions, MessageCounts,
    MoveStatus, One, Path, RelayedStatus, Sections, View,
};
use rap_proto::{Authority, BitRate, ChannelKind, key::LocalKey, wire::node_api::Credentials};

use crate::{
    actors::{
        Crew, Parts, Renewed, Revoked,
        beat::TellTrust,
        fetcher::Doorbell,
        peers::Closed,
        snapshots::TellAgain,
        spool::{Observe, SpoolActor},
    },
    board::{
        CarrierMeasured, CarrierReport, ClassReport, ControllersReport, CountedReport, FlowsReport,
        HoleReport, LaneReport, MeshReport, MessagesDown, MessagesReport, MessagesUp, MoveReport,
        RelayedReport, ShapedReport,
    },
    leases::NodeLeases,
    shell::{MAILBOX, Slot},
};

/// How often the report of the mesh is renewed.
const REPORT: Duration = Duration::from_secs(1);
/// How long to wait before a port that was taken is tried again.
const BIND_RETRY: Duration = Duration::from_secs(2);
/// How long a closing endpoint may take to report its sessions' ends.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// How long an event waits for a spool that is being started again.
const SPOOL_RETRY: Duration = Duration::from_millis(200);

/// The snapshot to act on from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Apply(pub(crate) Arc<Snapshot>);

/// What control's word is worth from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Trusts(pub(crate) Authority);

/// Accept nothing new, as before leaving.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

/// The endpoint, kept apart from its actor: the actor's death ends no session.
pub(crate) type Hull = Rc<RefCell<Option<MeshEndpoint>>>;

pub(crate) struct MeshActor {
    parts: Parts,
    crew: Crew,
    hull: Hull,
    dialer: Arc<dyn Dialer>,
    leases: NodeLeases,
    snapshot: Option<Arc<Snapshot>>,
    authority: Authority,
    draining: bool,
    closed: bool,
}

impl MeshActor {
    pub(crate) fn new(
        parts: Parts,
        crew: Crew,
        hull: Hull,
        dialer: Arc<dyn Dialer>,
        leases: NodeLeases,
    ) -> Self {
        Self {
            parts,
            crew,
            hull,
            dialer,
            leases,
            snapshot: None,
            authority: Authority::default(),
            draining: false,
            closed: false,
        }
    }

    fn apply(&mut self, ctx: &mut Context<Self>) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        if self.closed {
            return;
        }
        let mut view = view_of(&snapshot, self.draining);
        view.authority = self.authority;
        let endpoint = self.hull.borrow().clone();
        match endpoint {
            None => self.bind(view, ctx),
            Some(endpoint) => {
                if let Err(error) = endpoint.apply(view) {
                    tracing::error!(%error, "the mesh cannot use the snapshot's authorities");
                    self.failed(error.to_string());
                }
            }
        }
        self.tell_peers();
        self.report();
    }

    /// Peers are asked over the endpoint, so they are heard of once it is there.
    fn tell_peers(&self) {
        if let Some(snapshot) = &self.snapshot
            && self.hull.borrow().is_some()
        {
            self.crew.peers.tell(Apply(snapshot.clone()));
        }
    }

    fn bind(&mut self, view: View, ctx: &mut Context<Self>) {
        let bound = self.identity().and_then(|identity| {
            let (listen, dialer) = (self.parts.options.listen, self.dialer.clone());
            let (leases, marks) = (Arc::new(self.leases.clone()), self.leases.marks());
            let (limits, carrier) = (MeshLimits::default(), self.parts.options.carrier);
            let bulk = self.parts.bulk.handle();
            let options =
                MeshOptions { listen, identity, dialer, leases, marks, limits, bulk, carrier };
            MeshEndpoint::bind_on(self.parts.ground.network(), options, view)
                .map_err(|error| error.to_string())
        });
        match bound {
            Ok((endpoint, events)) => {
                tracing::info!(listen = ?endpoint.local_addr().ok(), "the mesh is listening");
                *self.hull.borrow_mut() = Some(endpoint);
                self.parts.board.update(|report| report.mesh.last_error = None);
                actix_rt::spawn(carry(events, self.crew.clone()));
            }
            Err(error) => {
                tracing::error!(error, "the mesh cannot listen");
                self.failed(error);
                ctx.run_later(BIND_RETRY, Self::apply);
            }
        }
    }

    fn identity(&self) -> Result<Identity, String> {
        let held = self.parts.state.credentials().map_err(|error| error.to_string())?;
        let held = held.ok_or("the credentials are gone")?;
        Ok(identity_of(&held.credentials, &self.parts.state.key))
    }

    fn failed(&self, error: String) {
        self.parts.board.update(|report| report.mesh.last_error = Some(error));
    }

    fn report(&self) {
        let status = match &*self.hull.borrow() {
            Some(endpoint) => report_of(endpoint),
            None => MeshReport::default(),
        };
        self.parts.board.update(|report| {
            let last_error = report.mesh.last_error.take();
            report.mesh = MeshReport { last_error, ..status };
        });
    }
}

pub(crate) fn report_of(endpoint: &MeshEndpoint) -> MeshReport {
    let status = endpoint.status();
    let lanes = status.lanes.iter().map(|lane| LaneReport {
        egress: lane.egress,
        lane: lane.lane,
        relay: match lane.path {
            Path::Direct { .. } => None,
            Path::Relayed { relay } => Some(relay),
            Path::Chained { chain } => Some(chain.first()),
        },
        onward: match lane.path {
            Path::Direct { .. } | Path::Relayed { .. } => Vec::new(),
            Path::Chained { chain } => chain.onward().to_vec(),
        },
        rtt_ms: u64::try_from(lane.rtt.as_millis()).unwrap_or(u64::MAX),
        switches: lane.switches,
        last_switch: lane.last_switch.map(|reason| reason.as_str().to_owned()),
        recovery: lane.recovery.map(|step| step.as_str().to_owned()),
        refused_datagrams: lane.refused_datagrams,
        hole: HoleReport {
            step: lane.hole.step.as_str().to_owned(),
            own_nat: lane.hole.own.as_str().to_owned(),
            far_nat: lane.hole.far.as_str().to_owned(),
            failure: lane.hole.failure.map(|failure| failure.as_str().to_owned()),
            rounds: lane.hole.rounds,
        },
    });
    MeshReport {
        listening: endpoint.local_addr().ok(),
        last_error: None,
        entry_sessions: status.entry_sessions,
        absent_sessions: status.absent_sessions,
        egress_sessions: status.egress_sessions,
        relayed_flows: status.relayed_flows,
        relayed: relayed_report(status.relayed),
        reachable_nodes: status.reachable_nodes,
        reachable_at: status.reachable_at,
        lanes: lanes.collect(),
        tcp_flows: status.tcp_flows,
        through_flows: status.through_flows,
        tcp_moves: move_report(status.tcp_moves),
        bbr: status.bbr.map(|support| support.as_str().to_owned()),
        controllers: controllers(status.controllers),
        carriers: status.carriers.iter().map(carrier_report).collect(),
        dropped_events: status.dropped_events,
        bandwidth: status.classes.iter().map(class_report).collect(),
        shaped_up: shaped_report(&status.shaped_up),
        shaped_down: shaped_report(&status.shaped_down),
        late_connections: status.late_connections,
        counted: counted_report(&status.counted),
    }
}

const fn relayed_report(status: RelayedStatus) -> RelayedReport {
    RelayedReport {
        datagrams: status.datagrams,
        bytes: status.bytes,
        dropped_datagrams: status.dropped_datagrams,
        dropped_bytes: status.dropped_bytes,
        held_back: status.held_back,
        waits: status.waits,
        strangers: status.strangers,
    }
}

fn counted_report(counted: &Counted) -> CountedReport {
    CountedReport {
        switches: by_word(&counted.switches, |reason| reason.as_str()),
        steps: by_word(&counted.steps, |step| step.as_str()),
        holes_found: counted.holes.found,
        holes_failed: by_word(&counted.holes.failed, |failure| failure.as_str()),
        refused: by_word(&counted.refused, |code| code.as_str()),
        limits: by_word(&counted.limits, |limit| limit.as_str()),
        flows: counted
            .flows
            .iter()
            .map(|((end, lane), flows)| FlowsReport {
                end: end.as_str().to_owned(),
                lane: *lane,
                open: flows.open,
                begun: flows.begun,
                up: flows.up,
                down: flows.down,
            })
            .collect(),
        messages: counted.messages.iter().map(|(kind, counts)| messages(*kind, *counts)).collect(),
    }
}

const fn controllers(counts: ControllerCounts) -> ControllersReport {
    let ControllerCounts { short_queue, changed, changed_back, refused } = counts;
    ControllersReport { bbr: short_queue, changed, changed_back, refused }
}

const fn messages(
    channel: ChannelKind,
    MessageCounts { down, up }: MessageCounts,
) -> MessagesReport {
    MessagesReport {
        channel,
        down: MessagesDown {
            taken_in: down.taken_in,
            sent: down.sent,
            full: down.dropped_full,
            stale: down.dropped_stale,
            coalesced: down.coalesced,
        },
        up: MessagesUp { came: up.came, handed_out: up.handed_out, put_aside: up.put_aside },
    }
}

fn by_word<K: Copy>(
    counts: &BTreeMap<K, u64>,
    word: impl Fn(K) -> &'static str,
) -> BTreeMap<String, u64> {
    counts.iter().map(|(key, count)| (word(*key).to_owned(), *count)).collect()
}

const fn move_report(moves: MoveStatus) -> MoveReport {
    let MoveStatus { relayed, moved, stayed, trials } = moves;
    MoveReport { relayed, moved, stayed, trials }
}

fn carrier_report(carrier: &CarrierStatus) -> CarrierReport {
    let CarrierStatus { egress, lane, ruling, last, known, .. } = *carrier;
    let bits = |bytes: Option<u64>| bytes.map(|bytes| bytes.saturating_mul(8));
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let measured = |measured: Measured| CarrierMeasured {
        up_bits_per_second: bits(measured.up),
        down_bits_per_second: bits(measured.down),
        opened_us: measured.opened.map(micros),
    };
    CarrierReport {
        egress,
        lane,
        carrier: last.map(|(carrier, _)| carrier.as_str().to_owned()),
        reason: last.map(|(_, reason)| reason.as_str().to_owned()),
        ruling,
        quic: measured(known.quic),
        tcp: measured(known.tcp),
        changes: known.changes,
        trials: known.trials,
    }
}

fn shaped_report(counts: &Counts) -> ShapedReport {
    let Counts { bytes, waits, waited, .. } = *counts;
    ShapedReport { bytes, waits, waited_ms: millis(waited) }
}

fn millis(waited: Duration) -> u64 {
    u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)
}

fn class_report(class: &ClassStatus) -> ClassReport {
    let (organization, traffic, one) = match class.name {
        ClassName::Node => (None, None, None),
        ClassName::Organization(id) => (Some(id), None, None),
        ClassName::Rule { organization, traffic, one } => (Some(organization), Some(traffic), one),
    };
    let bits = |rate: Option<BitRate>| rate.map(BitRate::bits_per_second);
    ClassReport {
        organization,
        traffic,
        user: match one {
            Some(One::User(user)) => Some(user),
            _ => None,
        },
        session: match one {
            Some(One::Session(session)) => Some(session),
            _ => None,
        },
        cap_bits_per_second: bits(class.allowance.cap),
        reserved_bits_per_second: bits(class.allowance.reserved),
        flows: class.flows,
        up_bits_per_second: class.up.bits_per_second,
        down_bits_per_second: class.down.bits_per_second,
        up_waited_ms: millis(class.up.waited),
        down_waited_ms: millis(class.down.waited),
    }
}

pub(crate) fn view_of(snapshot: &Snapshot, draining: bool) -> View {
    let mut assignment = snapshot.assignment.clone();
    assignment.draining |= draining;
    let sections = Sections {
        assignment,
        trust: snapshot.trust.clone(),
        peers: snapshot.peers.clone(),
        resources: snapshot.resources.clone(),
        bandwidth: snapshot.bandwidth.clone(),
        places: snapshot.places.clone(),
        paths: snapshot.paths,
        mesh: snapshot.mesh.clone(),
    };
    View::new(&snapshot.manifest, sections)
}

fn identity_of(credentials: &Credentials, key: &LocalKey) -> Identity {
    let chain = credentials.certificates.iter().map(|der| der.to_vec()).collect();
    Identity { chain, key: key.clone() }
}

/// Carries events for as long as the endpoint lives, whichever actors die meanwhile.
async fn carry(mut events: MeshEvents, crew: Crew) {
    while let Some(event) = events.recv().await {
        match event {
            MeshEvent::SnapshotWanted { version } => crew.fetcher.tell(Doorbell { version }),
            MeshEvent::Observed { at, observation } => {
                observe(&crew.spool, &observation, at).await;
            }
        }
    }
}

/// Waits while the spool is busy or being started again: sessions' ends must not be lost.
async fn observe(
    spool: &Slot<SpoolActor>,
    observation: &rap_proto::observation::Observation,
    at: rap_proto::Timestamp,
) {
    loop {
        if let Some(addr) = spool.addr()
            && addr.send(Observe { observation: observation.clone(), at }).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(SPOOL_RETRY).await;
    }
}

impl Actor for MeshActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(REPORT, |actor, _| actor.report());
        self.crew.beat.tell(TellTrust);
        self.crew.snapshots.tell(TellAgain);
    }
}

impl Handler<Apply> for MeshActor {
    type Result = ();

    fn handle(&mut self, Apply(snapshot): Apply, ctx: &mut Self::Context) {
        // Told again by whoever was started afresh: nothing to do.
        let same = self.snapshot.as_ref().is_some_and(|held| held.digest == snapshot.digest);
        self.snapshot = Some(snapshot);
        if same {
            self.tell_peers();
        } else {
            self.apply(ctx);
        }
    }
}

impl Handler<Trusts> for MeshActor {
    type Result = ();

    fn handle(&mut self, Trusts(authority): Trusts, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.authority, authority) != authority {
            self.apply(ctx);
        }
    }
}

impl Handler<Renewed> for MeshActor {
    type Result = ();

    fn handle(&mut self, Renewed(held): Renewed, _: &mut Self::Context) {
        let endpoint = self.hull.borrow().clone();
        let Some(endpoint) = endpoint else { return };
        let identity = identity_of(&held.credentials, &self.parts.state.key);
        if let Err(error) = endpoint.renew(identity) {
            tracing::error!(%error, "the mesh cannot use the new certificate");
            self.failed(error.to_string());
        }
    }
}

impl Handler<Drain> for MeshActor {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.draining = true;
        if self.hull.borrow().is_some() {
            self.apply(ctx);
        }
    }
}

impl Handler<Revoked> for MeshActor {
    type Result = ();

    fn handle(&mut self, _: Revoked, _: &mut Self::Context) {
        self.closed = true;
        self.crew.peers.tell(Closed);
        if let Some(endpoint) = self.hull.borrow_mut().take() {
            actix_rt::spawn(async move { endpoint.shut_down(CLOSE_GRACE).await });
        }
        self.report();
    }
}
