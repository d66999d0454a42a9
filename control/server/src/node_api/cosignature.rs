//! What a node says of the tree heads that it saw.

use bytes::Bytes;
use rap_control_core::state::Node;
use rap_events::node::{self, NodeCommand};
use rap_proto::wire::node_api::{NodeApiCode, TreeRequest};
use rap_tlog::{TreeHead, WitnessVerifier, cosignature::with_lines};

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
    if !holds_below_the_sealed(call, &verifier, head.size, &found.line).await? {
        call.app.metrics.count("cosignatures", "other_text");
        return Ok(());
    }
    heads.cosign(head.size, node.id, found.line).await.map_err(Failure::from)?;
    call.app.metrics.count("cosignatures", "kept");
    Ok(())
}

/// Replicas of two releases sign one head as two texts, with and without its authority epoch, and
/// the first that is sealed stays. A line that was made over the other one would be false below it.
async fn holds_below_the_sealed(
    call: &NodeCall,
    verifier: &WitnessVerifier,
    size: u64,
    line: &[u8],
) -> Result<bool, NodeStop> {
    let newest = call.app.heads.heads(Some(size + 1), 1).await.map_err(Failure::from)?.pop();
    // What was forgotten already takes no line.
    let Some(sealed) = newest.filter(|sealed| sealed.size == size) else { return Ok(true) };
    Ok(matches!(verifier.find(&with_lines(&sealed.note, [line])), Ok(Some(_))))
}

async fn record(call: &NodeCall, node: &Node, key: [u8; 32]) -> Result<(), NodeStop> {
    let mut work = Work::new(call.app.log.clone(), call.now);
    let mut loaded = work.load::<node::Node>(node.id.uuid()).await?;
    work.decide(&mut loaded, NodeCommand::RecordWitnessKey { key })?;
    work.commit(credentials::identity(call, node), Bytes::new()).await?;
    Ok(())
}
