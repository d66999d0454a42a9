use rap_events::tree::{self, TreeError};
use rap_proto::{
    Signer as _,
    observation::LogRefusal,
    wire::node_api::{NodeApiCode, TreeReply, TreeRequest},
};
use rap_tlog::{TreeHead, VerifierKey, proof};

use super::{NodeAnswer, NodeCall, NodeStop, cosignature, refusal::Refused};
use crate::http::{failure::Failure, tree::sign};

/// The newest tree head, and that it grew out of the one that the node presents. What a node
/// presents was signed with this cluster's key: when the log is not a continuation of it, the
/// log was rewritten or restored from too old a copy, and nothing more may be built upon it. When
/// it is, the node's cosignature is kept.
pub(super) async fn tree(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    let node = call.node()?;
    let request: TreeRequest = call.parse()?;
    let known = known(&call, &request)?;
    let log = call.app.log.as_ref();
    let frontier = log.frontier().await.map_err(Failure::from)?;
    let (size, root) = (frontier.size(), frontier.root());
    let consistency = match &known {
        Some(known) if known.size > size => {
            call.app.refute(LogRefusal::Shorter, known.size, size);
            Vec::new()
        }
        Some(known) => {
            let consistency = tree::prove_consistency(log, known.size, size).await;
            let consistency = consistency.map_err(unproven)?;
            let earlier = (known.size, &known.root);
            if proof::check_consistency(&consistency, earlier, (size, &root)).is_err() {
                call.app.refute(LogRefusal::Forked, known.size, size);
            } else if !request.witness.is_empty() {
                cosignature::keep(&call, node, &request, known).await?;
            }
            consistency
        }
        None => Vec::new(),
    };
    Ok(NodeAnswer::of(&TreeReply { head: sign(&call.app, &frontier), consistency }))
}

fn known(call: &NodeCall, request: &TreeRequest) -> Result<Option<TreeHead>, NodeStop> {
    if request.known.is_empty() {
        return Ok(None);
    }
    let custody = &call.app.custody;
    let key = VerifierKey::p256(custody.cluster, custody.control.public_key());
    let known = TreeHead::open(&request.known, custody.cluster, &[key]);
    let refused = |_| Refused::new(NodeApiCode::Malformed, "not a tree head of this log");
    Ok(Some(known.map_err(refused)?))
}

fn unproven(error: TreeError) -> NodeStop {
    match error {
        TreeError::Read(error) => Failure::from(error).into(),
        TreeError::Prove(_) | TreeError::NoSuchTile => {
            Refused::new(NodeApiCode::Unavailable, "the tree is being written").into()
        }
    }
}
