use rap_control_core::tree_head::{self, Succession};
use rap_events::tree::{self, TreeError};
use rap_proto::{
    Signer as _,
    wire::node_api::{NodeApiCode, TreeReply, TreeRequest},
};
use rap_tlog::{TreeHead, VerifierKey};

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
    let mut consistency = Vec::new();
    if let Some(known) = &known {
        let mut succession = tree_head::succession(known, (size, &root), None);
        if succession == Succession::Unproven {
            let proven = tree::prove_consistency(log, known.size, size).await;
            consistency = proven.map_err(unproven)?;
            succession = tree_head::succession(known, (size, &root), Some(&consistency));
        }
        match succession {
            Succession::Refuted(code) => call.app.refute(code, known.size, size),
            _ if request.witness.is_empty() => {}
            _ => cosignature::keep(&call, node, &request, known).await?,
        }
    }
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
    let known = known.map_err(refused)?;
    if known.epoch() > call.app.state().authority().epoch() {
        return Err(Refused::of_later_epoch().into());
    }
    Ok(Some(known))
}

fn unproven(error: TreeError) -> NodeStop {
    match error {
        TreeError::Read(error) => Failure::from(error).into(),
        TreeError::Prove(_) | TreeError::NoSuchTile => {
            Refused::new(NodeApiCode::Unavailable, "the tree is being written").into()
        }
    }
}
