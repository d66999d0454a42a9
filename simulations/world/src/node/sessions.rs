//! Clients at an entry and flows at an egress, decided by the mesh's real checks.

use rap_mesh_core::{
    Caller,
    admission::{self, Presented},
    sessions::{Departure, Word},
};
use rap_proto::{
    ChannelKind, Lane, NodeId, RefusalCode, SessionId, Signer as _,
    observation::{Claimed, EndReason, Observation, Vantage},
    token::{AccessClaims, Proof},
};

use super::{Client, Flow, Phase, PowerCut, SimNode};
use crate::{
    cast, checkers,
    message::{Hello, Message, OpenFlow},
    mutation::Mutation,
    network::Party,
    turn::Turn,
};

const CHANNEL: ChannelKind = ChannelKind::Stream;
const LANE: Lane = Lane::Interactive;

/// Why somebody is not let in, and what the token claims.
type Refused = (RefusalCode, Option<Claimed>);

impl SimNode {
    /// A client shows a token to this entry.
    pub(super) fn hello(&mut self, turn: &mut Turn<'_>, hello: Hello) -> Result<(), PowerCut> {
        let Hello { request, token, proof, exported } = hello;
        let mut admitted = self.admit_client(turn, &token, &proof, &exported);
        if let Ok((claims, _)) = &admitted
            && let Err(code) = self.fence(turn, claims.leased)?
        {
            admitted = Err((code, Some(admission::claimed(claims))));
        }
        match admitted.and_then(|(claims, egress)| self.attach(claims, egress)) {
            Ok((claims, egress)) => {
                let Phase::Working(agent) = &mut self.phase else { return Ok(()) };
                let session = claims.session;
                agent.clients.insert(session, Client { request, claims, egress, open: false });
                let caller = agent.id;
                let caller_key = self.key.public_key().id();
                let lane = LANE;
                let open = OpenFlow { request, caller, caller_key, token, proof, lane };
                self.tell_node(turn, egress, Message::OpenFlow(Box::new(open)));
            }
            Err((code, claimed)) => {
                self.refused(turn, code, claimed);
                turn.send(Party::Client, Message::Welcome { request, outcome: Err(code) });
            }
        }
        Ok(())
    }

    fn admit_client(
        &mut self,
        turn: &Turn<'_>,
        token: &[u8],
        proof: &Proof,
        exported: &[u8; 32],
    ) -> Result<(AccessClaims, NodeId), Refused> {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else {
            return Err((RefusalCode::SnapshotStale, None));
        };
        let Some((view, _)) = &agent.view else { return Err((RefusalCode::SnapshotStale, None)) };
        let claims = admission::open_token(view, token).map_err(|code| (code, None))?.into_inner();
        let presented = Presented { claims: &claims, token, proof };
        let admitted = admission::admit_client(view, presented, exported, at)
            .and_then(|()| admission::admit_channel(view, &claims, CHANNEL, LANE, at))
            .and_then(|()| {
                let known = |node: &&NodeId| view.peer(**node).is_some();
                claims.egresses.keys().find(known).copied().ok_or(RefusalCode::PathUnavailable)
            });
        match admitted {
            Ok(egress) => Ok((claims, egress)),
            Err(code) => Err((code, Some(admission::claimed(&claims)))),
        }
    }

    fn attach(
        &mut self,
        claims: AccessClaims,
        egress: NodeId,
    ) -> Result<(AccessClaims, NodeId), Refused> {
        let Phase::Working(agent) = &mut self.phase else {
            return Err((RefusalCode::SnapshotStale, None));
        };
        let session = claims.session;
        let attached = agent
            .entry
            .attach(session)
            .and_then(|()| agent.entry.open_channel(session, CHANNEL, max_open(&claims)));
        match attached {
            Ok(()) => Ok((claims, egress)),
            Err(code) => Err((code, Some(admission::claimed(&claims)))),
        }
    }

