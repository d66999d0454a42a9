//! Control: replicas with their real cores over one log in memory, behind the node API's HTTPS. Who
//! asks is who its certificate says it is.

use std::{
    cell::RefCell, collections::BTreeMap, convert::Infallible, net::Ipv4Addr, rc::Rc, sync::Arc,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rap_events::{
    DomainEvent, Envelope, Log as _, MemoryLog, log::MAX_READ_EVENTS,
    vpn_connection::VpnConnectionEvent,
};
use rap_pki::{
    PeerIdentity,
    tls::{self, ClientAuth},
};
use rap_proto::{
    Generation, LeaseClass, Leased, Moment, NodeId, PublicKey, RefusalCode, SessionId, codec,
    wire::node_api::{BeatRequest, LeasesRequest, MAX_BODY_BYTES, SnapshotRequest, TreeRequest},
};
use rap_simulations::{
    beat,
    cast::{self, CONNECTION, Places},
    checkers::{Checkers, Violation},
    control::{Act, Control, join_secret},
    joint::way::Way,
    kit::{Coverage, Trace},
    lease,
    message::{AskAccess, Enroll, Granted, Message, SnapshotAnswer},
    network::Party,
    turn::{Sent, Turn},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::mpsc, task::spawn_local, time::sleep};
use tokio_rustls::TlsAcceptor;
use turmoil::net::{TcpListener, TcpStream};

use super::{
    bus,
    cluster::Cluster,
    fabric::{CONTROLS, RULES_CHANGE_EVERY, TICK},
    ground::today,
    wire::API_PORT,
};
use crate::meshes::{now, record::Record};

/// All replicas, and what judges them.
pub(crate) struct Plane {
    replicas: Vec<Control>,
    /// Whether each of them runs.
    up: Vec<bool>,
    primary: Arc<MemoryLog>,
    /// How far the checkers read it.
    read: u64,
    places: Arc<Places>,
    pub(super) checkers: Checkers,
    trace: Trace,
    coverage: Coverage,
    record: Record,
    /// The bus: what each replica says to each node.
    lines: BTreeMap<(usize, usize), mpsc::Sender<Vec<u8>>>,
    grants: u64,
    /// When policies change no more.
    rules_stand: Moment,
}

impl Plane {
    /// A founded cluster, in which every node is enrolled.
    pub(super) fn found(seed: u64, cluster: &Cluster, record: Record, rules_stand: Moment) -> Self {
        let primary = Arc::new(MemoryLog::with_clock(today));
        let places = Arc::new(cluster.places());
        let hosts = cluster.hosts.clone();
        let carries = hosts.iter().any(|host| host.connector);
        let first = Control::new(seed, cast::tenants(), hosts, places.clone());
        let first = first.certified(cluster.authority.certificate_der().to_vec());
        let replica = |index| first.replica(seed, index, &Arc::new(Way::to(&primary)));
        let replicas = (0..CONTROLS.len()).map(replica).collect();
        let checkers = Checkers {
            leases: lease::checkers::Checkers::new(&[LeaseClass::Fast]),
            beat: beat::checkers::Checkers::new(places.len(), false),
            ..Checkers::default()
        };
        let mut plane = Self {
            replicas,
            up: vec![false; CONTROLS.len()],
            primary,
            read: 0,
            places,
            checkers,
            trace: Trace::default(),
            coverage: Coverage::default(),
            record,
            lines: BTreeMap::new(),
            grants: 0,
            rules_stand,
        };
        plane.replicas[0].found(now());
        if carries {
            plane.replicas[0].found_connection(now());
        }
        plane.replicas[0].make_beats(now(), CONTROLS.len());
        plane
    }

    pub(super) fn control_keys(&self) -> Vec<PublicKey> {
        vec![self.replicas[0].public_key()]
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.checkers.verdict.found()
    }

    pub(super) fn judge(&mut self, outcome: Result<(), Violation>) {
        self.checkers.judge(outcome);
    }

    pub(super) fn grants(&self) -> u64 {
        self.grants
    }

    /// The newest version of a node's snapshot that any replica knows of.
    pub(super) fn newest(&self, node: NodeId) -> u64 {
        let states = self.replicas.iter().filter_map(Control::state);
        states.filter_map(|state| Some(state.nodes().get(node)?.version)).max().unwrap_or(0)
    }

    /// Asks the replicas that run for access, one after the other. How the answer gets to its client is
    /// not simulated.
    pub(crate) fn access(&mut self, ask: &AskAccess) -> Option<Result<Granted, RefusalCode>> {
        let up: Vec<usize> = (0..self.up.len()).filter(|index| self.up[*index]).collect();
        up.into_iter().find_map(|index| {
            let message = Message::AskAccess(Box::new(ask.clone()));
            let answers = self.turn(index, |control, turn| control.handle(turn, message));
            answers.into_iter().find_map(|sent| match sent.message {
                Message::Access { outcome, .. } => Some(outcome),
                _ => None,
            })
        })
    }

    /// Of these sessions, those that some replica does not know to be over.
    pub(crate) fn open_sessions(&self, of: &[SessionId]) -> Vec<SessionId> {
        let states = self.replicas.iter().filter_map(Control::state);
        let open = states.flat_map(|state| state.sessions().open().map(|session| session.id));
        open.filter(|session| of.contains(session)).collect()
    }

    /// The nodes whose packets came to the resource in one look.
    pub(super) fn heard(&mut self, from: &[(usize, Generation)]) {
        self.checkers.leases.touching(0, from);
        for (place, generation) in from {
            self.checkers.leases.served(0, *generation);
            let node = self.places.iter().find(|(_, at)| *at == place).map(|(node, _)| *node);
            let leased = Leased { connection: CONNECTION, generation: *generation };
            let granted = self.checkers.leased.admitted(node.unwrap(), leased);
            self.checkers.judge(granted);
        }
        self.checkers.judge_leases();
    }

    /// Whether this replica's state is what the log says.
    pub(super) fn judge_replay(&mut self) {
        let events = self.replicas[0].events();
        for control in &self.replicas {
            let Some(state) = control.state() else { continue };
            let outcome = self.checkers.replay.check(state, &events);
            self.checkers.verdict.judge(outcome);
        }
    }

    /// Lets a replica act, says on the bus what it says there, and returns the rest.
    fn turn(&mut self, index: usize, what: impl FnOnce(&mut Control, &mut Turn<'_>)) -> Vec<Sent> {
        let mut turn = Turn {
            now: now(),
            moment: now(),
            mutation: None,
            checkers: &mut self.checkers,
            trace: &mut self.trace,
            coverage: &mut self.coverage,
            sent: Vec::new(),
            recorded_later: Vec::new(),
        };
        what(&mut self.replicas[index], &mut turn);
        let mut answers = Vec::new();
        for sent in turn.sent {
            match (sent.to, sent.message) {
                (Party::Node(place), Message::Down(bytes)) => {
                    if let Some(line) = self.lines.get(&(index, place)) {
                        // What is lost is said again.
                        let _ = line.try_send(bytes);
                    }
                }
                (to, message) => answers.push(Sent { to, message, carriage: sent.carriage }),
            }
        }
        self.read_log();
        self.checkers.judge_leases();
        answers
    }

    fn read_log(&mut self) {
        loop {
            let page = self.primary.read(self.read, MAX_READ_EVENTS).now_or_never();
            let page = page.and_then(Result::ok).unwrap_or_default();
            let Some(last) = page.last() else { return };
            self.read = last.position;
            page.iter().for_each(|envelope| self.take_note(envelope));
        }
    }

    fn take_note(&mut self, envelope: &Envelope) {
        let event = &envelope.event_type;
        self.record.note(format_args!("{} is {event}", envelope.position));
        let Ok(DomainEvent::VpnConnection(VpnConnectionEvent::LeaseGranted(granted))) =
            DomainEvent::from_envelope(envelope)
        else {
            return;
        };
        let generation = Generation::new(granted.generation);
        let place = self.places[&granted.node];
        self.record.note(format_args!("node {place} is granted {generation}"));
        self.grants += 1;
        self.checkers.leased.granted(granted.node, Leased { connection: CONNECTION, generation });
        self.checkers.leases.granted(now(), 0, place, generation, None);
    }

    /// The status and the body of an answer.
    fn answer(&mut self, index: usize, node: NodeId, path: &str, body: &[u8]) -> Answer {
        let message = match path {
            "/node/v1/snapshot" => {
                let request: SnapshotRequest = read(body)?;
                Message::AskSnapshot { node, ask: 0, request }
            }
            "/node/v1/leases" => {
                let request: LeasesRequest = read(body)?;
                Message::AskLeases { node, call: 0, request }
            }
            "/node/v1/beat" => {
                let request: BeatRequest = read(body)?;
                Message::AskBeat { node, call: 0, request }
            }
            "/node/v1/tree" => {
                let request: TreeRequest = read(body)?;
                Message::AskTree { node, call: 0, request }
            }
            _ => return Err(StatusCode::NOT_FOUND),
        };
        let answers = self.turn(index, |control, turn| control.handle(turn, message));
        let answered = answers.into_iter().find_map(|sent| match sent.message {
            Message::Snapshot { answer: SnapshotAnswer::Newer(bundle), .. } => Some(ok(&bundle)),
            Message::Snapshot { answer: SnapshotAnswer::NotModified, .. } => {
                Some(Err(StatusCode::NOT_MODIFIED))
            }
            Message::Leases { reply: Some(reply), .. } => Some(ok(&reply)),
            Message::Beat { reply, .. } => Some(ok(&reply)),
            Message::Tree { reply, .. } => Some(ok(&reply)),
            _ => None,
        });
        answered.unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE))
    }

    /// Whether the node is one; asks for that where it is not.
    fn enroll(&mut self, index: usize, enroll: Enroll) -> bool {
        let node = cast::node_id(&enroll.key);
        let state = self.replicas[index].state();
        let found = state.and_then(|state| state.nodes().get(node));
        if found.is_some_and(|found| found.is_approved()) {
            return true;
        }
        let message = Message::Enroll(Box::new(enroll));
        self.turn(index, |control, turn| control.handle(turn, message));
        false
    }
}

