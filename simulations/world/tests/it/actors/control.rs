//! The control host: the world's control plane behind two TCP ports.

use std::{cell::RefCell, net::Ipv4Addr, rc::Rc, sync::Arc, time::Duration};

use rap_proto::{
    NodeId, Signer as _, codec,
    key::LocalKey,
    snapshot::Bundle,
    wire::node_api::{Credentials, SnapshotRequest},
};
use rap_simulations::{
    cast::{self, Places},
    checkers::Checkers,
    control::{Act, Control, join_secret},
    kit::{Coverage, Trace},
    message::{Enroll, EnrollAnswer, Message, SnapshotAnswer},
    turn::{Sent, Turn},
};
use tokio::sync::broadcast;
use turmoil::net::{TcpListener, TcpStream};

use super::{
    Notes, now,
    wire::{API_PORT, BUS_PORT, receive, send},
};

/// The host whose agent the node runs: the first tenant's egress.
const HOST: usize = 2;
const CHANGE_EVERY: Duration = Duration::from_secs(3);
const DOORBELLS: usize = 64;

pub(super) struct Side {
    control: Control,
    node: NodeId,
    checkers: Checkers,
    trace: Trace,
    coverage: Coverage,
    notes: Notes,
    doorbells: broadcast::Sender<Vec<u8>>,
    changing: bool,
}

impl Side {
    /// A founded cluster in which the node is enrolled already.
    pub(super) fn found(seed: u64, notes: Notes) -> (Self, Credentials) {
        let key = LocalKey::from_random(&[9; 32]).unwrap();
        let node = cast::node_id(&key.public_key());
        let places = Arc::new(Places::from([(node, HOST)]));
        let control = Control::new(seed, cast::tenants(), cast::hosts(), places);
        let (doorbells, _) = broadcast::channel(DOORBELLS);
        let (checkers, trace) = (Checkers::default(), Trace::default());
        let coverage = Coverage::default();
        let mut side =
            Self { control, node, checkers, trace, coverage, notes, doorbells, changing: true };
        side.control.found(now());
        side.turn(|control, turn| control.boot(turn));
        let enroll = Enroll {
            host: HOST,
            name: cast::name("egress-0"),
            key: key.public_key(),
            secret: join_secret(HOST),
            address: (Ipv4Addr::LOCALHOST, 4433).into(),
        };
        let sent =
            side.turn(|control, turn| control.handle(turn, Message::Enroll(Box::new(enroll))));
        let credentials = sent.into_iter().find_map(|sent| match sent.message {
            Message::Enrolled(EnrollAnswer::Enrolled(credentials)) => Some(*credentials),
            _ => None,
        });
        (side, credentials.unwrap())
    }

    pub(super) fn newest(&self) -> u64 {
        self.control.state().unwrap().nodes().get(self.node).unwrap().version
    }

    pub(super) fn stop_changing(&mut self) {
        self.changing = false;
    }

    /// Lets control act, rings the doorbells, and returns the rest of what it said.
    fn turn(&mut self, what: impl FnOnce(&mut Control, &mut Turn<'_>)) -> Vec<Sent> {
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
        what(&mut self.control, &mut turn);
        let sent = turn.sent;
        assert_eq!(self.checkers.verdict.found(), None);
        let (bus, other): (Vec<Sent>, Vec<Sent>) =
            sent.into_iter().partition(|sent| matches!(sent.message, Message::Down(_)));
        for one in bus {
            if let Message::Down(bytes) = one.message {
                // Nobody may be listening: that is what the poll is for.
                let _ = self.doorbells.send(bytes);
            }
        }
        other
    }

    fn answer(&mut self, request: SnapshotRequest) -> Option<Bundle> {
        let asked = Message::AskSnapshot { node: self.node, ask: 0, request };
        let sent = self.turn(|control, turn| control.handle(turn, asked));
        sent.into_iter().find_map(|sent| match sent.message {
            Message::Snapshot { answer: SnapshotAnswer::Newer(bundle), .. } => Some(bundle),
            _ => None,
        })
    }
}

/// The host's program. Its log survives a crash, like a database; the rest is folded again.
pub(super) async fn serve(side: Rc<RefCell<Side>>) -> turmoil::Result {
    {
        let mut side = side.borrow_mut();
        side.turn(Control::crash);
        side.turn(Control::boot);
        side.notes.add("control starts");
    }
    tokio::task::spawn_local(change(side.clone()));
    tokio::task::spawn_local(serve_bus(side.clone()));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, API_PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(serve_api(stream, side.clone()));
    }
}

async fn change(side: Rc<RefCell<Side>>) {
    loop {
        tokio::time::sleep(CHANGE_EVERY).await;
        let mut side = side.borrow_mut();
        if side.changing {
            side.turn(|control, turn| control.act(turn, Act::ChangePolicy));
            let newest = side.newest();
            side.notes.add(format_args!("control is at {newest}"));
        }
    }
}

async fn serve_api(mut stream: TcpStream, side: Rc<RefCell<Side>>) {
    while let Ok(bytes) = receive(&mut stream).await {
        let Ok(request) = codec::decode::<SnapshotRequest>(&bytes, 64 * 1024) else { return };
        let answer = side.borrow_mut().answer(request);
        if send(&mut stream, &codec::encode(&answer)).await.is_err() {
            return;
        }
    }
}

async fn serve_bus(side: Rc<RefCell<Side>>) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, BUS_PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut doorbells = side.borrow().doorbells.subscribe();
        tokio::task::spawn_local(async move {
            while let Ok(bytes) = doorbells.recv().await {
                if send(&mut stream, &bytes).await.is_err() {
                    return;
                }
            }
        });
    }
}
