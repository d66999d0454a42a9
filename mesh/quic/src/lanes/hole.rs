//! Making a hole for a lane: performs what [`Holes`] asks for, and tells it what came of it.

use std::{net::SocketAddr, sync::Arc};

use rap_mesh_core::{
    holes::{Effect, Holes, Input, MEET_WAIT},
    paths::Candidate,
};
use rap_proto::{
    Moment, NodeId, RefusalCode,
    wire::lane::{KNOCK_LABEL, Knocker, Request, RequestReply, Seen, knock_context},
};
use tokio::{task::JoinSet, time::timeout};

use super::{LaneConnection, request::Place};
use crate::{
    frames::{ReadFrameError, read_frame, write_frame},
    hops::{self, NearSocket as _},
    mesh::Mesh,
    pipe::{Inlet, Outlet},
    relays::Use,
};

pub(super) struct Hole {
    mesh: Arc<Mesh>,
    lane: Arc<LaneConnection>,
    machine: Holes,
    tasks: JoinSet<Input>,
}

impl Hole {
    pub(super) fn new(mesh: Arc<Mesh>, lane: Arc<LaneConnection>) -> Self {
        Self { mesh, lane, machine: Holes::default(), tasks: JoinSet::new() }
    }

    /// The direct path that was found, if there is one.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        self.machine.address().map(Candidate::Direct)
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.machine.poll_timeout()
    }

    /// What happens next that is to be told with [`Self::note`].
    pub(super) async fn next(&mut self) -> Input {
        let (lane, tasks) = (&self.lane, &mut self.tasks);
        let asked = async {
            loop {
                match tasks.join_next().await {
                    Some(Ok(input)) => return input,
                    Some(Err(_)) => {}
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            input = asked => input,
            (round, from) = lane.socket.knocked() => Input::Heard { round, from },
        }
    }

    /// Returns whether the lane has another candidate than before.
    pub(super) fn note(&mut self, input: Input) -> bool {
        let before = self.candidate();
        self.machine.handle_input(self.mesh.clock.moment(), input);
        self.perform();
        self.candidate() != before
    }

    /// The same when time has passed.
    pub(super) fn handle_timeout(&mut self) -> bool {
        let before = self.candidate();
        self.machine.handle_timeout(self.mesh.clock.moment());
        self.perform();
        self.candidate() != before
    }

    fn perform(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Look { round } => {
                    let (mesh, lane) = (self.mesh.clone(), self.lane.clone());
                    self.tasks
                        .spawn(async move { Input::Seen { round, own: look(&mesh, &lane).await } });
                }
                Effect::Meet { round, own } => {
                    if let Some(secret) = secret(&self.lane, Knocker::Egress, round) {
                        self.lane.socket.expect(round, &secret);
                    }
                    let (mesh, lane) = (self.mesh.clone(), self.lane.clone());
                    self.tasks.spawn(async move { meet(&mesh, &lane, round, own).await });
                }
                Effect::Knock { round, to } => {
                    if let Some(secret) = secret(&self.lane, Knocker::Entry, round) {
                        self.lane.socket.knock(to, &secret);
                    }
                }
                Effect::Try { address } => self.say("a knock came through", address),
                Effect::Forget { address } => self.say("a hole is closed", address),
            }
        }
        let standing = self.machine.standing();
        self.lane.carry(|carried| carried.hole = standing);
        self.mesh.tally.holes(self.machine.take_outcomes());
    }

    fn say(&self, what: &str, address: SocketAddr) {
        let key = self.lane.key;
        tracing::info!(egress = %key.egress, lane = %key.lane, %address, "{what}");
    }
}

async fn look(mesh: &Arc<Mesh>, lane: &LaneConnection) -> Seen {
    let order = mesh.relays.order(&mesh.view(), Use::Running, lane.key, mesh.clock.now());
    let relays: Vec<NodeId> = order
        .into_iter()
        .filter_map(|way| match way {
            Candidate::Relay(relay) => Some(relay),
            Candidate::Direct(_) | Candidate::Chain(_) => None,
        })
        .collect();
    hops::look(mesh, &relays, &*lane.socket).await
}

/// Tells the egress what relays see here, over the lane itself: nobody in between can change it.
async fn meet(mesh: &Arc<Mesh>, lane: &Arc<LaneConnection>, round: u32, own: Seen) -> Input {
    // It takes the place of a flow for as long as it takes.
    let Some(_place) = Place::take(mesh, lane) else { return Input::NotMet { round } };
    let asking = async {
        let (send, recv) = lane.connection.open_bi().await.ok()?;
        let (mut send, mut recv) = (Outlet::Quic(send), Inlet::Quic(recv));
        write_frame(&mut send, &Request::Meet { round, seen: own }).await.ok()?;
        send.finish().await;
        Some(match read_frame(&mut recv).await {
            Ok(RequestReply::Met(far)) => Input::Met { round, far },
            Ok(RequestReply::Refused(refusal)) if refusal.code == RefusalCode::Malformed => {
                Input::Unsupported { round }
            }
            Ok(RequestReply::Refused(_)) => Input::NotMet { round },
            Err(ReadFrameError::Malformed(_)) => Input::Unsupported { round },
            Err(_) => Input::NotMet { round },
        })
    };
    let met = tokio::select! {
        biased;
        met = timeout(MEET_WAIT, asking) => met.ok().flatten(),
        () = mesh.leaving.cancelled() => None,
    };
    met.unwrap_or(Input::NotMet { round })
}

/// What one side knocks with; `None` while the lane has no keys.
fn secret(lane: &LaneConnection, by: Knocker, round: u32) -> Option<[u8; 16]> {
    let mut secret = [0; 16];
    let context = knock_context(by, round);
    lane.connection.export_keying_material(&mut secret, KNOCK_LABEL, &context).ok()?;
    Some(secret)
}
