//! Enrollment: a join token and a key become one pending node, whatever is lost or repeated.

use std::time::Duration;

use bytes::Bytes;
use rap_control_core::state::NodeStanding;
use rap_events::{
    Actor, Sensitive,
    handler::{self, ExecuteError, Request, Stop, Unit},
    join_token::{JoinToken, JoinTokenCommand},
    keys,
    node::{CERTIFICATE_MS, Node, NodeCommand},
};
use rap_proto::{CommandId, Digest, JoinTokenId, NodeId, Signer as _, wire::node_api::Credentials};

use super::{Control, at_once};
use crate::{
    cast,
    message::{Enroll, EnrollAnswer, Message},
    mutation::Mutation,
    network::Party,
    turn::{Turn, calendar},
};

impl Control {
    pub(super) fn enroll(&mut self, turn: &mut Turn<'_>, enroll: &Enroll) {
        let node = cast::node_id(&enroll.key);
        let known = self.state().and_then(|state| state.nodes().get(node)).map(|it| it.standing);
        let standing = match known {
            Some(standing) => Some(standing),
            None => match self.request(turn, enroll, node) {
                Some(taken) => taken.then_some(NodeStanding::Pending),
                None => return,
            },
        };
        self.fold(turn);
        let approved = self
            .state()
            .and_then(|state| state.nodes().get(node))
            .is_some_and(|it| it.is_approved());
        let answer = match standing {
            _ if approved => EnrollAnswer::Enrolled(Box::new(self.credentials(turn, node))),
            Some(NodeStanding::Pending) => EnrollAnswer::Pending,
            _ => EnrollAnswer::Refused,
        };
        turn.send(Party::Node(enroll.host), Message::Enrolled(answer));
    }

    /// Whether it is taken; none when the log does not say.
    fn request(&mut self, turn: &mut Turn<'_>, enroll: &Enroll, node: NodeId) -> Option<bool> {
        let Some(token) = self.tokens.get(&enroll.secret).copied() else { return Some(false) };
        let request = Request {
            command: CommandId::from_uuid(node.uuid()),
            request_hash: Digest::of(node.uuid().as_bytes()),
            actor: Actor::Node(node),
            causation: None,
            at: calendar(turn.now),
        };
        let reuse = turn.planted(Mutation::JoinTokenReused);
        let work = |unit| request_node(unit, enroll, token, node, reuse);
        let outcome = at_once(handler::execute(&self.log, &request, work));
        match &outcome {
            Ok(_) => turn.note(format_args!("{} is {node}", enroll.name)),
            Err(error) => turn.note(format_args!("{} is refused: {error}", enroll.name)),
        }
        match outcome {
            Ok(_) => Some(true),
            Err(ExecuteError::Rejected(_) | ExecuteError::Claimed { .. }) => Some(false),
            Err(_) => None,
        }
    }

    fn credentials(&mut self, turn: &Turn<'_>, node: NodeId) -> Credentials {
        let expires_at = calendar(turn.now) + Duration::from_millis(CERTIFICATE_MS);
        let issue = NodeCommand::IssueCertificate { serial: self.chance.bytes(), expires_at };
        // A node that was revoked in this very moment gets one that nobody takes.
        let _ = self.run::<Node>(turn.now, node.uuid(), issue);
        Credentials {
            cluster: cast::CLUSTER,
            node,
            renewal: 1,
            certificates: Vec::new(),
            expires_at,
            control_keys: vec![self.key.public_key()],
            bus: None,
        }
    }
}

async fn request_node(
    mut unit: Unit,
    enroll: &Enroll,
    token: JoinTokenId,
    node: NodeId,
    reuse: bool,
) -> Result<(Unit, Bytes), Stop<String>> {
    let rejected = |text: String| Stop::Rejected(text);
    let failed = Stop::Failed;
    let mut join = unit.load::<JoinToken>(token.uuid()).await.map_err(failed)?;
    if !reuse {
        let presented = Sensitive::new(enroll.secret);
        let used = JoinTokenCommand::Use { presented, node, name: enroll.name.clone() };
        unit.decide(&mut join, used).map_err(|no| rejected(no.to_string()))?;
    }
    let offer = join.state.offer().cloned().ok_or_else(|| rejected("no offer".to_owned()))?;
    let mut loaded = unit.load::<Node>(node.uuid()).await.map_err(failed)?;
    let request = NodeCommand::Request {
        name: enroll.name.clone(),
        key: enroll.key,
        addresses: vec![enroll.address],
        capabilities: std::collections::BTreeSet::new(),
        bus_key: String::new(),
        agent_version: "simulated".to_owned(),
        join_token: token,
        offer,
    };
    unit.decide(&mut loaded, request).map_err(|no| rejected(no.to_string()))?;
    unit.claim(keys::node_name(&enroll.name));
    unit.claim(keys::node_key(&enroll.key.id()));
    Ok((unit, Bytes::new()))
}
