//! A node applies only what control signed for it, and never anything older than it applied
//! before, whatever it lost in between.

use std::collections::{BTreeMap, BTreeSet};

use rap_agent_core::snapshot::Snapshot;
use rap_proto::{Digest, NodeId};

use super::Violation;

const NAME: &str = "applied";

#[derive(Debug, Default)]
pub struct Applied {
    /// What control signed: the hash of each manifest, by the node and version in it.
    signed: BTreeSet<(NodeId, u64, Digest)>,
    /// What is signed for a node as a version: one content for each log that has this version.
    contents: BTreeMap<(NodeId, u64, Option<Digest>), Digest>,
    newest: BTreeMap<NodeId, u64>,
}

impl Applied {
    /// Control signed this manifest. It signs one content for each version of a node: the log up to
    /// that position says what is in it. `lineage` tells apart the logs before and after a failover
    /// that lost something.
    pub fn signed(
        &mut self,
        node: NodeId,
        (version, lineage): (u64, Option<Digest>),
        digest: Digest,
    ) -> Result<(), Violation> {
        let known = self.contents.entry((node, version, lineage)).or_insert(digest);
        if *known != digest {
            let detail = format!("control signed two contents as version {version} of {node}");
            return Err(Violation::new(NAME, detail));
        }
        self.signed.insert((node, version, digest));
        Ok(())
    }

    /// The node with this id acts on this snapshot from now.
    pub fn applied(&mut self, node: NodeId, snapshot: &Snapshot) -> Result<(), Violation> {
        let manifest = &snapshot.manifest;
        self.shown(node, manifest.node, (manifest.version, snapshot.digest))
    }

    /// The same of a node that shows which version it acts on, of which node's snapshot.
    pub fn shown(
        &mut self,
        node: NodeId,
        of: NodeId,
        (version, digest): (u64, Digest),
    ) -> Result<(), Violation> {
        if !self.signed.contains(&(node, version, digest)) {
            let detail = format!(
                "{node} applied version {version} of {of}, which control did not sign for it"
            );
            return Err(Violation::new(NAME, detail));
        }
        let newest = self.newest.entry(node).or_default();
        if version < *newest {
            let detail = format!("{node} applied version {version} after {newest}");
            return Err(Violation::new(NAME, detail));
        }
        *newest = version;
        Ok(())
    }

    /// The newest version that the node applied.
    pub fn newest(&self, node: NodeId) -> u64 {
        self.newest.get(&node).copied().unwrap_or(0)
    }
}
