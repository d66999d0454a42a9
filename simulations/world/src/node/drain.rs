//! Performing what the machines ask for.

use std::sync::Arc;

use rap_agent_core::{
    Machine as _, beat,
    disk::{Disk as _, StateFile},
    fetch,
    lease::holders,
    link,
    record::HeldCredentials,
    snapshot::{self, Floor, Plan, Snapshot, SnapshotStore},
    spool, witness,
};
use rap_mesh_core::{Sections, View};
use rap_proto::{
    Timestamp,
    bus::NodeBody,
    observation::Observation,
    signed::{self, Unverified},
    snapshot::{Bundle, Manifest},
};

use super::{Phase, PowerCut, SimNode, identity};
use crate::{message::Message, mutation::Mutation, network::Party, turn::Turn};

/// The most effects of one turn: more means that two machines keep each other busy.
const MAX_EFFECTS: usize = 10_000;

enum Effect {
    Store(snapshot::Effect),
    Fetch(fetch::Effect),
    Link(link::Effect),
    Spool(spool::Effect),
    Lease(holders::Effect),
    Witness(witness::Effect),
    Beat(beat::Effect),
}

impl SimNode {
    /// Gives a bundle to the snapshot store; false when it was refused.
    pub(super) fn offer(&mut self, turn: &mut Turn<'_>, bundle: Bundle) -> Result<bool, PowerCut> {
        let at = self.calendar(turn.now);
        self.plant(turn, &bundle, at);
        let Phase::Working(agent) = &mut self.phase else { return Ok(false) };
        agent.store.handle_input(turn.moment, snapshot::Input::Offered { bundle, at });
        let mut taken = true;
        while let Some(effect) = self.poll_store() {
            taken &= !matches!(effect, snapshot::Effect::Refused { .. });
            self.perform_store(turn, effect)?;
        }
        Ok(taken)
    }

    /// Bugs that make the store believe more: where one of them matters, the store is replaced by
    /// one that lacks the check in question.
    fn plant(&mut self, turn: &Turn<'_>, bundle: &Bundle, at: Timestamp) {
        let Some(mutation) = turn.mutation else { return };
        let Some(held) = self.held_credentials() else { return };
        let Phase::Working(agent) = &mut self.phase else { return };
        let envelope = Unverified::<Manifest>::parse(&bundle.manifest);
        let Ok(manifest) = envelope.and_then(|found| found.peek()) else { return };
        let mut identity = identity(&held.credentials);
        let mut floor = agent.store.floor();
        match mutation {
            Mutation::FloorForgotten if manifest.version < floor.version => {
                floor = Floor::nothing();
            }
            Mutation::AnyNodesSnapshot
                if manifest.node != identity.node && manifest.version > floor.version =>
            {
                identity.node = manifest.node;
            }
            Mutation::UnsignedSnapshot if manifest.version > floor.version => {
                identity.control_keys.push(crate::attack::impostor());
            }
            _ => return,
        }
        // Only if it is taken then: a refusal here would be the plant's and not the bug's.
        let mut probe = SnapshotStore::new(identity.clone(), floor);
        let bundle = bundle.clone();
        probe.handle_input(turn.moment, snapshot::Input::Offered { bundle, at });
        if matches!(probe.poll_effect(), Some(snapshot::Effect::Persist(_))) {
            agent.store = SnapshotStore::new(identity, floor);
        }
    }

    fn held_credentials(&self) -> Option<HeldCredentials> {
        let bytes = self.disk.read(StateFile::Credentials).ok()??;
        rap_agent_core::record::decode(&bytes).ok()
    }

    pub(super) fn drain(&mut self, turn: &mut Turn<'_>) -> Result<(), PowerCut> {
        for _ in 0..MAX_EFFECTS {
            let Some(effect) = self.poll() else { return Ok(()) };
            match effect {
                Effect::Store(effect) => self.perform_store(turn, effect)?,
                Effect::Fetch(fetch::Effect::Ask(request)) => self.ask(turn, request),
                Effect::Link(effect) => self.perform_link(turn, effect),
                Effect::Spool(effect) => self.perform_spool(turn, effect)?,
                Effect::Lease(effect) => self.perform_lease(turn, effect)?,
                Effect::Beat(effect) => self.perform_beat(turn, effect)?,
                Effect::Witness(effect) => self.perform_witness(turn, effect)?,
            }
        }
        panic!("{} is busy with itself", self.host.name);
    }

    fn poll(&mut self) -> Option<Effect> {
        let Phase::Working(agent) = &mut self.phase else { return None };
        None.or_else(|| agent.store.poll_effect().map(Effect::Store))
            .or_else(|| agent.fetcher.poll_effect().map(Effect::Fetch))
            .or_else(|| agent.link.poll_effect().map(Effect::Link))
            .or_else(|| agent.spool.poll_effect().map(Effect::Spool))
            .or_else(|| agent.leases.holders.poll_effect().map(Effect::Lease))
            .or_else(|| agent.hearing.as_mut()?.asking.poll_effect().map(Effect::Beat))
            .or_else(|| agent.watching.as_mut()?.asking.poll_effect().map(Effect::Witness))
    }

    fn poll_store(&mut self) -> Option<snapshot::Effect> {
        match &mut self.phase {
            Phase::Working(agent) => agent.store.poll_effect(),
            _ => None,
        }
    }

    fn ask(&mut self, turn: &mut Turn<'_>, request: rap_proto::wire::node_api::SnapshotRequest) {
        let Phase::Working(agent) = &mut self.phase else { return };
        // A new question: an answer to an older one comes over a connection that is gone.
        agent.ask += 1;
        let (node, ask) = (agent.id, agent.ask);
        turn.send(Party::Control, Message::AskSnapshot { node, ask, request });
    }

