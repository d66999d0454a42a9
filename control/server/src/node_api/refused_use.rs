//! The record of who showed a join token in vain.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rap_events::{
    Actor,
    join_token::{self, JoinTokenCommand},
};
use rap_proto::{CommandId, Digest, JoinTokenId, Name, NodeId};

use super::NodeCall;
use crate::{
    clock,
    http::failure::Failure,
    work::{Identity, MAX_CONFLICT_RETRIES, Work},
};

/// How long an answer waits for its record.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// A use of a token that was refused.
pub(super) struct RefusedUse {
    pub(super) token: JoinTokenId,
    pub(super) presented: Digest,
    /// What the host asked to be called.
    pub(super) name: Name,
    /// The node that has the host's key.
    pub(super) known: Option<NodeId>,
}

impl RefusedUse {
    /// Puts the refusal on record. It stands whether or not that works.
    pub(super) async fn record(self, call: &NodeCall) {
        call.app.metrics.count("enrollments", "refused");
        match tokio::time::timeout(RECORD_WAIT, self.append(call)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(?failure, "a refused use is not on record"),
            Err(_) => tracing::warn!("a refused use may not be on record: the log is slow"),
        }
    }

    async fn append(&self, call: &NodeCall) -> Result<(), Failure> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            let mut work = Work::new(Arc::clone(&call.app.log), call.now);
            let mut loaded = work.load::<join_token::JoinToken>(self.token.uuid()).await?;
            let command = JoinTokenCommand::RecordRefusal {
                presented: self.presented.into(),
                name: self.name.clone(),
                key_enrolled: self.known.is_some(),
            };
            // Beyond the token's limit nothing is decided, and then nothing is stored.
            if work.decide(&mut loaded, command)?.is_empty() {
                return Ok(());
            }
            match work.commit(self.identity(call), Bytes::new()).await {
                Err(Failure::Conflict) => {}
                done => return done.map(drop),
            }
        }
        Err(Failure::Conflict)
    }

    /// A key that was enrolled says which node it is; any other host is nobody yet.
    fn identity(&self, call: &NodeCall) -> Identity {
        let nobody = || Actor::System { process: "enrollment".to_owned() };
        Identity {
            command: CommandId::new(call.now, clock::random()),
            request_hash: Digest::of(&call.body),
            actor: self.known.map_or_else(nobody, Actor::Node),
            allowed: None,
            causation: None,
        }
    }
}
