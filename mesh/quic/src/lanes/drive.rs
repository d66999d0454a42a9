//! Driving a lane's path: performs what [`LanePath`] asks for, and tells it what came of it.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use rap_mesh_core::{
    View,
    carrier::Carrier,
    holes,
    lane_path::{Effect, Input, LanePath, SwitchReason, Traffic},
    paths::Candidate,
};
use rap_proto::wire::hop::FLOW_TTL_MS;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    LaneConnection, LaneKey, chains,
    hole::Hole,
    moves::part,
    offers::{Offers, Renewals, offers},
    probe,
    socket::Answer,
};
use crate::{
    hops::{self, Refreshed, RelayedFlow},
    mesh::{Mesh, locked},
};

/// A relayed flow is refreshed several times in its life.
const REFRESH_EVERY: Duration = Duration::from_millis(FLOW_TTL_MS / 3);

pub(super) struct PathDriver {
    mesh: Arc<Mesh>,
    lane: Arc<LaneConnection>,
    machine: LanePath,
    flows: BTreeMap<u64, OpenFlow>,
    tasks: JoinSet<Happened>,
    answers: mpsc::Receiver<Answer>,
    hole: Hole,
    /// The newest that was looked at.
    view: Arc<View>,
    renewals: Renewals,
    /// What the machine was last told was sent.
    told_sent: u64,
}

struct OpenFlow {
    flow: RelayedFlow,
    hop_watch: AbortHandle,
}

impl Drop for OpenFlow {
    fn drop(&mut self) {
        self.hop_watch.abort();
    }
}

enum Happened {
    Opened { generation: u64, flow: RelayedFlow },
    Refused { generation: u64 },
    HopLost { generation: u64, flow_is_gone: bool },
    Refreshed { generation: u64, went_well: bool },
}

impl PathDriver {
    /// For a lane that was made over its candidate, by a flow of `relayed` if that is a relay.
    pub(super) fn new(
        mesh: Arc<Mesh>,
        lane: Arc<LaneConnection>,
        relayed: Option<RelayedFlow>,
        answers: mpsc::Receiver<Answer>,
    ) -> Self {
        let over = lane.carried().candidate;
        let open: Vec<Candidate> = Some(over).filter(Candidate::is_relayed).into_iter().collect();
        let mut renewals = Renewals::of(&mesh);
        renewals.begin_look();
        let view = mesh.view();
        let mut offered = offers(&mesh, &view, lane.key, &open);
        offered.keep(&mesh, &view, lane.key, &open);
        let Offers { candidates, worths, interest } = offered;
        renewals.looked(interest);
        let mut machine = LanePath::new(mesh.network.seed(), mesh.clock.moment(), over, candidates);
        machine.handle_input(mesh.clock.moment(), Input::Worths(worths));
        let mut hole = Hole::new(mesh.clone(), lane.clone());
        machine.handle_input(mesh.clock.moment(), Input::Direct(view.direct_rule()));
        if !view.allows_direct() {
            // It may have been forbidden while the lane was made.
            hole.note(holes::Input::Direct { allowed: false });
        }
        let mut driver = Self {
            mesh,
            lane,
            machine,
            flows: BTreeMap::new(),
            tasks: JoinSet::new(),
            answers,
            hole,
            view,
            renewals,
            told_sent: 0,
        };
        if let Some(flow) = relayed {
            driver.hold(LanePath::FIRST, flow);
        }
        driver
    }

