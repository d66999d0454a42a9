//! The sentence that goes with each refusal code, for the person who reads it.

use rap_proto::{RefusalCode, refusal::Refusal};

/// A refusal with its standard sentence. It names nothing that the receiver may not see.
pub fn refusal(code: RefusalCode) -> Refusal {
    Refusal::new(code, sentence(code))
}

const fn sentence(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Malformed => "the request is not in the expected form",
        RefusalCode::TokenUntrusted => "the access token is not signed by this cluster",
        RefusalCode::TokenExpired => "the access token has expired; ask for a new one",
        RefusalCode::TokenNotYetValid => "the access token is not valid yet; compare the clocks",
        RefusalCode::TokenWrongAudience => "the access token is meant for another node",
        RefusalCode::TokenWrongKey => "the access token is bound to another key",
        RefusalCode::TokenWrongCluster => "the access token is of another cluster or epoch",
        RefusalCode::SessionTerminated => "the session was ended by an administrator",
        RefusalCode::ChannelNotPermitted => "the access token does not permit this channel",
        RefusalCode::AccessDenied => "no policy permits this access, or there is no such resource",
        RefusalCode::RoleNotAssigned => "the node was not assigned the role that this needs",
        RefusalCode::PeerNotTrusted => "the other node is not trusted here",
        RefusalCode::NodeDraining => "the node is being drained; use another",
        RefusalCode::SnapshotBehind => "the node has not yet received the newest configuration",
        RefusalCode::SnapshotStale => "the node has had no new configuration for too long",
        RefusalCode::PathUnavailable => "no path leads to a node that serves the resource",
        RefusalCode::WorkerUnavailable => "the adapter worker is not running; try again shortly",
        RefusalCode::AddressNotAllowed => "the resource's address may not be dialled",
        RefusalCode::TargetUnreachable => "the resource did not answer",
        RefusalCode::TargetRefused => "the resource refused the connection",
        RefusalCode::LimitReached => "a limit was reached",
        RefusalCode::LeaseSuperseded => "another node holds this by now",
        RefusalCode::AuthorityLost => {
            "the node has not heard from a quorum of control for too long"
        }
        RefusalCode::LeaseNotHeld => "nobody can be shown to hold this now; try again shortly",
        RefusalCode::ChannelNotServed => "the node serves no channel of this kind",
        RefusalCode::LaneNotRelayed => "the node relays no flows of this lane",
    }
}

/// Whether the same request could succeed at another node that the token names.
pub const fn worth_trying_elsewhere(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::RoleNotAssigned
            | RefusalCode::PeerNotTrusted
            | RefusalCode::NodeDraining
            | RefusalCode::SnapshotBehind
            | RefusalCode::SnapshotStale
            | RefusalCode::AuthorityLost
            | RefusalCode::LeaseNotHeld
            | RefusalCode::PathUnavailable
            | RefusalCode::WorkerUnavailable
            | RefusalCode::TokenWrongAudience
            | RefusalCode::LimitReached
            | RefusalCode::ChannelNotServed
            | RefusalCode::LaneNotRelayed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_sentence_of_its_own() {
        let mut sentences: Vec<_> = RefusalCode::ALL.iter().map(|code| sentence(*code)).collect();
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!(sentences.len(), RefusalCode::ALL.len());
    }
}