type Answer = Result<Vec<u8>, StatusCode>;

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, StatusCode> {
    codec::decode(body, MAX_BODY_BYTES).map_err(|_| StatusCode::BAD_REQUEST)
}

fn ok<T: Serialize>(value: &T) -> Answer {
    Ok(codec::encode(value))
}

/// A replica's program. The log survives a crash; the rest is folded again.
pub(super) async fn serve(
    plane: Rc<RefCell<Plane>>,
    cluster: Rc<Cluster>,
    index: usize,
) -> turmoil::Result {
    {
        let mut plane = plane.borrow_mut();
        plane.turn(index, Control::crash);
        plane.turn(index, Control::boot);
        plane.record.note(format_args!("{} starts", CONTROLS[index]));
        plane.up[index] = true;
    }
    let _up = Up(plane.clone(), index);
    spawn_local(act(plane.clone(), cluster.clone(), index));
    let (lines, heard) = (plane.clone(), plane.clone());
    let line = move |place, sender| {
        lines.borrow_mut().lines.insert((index, place), sender);
    };
    let hear = move |bytes| {
        let plane = heard.clone();
        async move {
            plane
                .borrow_mut()
                .turn(index, |control, turn| control.handle(turn, Message::Up(bytes)));
        }
    };
    spawn_local(bus::serve(Rc::new(line), hear));
    let roots = tls::roots(&[cluster.authority.certificate_der()])?;
    let config = tls::server(&cluster.server(), ClientAuth::Optional(roots), &[b"http/1.1"])?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, API_PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn_local(attend(acceptor.clone(), stream, plane.clone(), index));
    }
}

