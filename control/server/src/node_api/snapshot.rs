use rap_control_core::NotCompiled;
use rap_proto::{
    Digest, codec, signed,
    snapshot::{Bundle, MAX_SECTIONS},
    wire::node_api::{NodeApiCode, SnapshotRequest},
};
use serde_bytes::ByteBuf;

use super::{NodeAnswer, NodeCall, NodeStop, refusal::Refused};

/// The node's configuration, signed: only the sections that it lacks.
pub(super) fn snapshot(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    let node = call.node()?;
    let request: SnapshotRequest = call.parse()?;
    if request.sections.len() > MAX_SECTIONS {
        return Err(Refused::new(NodeApiCode::Malformed, "too many sections").into());
    }
    if node.version <= request.have {
        return Ok(NodeAnswer::NotModified);
    }
    let compiled = call.app.compile(&call.state, node.id).map_err(|error| {
        tracing::error!(%error, "a snapshot cannot be compiled");
        refused(&error)
    })?;
    let manifest = &compiled.manifest;
    let digest = Digest::of(&codec::encode(manifest));
    call.app.manifests.served.remember(node.id, manifest.version, digest);
    let sections = compiled
        .sections
        .into_iter()
        .filter(|(digest, _)| !request.sections.contains(digest))
        .map(|(_, bytes)| ByteBuf::from(bytes))
        .collect();
    let manifest = signed::seal(&compiled.manifest, &[&*call.app.quick_key]);
    Ok(NodeAnswer::of(&Bundle { manifest, sections }))
}

fn refused(error: &NotCompiled) -> Refused {
    match error {
        NotCompiled::NotApproved(_) => {
            Refused::new(NodeApiCode::NotPermitted, "the node waits for approval")
        }
        NotCompiled::NotBootstrapped => {
            Refused::new(NodeApiCode::Unavailable, "there is no configuration yet")
        }
        NotCompiled::SectionTooLarge { .. } => {
            Refused::everywhere("the configuration is too large")
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;

    use super::*;

    #[test]
    fn a_configuration_that_is_too_large_is_so_at_every_replica() {
        let too_large = NotCompiled::SectionTooLarge { section: "peers", actual: 2, limit: 1 };
        let status = |error: &NotCompiled| refused(error).response().status();
        assert_eq!(status(&too_large), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(&NotCompiled::NotBootstrapped), StatusCode::SERVICE_UNAVAILABLE);
    }
}
