//! What a node says of the tree heads that it saw.

use bytes::Bytes;
use rap_control_core::state::Node;
use rap_events::node::{self, NodeCommand};
use rap_proto::wire::node_api::{NodeApiCode, TreeRequest};
use rap_tlog::{TreeHead, WitnessVerifier};

use super::{NodeCall, NodeStop, credentials, refusal::Refused};
use crate::{
    clock,
    http::{failure::Failure, tree::sign_head},
    work::Work,
};

/// Keeps the cosignature below a head that the log is known to continue. The first one is preceded
/// by the event that names the node's key.
pub(super) async fn keep(
    call: &NodeCall,
    node: &Node,
    request: &TreeRequest,
    head: &TreeHead,
) -> Result<(), NodeStop> {
    let malformed = |what: &'static str| Refused::new(NodeApiCode::Malformed, what);
    let key = <[u8; 32]>::try_from(request.witness.as_slice());
    let key = key.map_err(|_| malformed("not a witness key"))?;
    let verifier = WitnessVerifier::new(node.id, &key);
    let verifier = verifier.map_err(|_| malformed("not a witness key"))?;
    let found = verifier.find(&request.known);
    let Some(found) = found.map_err(|_| malformed("the cosignature does not hold"))? else {
        return Ok(());
    };
    if node.witness_key != Some(key) {
        record(call, node, key).await?;
    }
    // Whichever replica showed the head: it is sealed as soon as a node saw it.
    let (heads, note) = (&call.app.heads, sign_head(&call.app, head));
    heads.seal(head.size, note, clock::now()).await.map_err(Failure::from)?;
    heads.cosign(head.size, node.id, found.line).await.map_err(Failure::from)?;
    call.app.metrics.count("cosignatures", "kept");
    Ok(())
}

async fn record(call: &NodeCall, node: &Node, key: [u8; 32]) -> Result<(), NodeStop> {
    let mut work = Work::new(call.app.log.clone(), call.now);
    let mut loaded = work.load::<node::Node>(node.id.uuid()).await?;
    work.decide(&mut loaded, NodeCommand::RecordWitnessKey { key })?;
    work.commit(credentials::identity(call, node), Bytes::new()).await?;
    Ok(())
}
