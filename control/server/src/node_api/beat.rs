use rap_proto::wire::node_api::{BeatReply, BeatRequest};

use super::{NodeAnswer, NodeCall, NodeStop};

/// The newest beat, and the statement behind it unless the node holds that one.
pub(super) fn beat(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    call.node()?;
    let request: BeatRequest = call.parse()?;
    let reply = match call.app.beat.last() {
        None => BeatReply { statement: Vec::new(), beat: Vec::new(), records_changes: true },
        Some(held) => {
            let known = request.statement == Some(held.charter.digest);
            let statement = if known { Vec::new() } else { held.charter.signed.clone() };
            BeatReply { statement, beat: held.envelope.clone(), records_changes: true }
        }
    };
    Ok(NodeAnswer::of(&reply))
}
