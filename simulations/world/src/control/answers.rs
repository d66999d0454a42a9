//! What control answers: snapshots, access tokens, and confirmations of observations.

use rap_agent_core::replay::ReplayWindow;
use rap_control_core::{
    AccessIds, AccessRequest, Compiled, Liveness, NotCompiled, access::Asked, authorize_session,
    compile, observation, state::NodeStanding,
};
use rap_events::{
    Actor,
    handler::{ExecuteError, Request},
    node_report::NodeReport,
    session::Session,
};
use rap_proto::{
    AttachmentId, CommandId, Digest, MessageId, NodeId, SessionId, Timestamp,
    bus::{ControlBody, NodeBody, NodeMessage},
    codec,
    signed::{self, Trusted, Unverified},
    snapshot::{Bundle, Resources, Section as _},
    token::CLOCK_SKEW_MS,
    wire::node_api::SnapshotRequest,
};

use super::Control;
use crate::{
    cast,
    checkers::Violation,
    message::{AskAccess, Granted, Message, SnapshotAnswer},
    mutation::Mutation,
    network::Party,
    turn::{Turn, calendar},
};

impl Control {
    pub(super) fn snapshot(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        ask: u64,
        request: &SnapshotRequest,
    ) {
        let (Some(state), Some(place)) = (self.state(), self.places.get(&node).copied()) else {
            return;
        };
        let answer = match compile(state, node) {
            Err(NotCompiled::NotApproved(_)) if self.keeps_holder(turn, node) => {
                SnapshotAnswer::Unavailable
            }
            Ok(compiled) if compiled.manifest.version <= request.have => {
                SnapshotAnswer::NotModified
            }
            Ok(compiled) => SnapshotAnswer::Newer(self.bundle(turn, node, compiled, request)),
            Err(NotCompiled::NotApproved(_))
                if standing(state, node) == Some(NodeStanding::Revoked) =>
            {
                SnapshotAnswer::Revoked
            }
            Err(_) => SnapshotAnswer::Unavailable,
        };
        turn.send(Party::Node(place), Message::Snapshot { ask, answer });
    }

    fn bundle(
        &self,
        turn: &mut Turn<'_>,
        node: NodeId,
        mut compiled: Compiled,
        request: &SnapshotRequest,
    ) -> Bundle {
        if turn.planted(Mutation::ScopeWidened) {
            self.widen(&mut compiled);
        }
        let version = compiled.manifest.version;
        let digest = Digest::of(&codec::encode(&compiled.manifest));
        let lineage = self.lineage(version);
        let signed = turn.checkers.applied.signed(node, (version, lineage), digest);
        turn.judge(signed);
        let wanted =
            compiled.sections.into_iter().filter(|(digest, _)| !request.sections.contains(digest));
        Bundle {
            manifest: signed::seal(&compiled.manifest, &[&*self.key]),
            sections: wanted.map(|(_, bytes)| bytes.into()).collect(),
        }
    }

    /// A planted bug: the resources of some other node come along.
    fn widen(&self, compiled: &mut Compiled) {
        let Some(state) = self.state() else { return };
        let others = state.nodes().approved().filter(|other| other.id != compiled.manifest.node);
        for other in others {
            let Ok(theirs) = compile(state, other.id) else { continue };
            let Some(digest) = theirs.manifest.sections.get(Resources::NAME) else { continue };
            compiled.manifest.sections.insert(Resources::NAME.to_owned(), *digest);
            compiled.sections.insert(*digest, theirs.sections[digest].clone());
            return;
        }
    }

    /// A message of a node, over a bus that may lose, repeat, reorder and forge.
    pub(super) fn heard(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        let now = calendar(turn.now);
        let batch = match self.believed(bytes, now) {
            Some((node, NodeBody::Observations(batch))) => (node, batch),
            Some((node, NodeBody::Leases(report))) => return self.reported(turn, node, &report),
            _ => return,
        };
        let (node, batch) = batch;
        let Some(state) = self.state() else { return };
        let verdicts = match observation::record(state, node, &batch) {
            Ok(verdicts) => verdicts,
            Err(refused) => return turn.note(format_args!("{node}: {refused}")),
        };
        let mut through = None;
        for verdict in verdicts {
            match self.record(turn, node, verdict.action) {
                Ok(()) => through = Some(verdict.sequence),
                Err(problem) => {
                    // One of several may be behind, or cut off: another one records it.
                    if !self.shared {
                        turn.judge(Err(Violation::new("recorded", problem)));
                    }
                    break;
                }
            }
        }
        if let Some(through) = through {
            turn.note(format_args!("{node} is recorded through {through}"));
            self.say(turn, node, ControlBody::ObservationsRecorded { through });
        }
    }

