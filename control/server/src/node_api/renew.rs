use bytes::Bytes;
use rap_events::node::{self, NodeCommand, NodeEvent};
use rap_pki::csr;
use rap_proto::wire::node_api::{NodeApiCode, RenewRequest};

use super::{NodeAnswer, NodeCall, NodeStop, credentials, refusal::Refused};
use crate::{clock, work::Work};

/// A node replaces its certificate before it expires. When the counter shows that somebody else
/// renewed it too, the identity is locked: nobody can tell which of the two is the right one.
pub(super) async fn renew(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    let node = call.node()?;
    let request: RenewRequest = call.parse()?;
    let malformed = |message: &str| Refused::new(NodeApiCode::Malformed, message);
    let key = csr::public_key(&request.csr).map_err(|error| malformed(&error.to_string()))?;
    if key != node.key {
        return Err(malformed("a renewal keeps its key").into());
    }
    let shown = call.tls.identity.map_or(0, |identity| identity.renewal);
    if request.renewal != shown {
        return Err(malformed("the counter is not that of the certificate in use").into());
    }
    let mut work = Work::new(call.app.log.clone(), call.now);
    let mut loaded = work.load::<node::Node>(node.id.uuid()).await?;
    let command = NodeCommand::RenewCertificate {
        renewal: request.renewal,
        serial: clock::random(),
        expires_at: credentials::expires_at(call.now),
    };
    let events = work.decide(&mut loaded, command)?;
    let copied = events.iter().any(|event| matches!(event, NodeEvent::Revoked(_)));
    if copied {
        work.release(rap_events::keys::node_name(&node.name));
    } else if request.addresses != node.addresses {
        let addresses = request.addresses.clone();
        work.decide(&mut loaded, NodeCommand::ChangeAddresses { addresses })?;
    }
    // Who locks a copied identity takes authority away.
    if !copied {
        call.may_grant()?;
    }
    work.commit(credentials::identity(&call, node), Bytes::new()).await?;
    if copied {
        return Err(Refused::new(
            NodeApiCode::IdentityCopied,
            "two hosts hold this identity; both are locked out",
        )
        .into());
    }
    let issued = credentials::certificate_in(&events)?;
    Ok(NodeAnswer::of(&credentials::credentials(&call, node, &key, &issued)))
}