    fn perform_store(
        &mut self,
        turn: &mut Turn<'_>,
        effect: snapshot::Effect,
    ) -> Result<(), PowerCut> {
        match effect {
            snapshot::Effect::Persist(plan) => self.persist(turn, &plan),
            snapshot::Effect::Apply { snapshot, .. } => {
                self.apply(turn, &snapshot);
                Ok(())
            }
            snapshot::Effect::Refused { version, code } => {
                turn.note(format_args!("{} refuses version {version}: {code}", self.host.name));
                self.observe(turn, Observation::SnapshotRefused { version, code });
                Ok(())
            }
            snapshot::Effect::Expired(_) => Ok(()),
            snapshot::Effect::Denied => self.leave(turn),
        }
    }

    fn persist(&mut self, turn: &mut Turn<'_>, plan: &Plan) -> Result<(), PowerCut> {
        let at = self.calendar(turn.now);
        let forgets = turn.planted(Mutation::SnapshotNotPersisted) && self.chance.happens(500);
        if !forgets {
            snapshot::persist(&mut self.disk, plan).map_err(|_| PowerCut)?;
            snapshot::forget_unused(&mut self.disk, &plan.keep).map_err(|_| PowerCut)?;
        }
        let Phase::Working(agent) = &mut self.phase else { return Ok(()) };
        agent.store.handle_input(turn.moment, snapshot::Input::Persisted { at });
        let scoped = turn.checkers.scope.disk(&self.host, &self.disk);
        turn.judge(scoped);
        Ok(())
    }

    fn apply(&mut self, turn: &mut Turn<'_>, snapshot: &Arc<Snapshot>) {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return };
        let id = agent.id;
        turn.note(format_args!("{} applies {}", self.host.name, snapshot.manifest.version));
        let applied = turn.checkers.applied.applied(id, snapshot);
        turn.judge(applied);
        let scoped = turn.checkers.scope.snapshot(&self.host, &self.tenants, snapshot);
        turn.judge(scoped);

        let keys = link::Input::ControlKeys(agent.store.control_keys());
        agent.link.handle_input(turn.moment, keys);
        let epoch = link::Input::AuthorityEpoch(agent.store.authority_epoch());
        agent.link.handle_input(turn.moment, epoch);
        let (version, sections) = agent.store.holding();
        agent.fetcher.handle_input(turn.moment, fetch::Input::Holding { version, sections });
        let sections = Sections {
            assignment: snapshot.assignment.clone(),
            trust: snapshot.trust.clone(),
            peers: snapshot.peers.clone(),
            resources: snapshot.resources.clone(),
            bandwidth: snapshot.bandwidth.clone(),
            places: snapshot.places.clone(),
            paths: snapshot.paths,
            mesh: snapshot.mesh.clone(),
        };
        agent.leases.told(turn.moment, at, snapshot);
        let mut view = View::new(&snapshot.manifest, sections);
        view.authority = agent.hearing.as_ref().map_or(view.authority, |one| one.authority);
        agent.view = Some((view, snapshot.clone()));
        if !turn.planted(Mutation::WithdrawalIgnored) {
            self.end_what_is_withdrawn(turn);
        }
        let kept = turn.checkers.admission.after_apply(id, snapshot);
        turn.judge(kept);
    }

    fn perform_link(&mut self, turn: &mut Turn<'_>, effect: link::Effect) {
        let Phase::Working(agent) = &mut self.phase else { return };
        match effect {
            link::Effect::Publish(message) => {
                let bytes = signed::seal(&*message, &[&self.key]);
                turn.publish(Party::Control, Message::Up(bytes));
            }
            link::Effect::Doorbell { version } => {
                agent.fetcher.handle_input(turn.moment, fetch::Input::Doorbell { version });
            }
            link::Effect::Recorded { through } => {
                agent.spool.handle_input(turn.moment, spool::Input::Recorded { through });
            }
            link::Effect::LeaseOffered { connection, generation, class } => {
                let offered = holders::Input::Offered { connection, generation, class };
                agent.leases.holders.handle_input(turn.moment, offered);
            }
            link::Effect::ReleaseAsked { connection, generation } => {
                let asked = holders::Input::ReleaseAsked { connection, generation };
                agent.leases.holders.handle_input(turn.moment, asked);
            }
            // None of these decides anything here.
            link::Effect::Beat
            | link::Effect::AuthorityBeat { .. }
            | link::Effect::Explain { .. }
            | link::Effect::Ignored(_) => {}
        }
    }

    fn perform_spool(
        &mut self,
        turn: &mut Turn<'_>,
        effect: spool::Effect,
    ) -> Result<(), PowerCut> {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return Ok(()) };
        match effect {
            spool::Effect::Write(write) => {
                let written = match write {
                    spool::Write::Append(bytes) => self.disk.append(StateFile::Spool, &bytes),
                    spool::Write::Replace(bytes) => self.disk.replace(StateFile::Spool, &bytes),
                };
                written.map_err(|_| PowerCut)?;
                agent.spool.handle_input(turn.moment, spool::Input::Written);
            }
            spool::Effect::Send(batch) => {
                let id = agent.id;
                let sent = turn.checkers.recorded.sent(id, &batch);
                turn.judge(sent);
                let body = NodeBody::Observations(batch);
                agent.link.handle_input(turn.moment, link::Input::Say { body, at });
            }
            spool::Effect::LeftOut(count) => {
                turn.note(format_args!("{} leaves out {count} observations", self.host.name));
            }
        }
        Ok(())
    }
}