    /// An entry asks this egress for a flow.
    pub(super) fn open_flow(
        &mut self,
        turn: &mut Turn<'_>,
        open: OpenFlow,
    ) -> Result<(), PowerCut> {
        let OpenFlow { request, caller, caller_key, token, proof, lane } = open;
        let whom = Caller { cluster: cast::CLUSTER, node: caller, key: caller_key };
        let mut admitted = self.admit_flow(turn, &whom, &token, &proof, lane);
        if let Ok(claims) = &admitted
            && let Err(code) =
                self.fence(turn, claims.leased)?.and_then(|()| self.hold(turn, claims.leased))
        {
            admitted = Err((code, Some(admission::claimed(claims))));
        }
        let outcome = match admitted.and_then(|claims| self.count_flow(turn, claims)) {
            Ok((claims, started)) => {
                self.opened(turn, whom, &token, &proof, claims, started);
                Ok(())
            }
            Err((code, claimed)) => {
                self.refused(turn, code, claimed);
                Err(code)
            }
        };
        self.tell_node(turn, caller, Message::FlowOpened { request, outcome });
        Ok(())
    }

    fn admit_flow(
        &mut self,
        turn: &Turn<'_>,
        caller: &Caller,
        token: &[u8],
        proof: &Proof,
        lane: Lane,
    ) -> Result<AccessClaims, Refused> {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else {
            return Err((RefusalCode::SnapshotStale, None));
        };
        let Some((view, _)) = &agent.view else { return Err((RefusalCode::SnapshotStale, None)) };
        let claims = admission::open_token(view, token).map_err(|code| (code, None))?.into_inner();
        let presented = Presented { claims: &claims, token, proof };
        let checked = admission::admit_flow(view, caller, presented, CHANNEL, lane, at).map(|_| ());
        let checked = checked.or_else(|code| {
            if turn.planted(Mutation::AdmittedUnchecked) { Ok(()) } else { Err(code) }
        });
        match checked {
            Ok(()) => Ok(claims),
            Err(code) => Err((code, Some(admission::claimed(&claims)))),
        }
    }

    fn count_flow(
        &mut self,
        turn: &Turn<'_>,
        claims: AccessClaims,
    ) -> Result<(AccessClaims, bool), Refused> {
        let Phase::Working(agent) = &mut self.phase else {
            return Err((RefusalCode::SnapshotStale, None));
        };
        let session = claims.session;
        match agent.egress.open_flow(turn.moment, session, CHANNEL, max_open(&claims)) {
            Ok(()) => Ok((claims, agent.egress.flow_reached(session))),
            Err(code) => Err((code, Some(admission::claimed(&claims)))),
        }
    }

