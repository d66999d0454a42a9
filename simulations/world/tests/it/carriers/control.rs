//! The control host: a grantor over the scenario's database, behind three TCP ports.

use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr, rc::Rc, time::Duration};

use rap_agent_core::lease::{Answer, RequestId};
use rap_control_core::lease::{Desired, Effect, Grantor, Input, Readiness};
use rap_proto::{
    LeaseClass, NodeId,
    bus::{ControlBody, LeaseReport},
    codec,
    wire::node_api::{LeasesReply, LeasesRequest, RenewalAnswer, RenewalVerdict},
};
use rap_simulations::{
    kit::Chance,
    lease::{
        admin::{connection_id, connection_index, node_id, node_index},
        checkers::Checkers,
        database::Database,
        message::{Asked, Grant, Op, Reply},
    },
};
use tokio::sync::broadcast;
use turmoil::net::TcpListener;

use super::NODES;
use crate::actors::{
    Notes, now,
    wire::{API_PORT, BUS_PORT, receive, send},
};

pub(super) const REPORT_PORT: u16 = 8444;
const CLASS: LeaseClass = LeaseClass::Fast;
/// How often the grantor's timer is looked at.
const TICK: Duration = Duration::from_millis(20);
const SAID: usize = 256;
const MAX_FRAME: usize = 64 * 1024;

pub(super) struct Side {
    database: Database,
    checkers: Checkers,
    grantor: Grantor,
    notes: Notes,
    said: broadcast::Sender<(usize, ControlBody)>,
}

impl Side {
    pub(super) fn new(seed: u64, notes: Notes) -> Self {
        let (said, _) = broadcast::channel(SAID);
        let database = Database::new(1, &mut Chance::new(seed, 62));
        let checkers = Checkers::new(&[CLASS]);
        Self { database, checkers, grantor: grantor(), notes, said }
    }

    pub(super) fn grants(&self) -> u64 {
        self.database.grants
    }

    /// The host starts: its database is as it was, and its grantor knows nothing.
    fn start(&mut self) {
        self.notes.add("control starts");
        self.grantor = grantor();
    }

    fn perform(&mut self, op: Op) -> Reply {
        let reply = self.database.perform(now(), op, None, &mut self.checkers);
        assert_eq!(self.checkers.verdict.found(), None);
        reply
    }

    fn tick(&mut self) {
        self.grantor.handle_timeout(now());
        while let Some(effect) = self.grantor.poll_effect() {
            self.act(effect);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Read { read } => {
                if let Reply::Read { table, .. } = self.perform(Op::Read { read, boot: 0 }) {
                    self.grantor.handle_input(now(), Input::Read { read, table: *table });
                }
            }
            Effect::Grant { connection, node, generation, class, revision, timeline, reason } => {
                self.notes.add(format_args!("control grants {generation} to {node}: {reason}"));
                let (index, node) = (connection_index(connection), node_index(node));
                let grant =
                    Grant { connection: index, node, generation, class, revision, timeline };
                self.perform(Op::Grant(grant));
                self.grantor.handle_input(now(), Input::Changed(connection));
            }
            Effect::Fence { connection, generation, revision, .. } => {
                let index = connection_index(connection);
                self.perform(Op::Fence { connection: index, generation, revision });
                self.grantor.handle_input(now(), Input::Changed(connection));
            }
            Effect::AskRelease { connection, node, generation, .. } => {
                self.say(node, ControlBody::ReleaseAsked { connection, generation });
            }
            Effect::Offer { connection, node, generation, class } => {
                let body = ControlBody::LeaseOffered { connection, generation, class };
                self.say(node, body);
            }
        }
    }

    fn say(&self, node: NodeId, body: ControlBody) {
        // Nobody may be listening: it is said again.
        let _ = self.said.send((node_index(node), body));
    }

    fn renew(&mut self, node: usize, request: LeasesRequest) -> LeasesReply {
        let mut reply = LeasesReply::default();
        for one in request.renewals {
            let asked = Asked { request: RequestId(one.request), incarnation: 0 };
            let (connection, generation) = (connection_index(one.connection), one.generation);
            let op = Op::Renew { node, connection, generation, asked };
            let Reply::Renewed { answer, .. } = self.perform(op) else { continue };
            let outcome = match answer {
                Answer::Granted { remaining } => {
                    let remaining_ms = u64::try_from(remaining.as_millis()).unwrap();
                    RenewalVerdict::Renewed { generation, remaining_ms }
                }
                Answer::Superseded { by } => RenewalVerdict::Superseded { generation: by },
                Answer::Over => RenewalVerdict::Over,
            };
            let (connection, request) = (one.connection, one.request);
            reply.renewals.push(RenewalAnswer { connection, request, outcome });
        }
        for one in request.releases {
            let (connection, generation) = (connection_index(one.connection), one.generation);
            self.perform(Op::Release { node, connection, generation });
            self.grantor.handle_input(now(), Input::Changed(one.connection));
            reply.released.push(one);
        }
        reply
    }

    fn reported(&mut self, node: usize, report: LeaseReport) {
        let node = node_id(node);
        let draining = report.draining;
        let readiness = report.connections.into_iter().map(|one| {
            let (ready, floor, holding) = (one.ready, one.floor, one.holding);
            (one.connection, Readiness { ready, floor, holding })
        });
        let connections: BTreeMap<_, _> = readiness.collect();
        self.grantor.handle_input(now(), Input::Reported { node, connections });
        self.grantor.handle_input(now(), Input::Draining { node, draining });
    }
}

fn grantor() -> Grantor {
    let mut grantor = Grantor::new(now(), LeaseClass::hold_off);
    let nodes = (0..NODES.len()).map(node_id).collect();
    let desired = Desired { class: CLASS, enabled: true, nodes, drain: None };
    let desired = BTreeMap::from([(connection_id(0), desired)]);
    grantor.handle_input(now(), Input::Desired(desired));
    grantor.handle_input(now(), Input::Leading(true));
    grantor
}

/// The host's program.
pub(super) async fn serve(side: Rc<RefCell<Side>>) -> turmoil::Result {
    side.borrow_mut().start();
    tokio::task::spawn_local(serve_bus(side.clone()));
    tokio::task::spawn_local(serve_api(side.clone()));
    tokio::task::spawn_local(serve_reports(side.clone()));
    loop {
        side.borrow_mut().tick();
        tokio::time::sleep(TICK).await;
    }
}

async fn serve_api(side: Rc<RefCell<Side>>) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, API_PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let side = side.clone();
        tokio::task::spawn_local(async move {
            while let Ok(bytes) = receive(&mut stream).await {
                let Ok((node, request)) =
                    codec::decode::<(usize, LeasesRequest)>(&bytes, MAX_FRAME)
                else {
                    return;
                };
                let reply = side.borrow_mut().renew(node, request);
                if send(&mut stream, &codec::encode(&reply)).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn serve_reports(side: Rc<RefCell<Side>>) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, REPORT_PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let side = side.clone();
        tokio::task::spawn_local(async move {
            while let Ok(bytes) = receive(&mut stream).await {
                let Ok((node, report)) = codec::decode::<(usize, LeaseReport)>(&bytes, MAX_FRAME)
                else {
                    return;
                };
                side.borrow_mut().reported(node, report);
            }
        });
    }
}

async fn serve_bus(side: Rc<RefCell<Side>>) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, BUS_PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut said = side.borrow().said.subscribe();
        tokio::task::spawn_local(async move {
            while let Ok(one) = said.recv().await {
                if send(&mut stream, &codec::encode(&one)).await.is_err() {
                    return;
                }
            }
        });
    }
}
