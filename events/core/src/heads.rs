//! Sealed tree heads: what the log had come to, moment by moment, and who co-signed it.
//!
//! A head follows from the log and the control key, so none of this is authority. What does not
//! follow from anything is that a node saw it: that is kept here.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use rap_proto::{NodeId, Timestamp};
use rap_tlog::cosignature::{MAX_COSIGNATURES, with_lines};

use crate::log::ReadError;

/// How many sealed heads are kept; the oldest go first, with their cosignatures.
pub const MAX_SEALED_HEADS: usize = 4_096;
/// The most heads that one read returns, whatever limit was asked for.
pub const MAX_READ_HEADS: usize = 100;

/// A tree head as control signed it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedHead {
    pub size: u64,
    /// The signed note, without cosignatures.
    pub note: Vec<u8>,
    pub sealed_at: Timestamp,
    /// The lines of at most [`MAX_COSIGNATURES`] nodes.
    pub cosignatures: BTreeMap<NodeId, Vec<u8>>,
}

/// Where sealed heads are kept.
pub trait Heads: Send + Sync {
    /// Keeps a head. One of the same size that is there already stays.
    fn seal(
        &self,
        size: u64,
        note: Vec<u8>,
        sealed_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Keeps a node's cosignature of a sealed head, in the place of its older one. It is left
    /// out when the head has gone, or has enough of them.
    fn cosign(
        &self,
        size: u64,
        node: NodeId,
        line: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Sealed heads below `below`, or all, the newest first, at most `limit` and at most
    /// [`MAX_READ_HEADS`] of them.
    fn heads(
        &self,
        below: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SealedHead>, ReadError>>;
}

impl SealedHead {
    pub fn new(size: u64, note: Vec<u8>, sealed_at: Timestamp) -> Self {
        Self { size, note, sealed_at, cosignatures: BTreeMap::new() }
    }

    /// The note with all cosignatures.
    pub fn checkpoint(&self) -> Vec<u8> {
        with_lines(&self.note, self.cosignatures.values().map(Vec::as_slice))
    }

    /// Takes a cosignature in, unless there are enough.
    pub fn cosign(&mut self, node: NodeId, line: Vec<u8>) {
        if self.cosignatures.len() < MAX_COSIGNATURES || self.cosignatures.contains_key(&node) {
            self.cosignatures.insert(node, line);
        }
    }
}

/// Sealed heads in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryHeads(BTreeMap<u64, SealedHead>);

impl MemoryHeads {
    pub(crate) fn seal(&mut self, head: SealedHead) {
        self.0.entry(head.size).or_insert(head);
        while self.0.len() > MAX_SEALED_HEADS {
            self.0.pop_first();
        }
    }

    pub(crate) fn cosign(&mut self, size: u64, node: NodeId, line: Vec<u8>) {
        if let Some(head) = self.0.get_mut(&size) {
            head.cosign(node, line);
        }
    }

    pub(crate) fn newest(&self, below: Option<u64>, limit: usize) -> Vec<SealedHead> {
        let heads = self.0.range(..below.unwrap_or(u64::MAX)).rev();
        heads.take(limit.min(MAX_READ_HEADS)).map(|(_, head)| head.clone()).collect()
    }
}
