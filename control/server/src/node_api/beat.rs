use rap_proto::wire::node_api::{BeatReply, BeatRequest};

use super::{NodeAnswer, NodeCall, NodeStop};

/// The newest beat, the statement behind it unless the node holds that one, and where else to ask.
pub(super) fn beat(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    call.node()?;
    let request: BeatRequest = call.parse()?;
    let servers = call.app.servers.clone();
    let reply = match call.app.beat.last() {
        None => BeatReply { records_changes: true, servers, ..BeatReply::default() },
        Some(held) => {
            let known = request.statement == Some(held.charter.digest);
            let statement = if known { Vec::new() } else { held.charter.signed.clone() };
            BeatReply { statement, beat: held.envelope.clone(), records_changes: true, servers }
        }
    };
    Ok(NodeAnswer::of(&reply))
}