    fn opened(
        &mut self,
        turn: &mut Turn<'_>,
        caller: Caller,
        token: &[u8],
        proof: &Proof,
        claims: AccessClaims,
        started: bool,
    ) {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return };
        let Some((_, snapshot)) = &agent.view else { return };
        let flow = checkers::Flow {
            egress: agent.id,
            entry: caller.node,
            token: token.to_vec(),
            proof: proof.clone(),
            at,
        };
        let admitted = turn.checkers.admission.flow(&flow, snapshot);
        turn.judge(admitted);
        if let Some(leased) = claims.leased {
            let granted = turn.checkers.leased.admitted(flow.egress, leased);
            turn.judge(granted);
        }
        turn.note(format_args!("{} opens {}", self.host.name, claims.session));
        let session = claims.session;
        if let Some(replaced) = agent.flows.insert(session, Flow { caller, claims }) {
            agent.egress.close_flow(turn.moment, replaced.claims.session, CHANNEL);
        }
        if started {
            let from = Some(Vantage::Egress);
            self.observe(turn, Observation::SessionStarted { session, from });
        }
    }

    /// The egress' answer reaches the entry.
    pub(super) fn flow_opened(
        &mut self,
        turn: &mut Turn<'_>,
        request: u64,
        outcome: Result<(), RefusalCode>,
    ) {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return };
        let waiting = agent.clients.iter_mut().find(|(_, client)| client.request == request);
        let Some((session, client)) = waiting else { return };
        let session = *session;
        client.open = outcome.is_ok();
        let start = client.open.then(|| agent.entry.flow_reached(at, session)).flatten();
        turn.send(Party::Client, Message::Welcome { request, outcome });
        if let Some(start) = start {
            self.tell(turn, start);
        }
        if outcome.is_err() {
            self.leave_session(turn, session, Departure::Clean);
        }
    }

    pub(super) fn client_left(&mut self, turn: &mut Turn<'_>, session: SessionId) {
        let Phase::Working(agent) = &self.phase else { return };
        let Some(client) = agent.clients.get(&session) else { return };
        let egress = client.egress;
        self.tell_node(turn, egress, Message::CloseFlow { session });
        self.leave_session(turn, session, Departure::Clean);
    }

    /// The egress ended the flow by itself.
    pub(super) fn flow_ended(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        reason: EndReason,
    ) {
        let Phase::Working(agent) = &mut self.phase else { return };
        agent.entry.flow_ended(turn.moment, session, reason, 0, 0);
        self.leave_session(turn, session, Departure::Clean);
    }

    fn leave_session(&mut self, turn: &Turn<'_>, session: SessionId, departure: Departure) {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return };
        if agent.clients.remove(&session).is_none() {
            return;
        }
        agent.entry.close_channel(session, CHANNEL);
        if let Some(ended) = agent.entry.detach((turn.moment, at), session, departure) {
            self.tell(turn, ended.word);
        }
    }

    /// Tells all that the entry has to tell up to this word.
    fn tell(&mut self, turn: &Turn<'_>, word: Word) {
        while let Phase::Working(agent) = &mut self.phase
            && let Some((_, observation)) = agent.entry.next_word(word)
        {
            self.observe(turn, observation);
        }
    }

    pub(super) fn close_flow(&mut self, turn: &mut Turn<'_>, session: SessionId) {
        let Phase::Working(agent) = &mut self.phase else { return };
        if agent.flows.remove(&session).is_some() {
            agent.egress.close_flow(turn.moment, session, CHANNEL);
            turn.checkers.admission.closed(agent.id, session);
        }
    }

    /// A newer snapshot: what it does not permit any more is closed before anything else.
    pub(super) fn end_what_is_withdrawn(&mut self, turn: &mut Turn<'_>) {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return };
        let Some((view, _)) = &agent.view else { return };
        let clients: Vec<(SessionId, NodeId, EndReason)> = agent
            .clients
            .iter()
            .filter_map(|(session, client)| {
                let reason = admission::client_must_end(view, &client.claims, at)?;
                Some((*session, client.egress, reason))
            })
            .collect();
        let flows: Vec<(SessionId, NodeId, EndReason)> = agent
            .flows
            .iter()
            .filter_map(|(session, flow)| {
                let reason = admission::flow_must_end(view, Some(&flow.caller), &flow.claims, at)?;
                Some((*session, flow.caller.node, reason))
            })
            .collect();
        for (session, egress, reason) in clients {
            if let Phase::Working(agent) = &mut self.phase {
                agent.entry.decide(session, reason);
            }
            self.tell_node(turn, egress, Message::CloseFlow { session });
            self.leave_session(turn, session, Departure::Clean);
        }
        for (session, entry, reason) in flows {
            self.close_flow(turn, session);
            self.tell_node(turn, entry, Message::FlowEnded { session, reason });
        }
    }

    fn refused(&mut self, turn: &mut Turn<'_>, code: RefusalCode, claimed: Option<Claimed>) {
        turn.note(format_args!("{} refuses: {code}", self.host.name));
        self.observe(turn, Observation::AccessRefused { code, claimed });
    }

    pub(super) fn tell_node(&self, turn: &mut Turn<'_>, node: NodeId, message: Message) {
        if let Some(place) = self.places.get(&node) {
            turn.send(Party::Node(*place), message);
        }
    }
}

fn max_open(claims: &AccessClaims) -> u32 {
    claims.channels.get(&CHANNEL).map_or(0, |grant| grant.max_open)
}