    /// A planted bug's first half: the answer before the work.
    pub(super) fn confirm_blindly(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        let Ok(message) = Unverified::<NodeMessage>::parse(bytes).and_then(|found| found.peek())
        else {
            return;
        };
        let NodeBody::Observations(batch) = message.body else { return };
        if let Some(last) = batch.last() {
            let through = last.sequence;
            self.say(turn, message.sender, ControlBody::ObservationsRecorded { through });
        }
    }

    fn believed(&mut self, bytes: &[u8], now: Timestamp) -> Option<(NodeId, NodeBody)> {
        let running = self.running.as_mut()?;
        let envelope = Unverified::<NodeMessage>::parse(bytes).ok()?;
        let sender = envelope.peek().ok()?.sender;
        let node = running.state.nodes().get(sender).filter(|node| node.is_approved())?;
        let message = envelope.verify(&Trusted::one(node.key)).ok()?;
        let skew = std::time::Duration::from_millis(CLOCK_SKEW_MS);
        let alive = message.issued_at <= now + skew && now <= message.expires_at + skew;
        if message.cluster != cast::CLUSTER || !alive {
            return None;
        }
        let window = running.windows.entry(sender).or_insert_with(ReplayWindow::default);
        let until = message.expires_at + skew;
        window.accept(message.incarnation, message.sequence, until, now).ok()?;
        Some((sender, message.into_inner().body))
    }

    fn record(
        &self,
        turn: &Turn<'_>,
        node: NodeId,
        action: observation::Recording,
    ) -> Result<(), String> {
        let request = |id: CommandId, request_hash: Digest| Request {
            command: id,
            request_hash,
            actor: Actor::Node(node),
            causation: None,
            at: calendar(turn.now),
        };
        let outcome = match action {
            observation::Recording::Session { id, request_hash, session, command } => {
                match self.run_as::<Session>(&request(id, request_hash), session.uuid(), command) {
                    // The rules say no, and will say so again: of a session that a failover lost.
                    Err(ExecuteError::Rejected(_)) if self.traced => Ok(()),
                    outcome => outcome.map_err(|error| error.to_string()),
                }
            }
            observation::Recording::Report { id, request_hash, command } => self
                .run_as::<NodeReport>(&request(id, request_hash), node.uuid(), command)
                .map_err(|error| error.to_string()),
            observation::Recording::Known => Ok(()),
            observation::Recording::Foreign { session } => {
                Err(format!("{node} speaks of the foreign session {session}"))
            }
        };
        outcome.map_err(|problem| format!("an observation of {node}: {problem}"))
    }

    pub(super) fn access(&mut self, turn: &mut Turn<'_>, ask: &AskAccess) {
        let now = calendar(turn.now);
        let ids = AccessIds {
            token: MessageId::new(now, self.chance.bytes()),
            session: SessionId::new(now, self.chance.bytes()),
            attachment: AttachmentId::new(now, self.chance.bytes()),
        };
        let request = AccessRequest {
            organization: ask.organization,
            user: ask.user,
            asked: Asked::Id(ask.resource),
            client_key: ask.client_key,
            refresh: None,
        };
        let Some(state) = self.state() else { return };
        let outcome = authorize_session(state, &Liveness::new(), &request, ids, now);
        if let Some(command) = request.command(&outcome)
            && let Err(error) = self.run::<Session>(turn.now, ids.session.uuid(), command)
        {
            if self.shared {
                return turn.note(format_args!("{} gets no answer: {error}", ask.user));
            }
            let problem = format!("a decision on access is not recorded: {error}");
            turn.judge(Err(Violation::new("access", problem)));
        }
        let outcome = match outcome {
            Ok(authorized) => {
                let token = signed::seal(&authorized.claims, &[&*self.key]);
                turn.checkers.admission.issued(&token, authorized.claims);
                let (session, entries) = (ids.session, authorized.entries);
                Ok(Granted { session, token, entries })
            }
            Err(denied) => Err(denied.code),
        };
        let shown = outcome.as_ref().map(|granted| granted.session);
        turn.note(format_args!("{} asks for {}: {shown:?}", ask.user, ask.resource));
        turn.send(Party::Client, Message::Access { request: ask.request, outcome });
    }
}

fn standing(state: &rap_control_core::State, node: NodeId) -> Option<NodeStanding> {
    state.nodes().get(node).map(|node| node.standing)
}
