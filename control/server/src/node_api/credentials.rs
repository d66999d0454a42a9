use std::time::Duration;

use rap_control_core::state::Node;
use rap_events::node::{self, CERTIFICATE_MS, CertificateIssued, NodeCommand, NodeEvent};
use rap_pki::NodeCertificate;
use rap_proto::{
    PublicKey, Timestamp,
    wire::node_api::{Credentials, NodeApiCode},
};
use serde_bytes::ByteBuf;

use super::{NodeCall, NodeStop, refusal::Refused};
use crate::{
    clock,
    work::{Identity, Work},
};

/// How long a node's certificate lives.
const CERTIFICATE_LIFETIME: Duration = Duration::from_millis(CERTIFICATE_MS);

/// A certificate that the log knows of, and everything that goes with it.
pub(super) fn credentials(
    call: &NodeCall,
    node: &Node,
    key: &PublicKey,
    issued: &CertificateIssued,
) -> Credentials {
    let custody = &call.app.custody;
    let leaf = custody.authority.issue_node(&NodeCertificate {
        cluster: custody.cluster,
        node: node.id,
        key,
        serial: issued.serial,
        renewal: issued.renewal,
        authority_epoch: call.state.authority().epoch(),
        now: call.now,
        lifetime: issued.expires_at.since(call.now),
    });
    let authority = custody.authority.certificate_der().to_vec();
    let bus = call
        .app
        .bus_issuer
        .as_ref()
        .and_then(|issuer| issuer.issue(node.id, &node.bus_key, call.now, issued.expires_at));
    Credentials {
        cluster: custody.cluster,
        node: node.id,
        renewal: issued.renewal,
        certificates: vec![ByteBuf::from(leaf), ByteBuf::from(authority)],
        expires_at: issued.expires_at,
        control_keys: call.state.cluster().control_keys.clone(),
        bus,
    }
}

/// The first certificate of an approved node, or the first one anew after its last expired.
pub(super) async fn issue(call: &NodeCall, node: &Node) -> Result<Credentials, NodeStop> {
    let mut work = Work::new(call.app.log.clone(), call.now);
    let mut loaded = work.load::<node::Node>(node.id.uuid()).await?;
    let command =
        NodeCommand::IssueCertificate { serial: clock::random(), expires_at: expires_at(call.now) };
    let events = work.try_decide(&mut loaded, command).map_err(|rejection| {
        let message = rejection.to_string();
        Refused::new(NodeApiCode::NotTrusted, &message)
    })?;
    let issued = certificate_in(&events)?;
    call.may_grant()?;
    work.commit(identity(call, node), bytes::Bytes::new()).await?;
    Ok(credentials(call, node, &node.key, &issued))
}

pub(super) fn expires_at(now: Timestamp) -> Timestamp {
    now + CERTIFICATE_LIFETIME
}

pub(super) fn certificate_in(events: &[NodeEvent]) -> Result<CertificateIssued, Refused> {
    events
        .iter()
        .find_map(|event| match event {
            NodeEvent::CertificateIssued(issued) => Some(issued.clone()),
            _ => None,
        })
        .ok_or_else(|| Refused::new(NodeApiCode::Unavailable, "no certificate was decided"))
}

/// Each call of an agent is a command of its own: the aggregate tells repetitions apart.
pub(super) fn identity(call: &NodeCall, node: &Node) -> Identity {
    Identity {
        command: rap_proto::CommandId::new(call.now, clock::random()),
        request_hash: rap_proto::Digest::of(&call.body),
        actor: rap_events::Actor::Node(node.id),
        allowed: None,
        causation: None,
    }
}
