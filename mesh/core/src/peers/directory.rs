//! The directory: whom the newest snapshot lets a node speak with. Nothing else makes a peer.

use std::net::SocketAddr;

use rap_proto::{
    ClusterId, KeyId, LaneSet, Moment, Name, NodeId, NodeRole, Preference, Timestamp,
    snapshot::{Peer as SnapshotPeer, RoleScope, StalePolicy},
};

use super::{Class, PeerBook, cache::KeptPeer, peer::Peer, places::scopes_by_rank, spread::place};
use crate::{View, score::candidate::preference};

/// The most peers that one node looks after. Of more it takes the relays first, then others by a
/// rank that differs from node to node.
pub const MAX_PEERS: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub cluster: ClusterId,
    pub own: NodeId,
    pub own_roles: Vec<RoleScope>,
    pub region: Option<Name>,
    pub authority_epoch: u64,
    pub version: u64,
    /// Whether the node may go on without anybody that it reaches.
    pub stale_policy: StalePolicy,
    pub listed: Vec<Listed>,
}

/// One node of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub node: NodeId,
    pub key: KeyId,
    pub roles: Vec<RoleScope>,
    pub addresses: Vec<SocketAddr>,
    pub region: Option<Name>,
    pub preference: Preference,
    pub relayed_lanes: LaneSet,
}

impl Directory {
    /// The peers of a view, without those that it denies and without the node itself.
    pub fn of_view(view: &View) -> Self {
        let listed = |peer: &SnapshotPeer| {
            let place = view.place(peer.node);
            Listed {
                node: peer.node,
                key: peer.key,
                roles: peer.roles.clone(),
                addresses: peer.addresses.clone(),
                region: place.and_then(|place| place.region.clone()),
                preference: place.map(preference).unwrap_or_default(),
                relayed_lanes: view.relayed_lanes(peer.node),
            }
        };
        Self {
            cluster: view.cluster,
            own: view.node,
            own_roles: view.assignment.roles.clone(),
            region: view.region().cloned(),
            authority_epoch: view.authority_epoch,
            version: view.version,
            stale_policy: view.stale_policy,
            listed: view.peers().filter(|peer| peer.node != view.node).map(listed).collect(),
        }
    }

    fn bounded(mut self) -> Self {
        if self.listed.len() <= MAX_PEERS {
            return self;
        }
        let is_relay =
            |listed: &Listed| listed.roles.iter().any(|scope| scope.role == NodeRole::RelayNode);
        let own = self.own;
        self.listed.sort_by_key(|listed| {
            (!is_relay(listed), place(own, listed.node.uuid().as_u64_pair()))
        });
        self.listed.truncate(MAX_PEERS);
        self
    }
}

impl PeerBook {
    pub(super) fn take_up(&mut self, now: Moment, directory: Directory) {
        let directory = directory.bounded();
        let first = self.directory.is_none();
        let newer = self.directory.as_ref().is_none_or(|held| held.version < directory.version);
        self.drop_unlisted(now, &directory);
        for listed in &directory.listed {
            self.list(now, &directory, listed);
        }
        self.scopes = scopes_by_rank(&directory);
        self.directory = Some(directory);
        if first {
            // Spread from the start: a whole fleet may have started at once.
            self.review_at = now + self.spread.around(super::REVIEW / 2, 50);
            self.refresh_at = now + self.spread.around(self.policy.refresh, 20);
        }
        if newer {
            self.look_again(now);
        }
        self.changed(now);
    }

    fn drop_unlisted(&mut self, now: Moment, directory: &Directory) {
        let named: std::collections::BTreeMap<NodeId, KeyId> =
            directory.listed.iter().map(|listed| (listed.node, listed.key)).collect();
        let gone: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(node, peer)| {
                named.get(*node) != Some(&peer.key) || peer.candidate.cluster != directory.cluster
            })
            .map(|(node, _)| *node)
            .collect();
        for node in gone {
            self.set_class(now, node, Class::Cold);
            self.asked.remove(&node);
            self.peers.remove(&node);
        }
    }

    fn list(&mut self, now: Moment, directory: &Directory, listed: &Listed) {
        if let Some(peer) = self.peers.get_mut(&listed.node) {
            peer.list(directory, listed);
            return;
        }
        let mut peer = Peer::new(directory, listed);
        let kept = self
            .kept
            .remove(&listed.node)
            .filter(|kept| kept.cluster_id == directory.cluster && kept.fingerprint == listed.key);
        let was_well = kept.is_some_and(|kept| peer.restore(&kept));
        self.peers.insert(listed.node, peer);
        if was_well && self.warm.len() < self.policy.counts.most_warm {
            self.set_class(now, listed.node, Class::Warm);
        }
    }

    /// What of the peers is kept on disk: the ones that ever answered, the best first.
    pub(super) fn keep(&self) -> Vec<KeptPeer> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let mut kept: Vec<(Class, std::cmp::Reverse<Option<Timestamp>>, NodeId)> = self
            .peers
            .values()
            .filter(|peer| peer.last_success_at.is_some())
            .map(|peer| (peer.class, std::cmp::Reverse(peer.last_success_at), peer.candidate.node))
            .collect();
        kept.sort_unstable();
        kept.truncate(super::cache::MAX_KEPT);
        let version = directory.version;
        kept.into_iter().map(|(.., node)| self.peers[&node].keep(version)).collect()
    }
}