    pub(super) async fn run(mut self) -> Infallible {
        let mut views = self.mesh.views.subscribe();
        let view = views.borrow_and_update().clone();
        if !Arc::ptr_eq(&view, &self.view) {
            self.take_view(view);
        }
        let mut refreshes = tokio::time::interval(REFRESH_EVERY);
        // The first is due at once, and the flow is new.
        refreshes.tick().await;
        loop {
            self.perform();
            let timeout = self.machine.poll_timeout();
            let hole_timeout = self.hole.poll_timeout();
            let (mesh, lane) = (self.mesh.clone(), self.lane.clone());
            let hurries = self.machine.is_in_doubt();
            tokio::select! {
                // What came is told before time decides without it.
                biased;
                Some(ended) = self.tasks.join_next() => {
                    // The watch of a flow that was given up ends without a word.
                    ended.into_iter().for_each(|happened| self.note(happened));
                }
                Some(Answer { generation, probe }) = self.answers.recv() => {
                    self.tell(Input::Answered { generation, probe });
                }
                Ok(()) = views.changed() => {
                    let view = views.borrow_and_update().clone();
                    self.take_view(view);
                }
                () = self.renewals.next(hurries), if self.machine.heeds_relays() => {
                    self.tell_candidates();
                }
                happened = self.hole.next() => {
                    self.dig(Some(happened));
                }
                () = mesh.clock.until(hole_timeout) => {
                    self.dig(None);
                }
                () = lane.socket.sends_beyond(self.told_sent), if !self.machine.is_looking() => {
                    self.tell_traffic();
                }
                () = mesh.clock.until(timeout) => {
                    self.tell_traffic();
                    self.machine.handle_timeout(mesh.clock.moment());
                }
                _ = refreshes.tick() => self.refresh(),
            }
        }
    }

    fn tell(&mut self, input: Input) {
        self.machine.handle_input(self.mesh.clock.moment(), input);
    }

    fn take_view(&mut self, view: Arc<View>) {
        let before = std::mem::replace(&mut self.view, view);
        let LaneKey { egress, organization, .. } = self.lane.key;
        self.dig(Some(holes::Input::Direct { allowed: self.view.allows_direct() }));
        if self.view.has_lost_relay(&before, organization) {
            let found = self.hole.candidate();
            self.dig(Some(holes::Input::Withdrawn));
            found.into_iter().for_each(|found| self.tell(Input::Withdrawn(found)));
        } else if !before.same_ways(&self.view, egress, organization) {
            self.dig(Some(holes::Input::Renewed));
        }
        self.tell_candidates();
    }

    /// What the snapshot allows, and what was found besides.
    fn tell_candidates(&mut self) {
        self.renewals.begin_look();
        let open = self.machine.open_over_relays();
        let mut offered = offers(&self.mesh, &self.view, self.lane.key, &open);
        if let Some(hole) = self.hole.candidate().filter(|_| !offered.candidates.is_empty()) {
            offered.candidates.retain(|candidate| *candidate != hole);
            offered.candidates.insert(0, hole);
        }
        offered.keep(&self.mesh, &self.view, self.lane.key, &open);
        let Offers { candidates, worths, interest } = offered;
        self.renewals.looked(interest);
        self.tell(Input::Candidates(candidates));
        self.tell(Input::Direct(self.view.direct_rule()));
        self.tell(Input::Worths(worths));
    }

    /// Goes on with the lane's hole. Returns whether that changed what may carry the lane.
    fn dig(&mut self, happened: Option<holes::Input>) -> bool {
        let changed = match happened {
            Some(happened) => self.hole.note(happened),
            None => self.hole.handle_timeout(),
        };
        if changed {
            self.tell_candidates();
        }
        changed
    }

    fn tell_traffic(&mut self) {
        let (sent, received) = self.lane.socket.traffic();
        self.told_sent = sent;
        let rtt = self.lane.connection.rtt();
        self.tell(Input::Traffic(Traffic { sent, received, rtt }));
    }

    fn note(&mut self, happened: Happened) {
        match happened {
            // Nobody waits for it any more: dropped, and the relay told.
            Happened::Opened { generation, .. } if !self.machine.has_open(generation) => {}
            Happened::Opened { generation, flow } => {
                self.lane.socket.open(generation, flow.address);
                self.hold(generation, flow);
                self.tell(Input::Opened { generation });
            }
            Happened::Refused { generation } => self.tell(Input::Refused { generation }),
            Happened::HopLost { generation, flow_is_gone: true } => {
                self.tell(Input::Gone { generation });
            }
            Happened::HopLost { generation, flow_is_gone: false }
            | Happened::Refreshed { generation, went_well: false } => {
                self.tell(Input::Doubted { generation });
            }
            Happened::Refreshed { went_well: true, .. } => {}
        }
    }