/// While it is there, the replica runs.
struct Up(Rc<RefCell<Plane>>, usize);

impl Drop for Up {
    fn drop(&mut self) {
        // Of a run that panicked nobody asks.
        if let Ok(mut plane) = self.0.try_borrow_mut() {
            plane.up[self.1] = false;
        }
    }
}

/// What nobody asks for: to lead, to vote, to grant, to fold what the others appended, and to change
/// a policy now and then.
async fn act(plane: Rc<RefCell<Plane>>, cluster: Rc<Cluster>, index: usize) {
    let mut missing: Vec<usize> = (0..cluster.hosts.len()).collect();
    let mut next = now() + RULES_CHANGE_EVERY;
    loop {
        sleep(TICK).await;
        missing.retain(|place| !plane.borrow_mut().enroll(index, enrollment(&cluster, *place)));
        plane.borrow_mut().turn(index, |control, turn| control.settle(turn));
        if now() >= next && now() < plane.borrow().rules_stand {
            plane.borrow_mut().turn(index, |control, turn| control.act(turn, Act::ChangePolicy));
            next = now() + RULES_CHANGE_EVERY;
        }
    }
}

async fn attend(acceptor: TlsAcceptor, stream: TcpStream, plane: Rc<RefCell<Plane>>, index: usize) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some(peer) = leaf.and_then(|leaf| PeerIdentity::from_leaf(leaf).ok()) else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let plane = plane.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let answer = plane.borrow_mut().answer(index, peer.node, head.uri.path(), &body);
            let (status, body) = match answer {
                Ok(body) => (StatusCode::OK, body),
                Err(status) => (status, Vec::new()),
            };
            let response = Response::builder().status(status).body(Full::<Bytes>::from(body));
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    // It ends when the node lets go of it, or breaks.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// What a host says of itself when it enrolls.
fn enrollment(cluster: &Cluster, place: usize) -> Enroll {
    Enroll {
        host: place,
        name: cluster.hosts[place].name.clone(),
        key: cluster.key(place),
        secret: join_secret(place),
        address: cluster.address(place),
    }
}
