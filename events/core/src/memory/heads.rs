use futures_util::future::BoxFuture;
use rap_proto::{NodeId, Timestamp};

use super::{MemoryLog, ready};
use crate::{
    heads::{Heads, SealedHead},
    log::ReadError,
};

impl Heads for MemoryLog {
    fn seal(
        &self,
        size: u64,
        note: Vec<u8>,
        sealed_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        self.state().heads.seal(SealedHead::new(size, note, sealed_at));
        ready(Ok(()))
    }

    fn cosign(
        &self,
        size: u64,
        node: NodeId,
        line: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        self.state().heads.cosign(size, node, line);
        ready(Ok(()))
    }

    fn heads(
        &self,
        below: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SealedHead>, ReadError>> {
        ready(Ok(self.state().heads.newest(below, limit)))
    }
}