    fn perform(&mut self) {
        loop {
            self.perform_effects();
            let in_use = self.lane.carried().candidate;
            let hole = self.hole.candidate();
            let hole_is_open = hole.is_some_and(|it| self.machine.is_open(it));
            let slow_until = hole.and_then(|it| self.machine.slow_until(it));
            let not_better = self.machine.standing().not_better;
            let path = holes::Input::Path { in_use, hole_is_open, slow_until, not_better };
            if !self.dig(Some(path)) {
                return;
            }
        }
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Open { generation, candidate: Candidate::Direct(address) } => {
                    if self.lane.socket.reaches(address) {
                        self.lane.socket.open(generation, address);
                        self.tell(Input::Opened { generation });
                    } else {
                        self.tell(Input::Refused { generation });
                    }
                }
                Effect::Open { generation, candidate } => self.set_up(generation, candidate),
                Effect::Close { generation } => {
                    self.lane.socket.close(generation);
                    self.flows.remove(&generation);
                }
                Effect::Probe { generation, probe } => {
                    if let Some(id) = probe::id(&self.lane.connection, probe) {
                        self.lane.socket.probe(generation, probe, id);
                    }
                }
                Effect::Use { generation, candidate } => self.switch(generation, candidate),
                Effect::AskForSnapshot => {
                    self.mesh.events.snapshot_wanted(self.mesh.view().version + 1);
                }
                Effect::Retire => self.lane.retire(&self.mesh),
            }
        }
        self.lane.carry(|carried| carried.standing = self.machine.standing());
        self.mesh.tally.happened(self.machine.take_happened());
    }

    fn set_up(&mut self, generation: u64, candidate: Candidate) {
        let (mesh, lane) = (self.mesh.clone(), self.lane.clone());
        self.tasks.spawn(async move {
            let (key, from) = (lane.key, &*lane.socket);
            let set_up = async {
                match candidate {
                    Candidate::Direct(_) => None,
                    Candidate::Relay(relay) => {
                        hops::set_up(&mesh, relay, key.egress, key.lane, from).await.ok()
                    }
                    Candidate::Chain(chain) => chains::set_up(&mesh, chain, key, from).await.ok(),
                }
            };
            match timeout(candidate.timeout(), set_up).await {
                Ok(Some(flow)) => Happened::Opened { generation, flow },
                Ok(None) | Err(_) => Happened::Refused { generation },
            }
        });
    }

    fn hold(&mut self, generation: u64, flow: RelayedFlow) {
        let lost = flow.hop_lost();
        let hop_watch = self
            .tasks
            .spawn(async move { Happened::HopLost { generation, flow_is_gone: lost.await } });
        self.flows.insert(generation, OpenFlow { flow, hop_watch });
    }

    fn refresh(&mut self) {
        for (generation, open) in &self.flows {
            let (generation, refreshing) = (*generation, open.flow.refresh());
            self.tasks.spawn(async move {
                Happened::Refreshed { generation, went_well: refreshing.await == Refreshed::Kept }
            });
        }
    }

    fn switch(&mut self, generation: u64, candidate: Candidate) {
        let lane = &self.lane;
        lane.socket.change_to(generation);
        lane.steering.path_changed();
        // QUIC takes it for a new socket: it changes its connection id and sends at once, so that
        // the far end learns of the path also when there is nothing to say. It fails only for a
        // socket without an address.
        let _ = lane.endpoint.rebind_abstract(lane.socket.clone());
        let before = lane.carried().candidate;
        lane.carry(|carried| carried.candidate = candidate);
        let change = (Some(before), Some(candidate));
        self.mesh.path_changed(part(lane.key, Carrier::Quic), change);
        let reason = self.machine.standing().last_switch;
        let mut paths = locked(&self.mesh.lanes.paths);
        let is_well =
            |reason: SwitchReason| reason.is_by_choice() || reason == SwitchReason::NotAllowed;
        if !reason.is_some_and(is_well) {
            paths.failed(self.mesh.clock.moment(), lane.key.egress, before);
        }
        paths.succeeded(lane.key.egress, candidate);
        tracing::info!(
            egress = %lane.key.egress,
            lane = %lane.key.lane,
            path = ?candidate,
            reason = reason.map(SwitchReason::as_str),
            "lane changed its path"
        );
    }
}
