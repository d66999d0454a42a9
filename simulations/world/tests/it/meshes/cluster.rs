//! A cluster of four nodes: its CA, its control key, and the snapshot that each node has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rap_mesh::{Identity, Sections, View};
use rap_pki::{ClusterAuthority, NodeCertificate};
use rap_proto::{
    AttachmentId, ChannelKind, ClusterId, Lane, MessageId, NodeId, NodeRole, OrganizationId,
    ResourceId, ResourceKind, SessionId, Signer as _, Timestamp, UserId,
    bandwidth::Bandwidth,
    key::LocalKey,
    signed,
    snapshot::{
        Assignment, Manifest, Peer, Peers, Places, Resource, Resources, RoleScope, StalePolicy,
        Target, Trust,
    },
    token::{AccessClaims, CONNECT_TTL_MS, ChannelGrant, GRANT_TTL_MS},
};

pub(super) const ENTRY: NodeId = NodeId::from_u128(0xe1);
pub(super) const EGRESS: NodeId = NodeId::from_u128(0xe2);
pub(super) const RELAYS: [NodeId; 2] = [NodeId::from_u128(0xa1), NodeId::from_u128(0xa2)];
/// Where every node listens.
pub(super) const PORT: u16 = 443;

const CLUSTER: ClusterId = ClusterId::from_u128(0xc1);
const ORGANIZATION: OrganizationId = OrganizationId::from_u128(0x01);
const USER: UserId = UserId::from_u128(0x05);
const RESOURCE: ResourceId = ResourceId::from_u128(0x4e);
const VERSION: u64 = 10;
/// Nothing expires in a run.
const LASTS: Duration = Duration::from_secs(3_600);

pub(super) struct Cluster {
    authority: ClusterAuthority,
    control: LocalKey,
    addresses: BTreeMap<NodeId, IpAddr>,
    begun: Timestamp,
}

fn key(seed: u8) -> LocalKey {
    LocalKey::from_random(&[seed; 32]).unwrap()
}

fn key_of(node: NodeId) -> LocalKey {
    key(match node {
        ENTRY => 10,
        EGRESS => 11,
        relay if relay == RELAYS[0] => 12,
        _ => 13,
    })
}

pub(super) fn client_key() -> LocalKey {
    key(77)
}

/// The same for all runs, so that their certificates are equal.
pub(crate) static BEGUN: LazyLock<Timestamp> = LazyLock::new(today);

/// Certificates and tokens are judged by the machine's clock: no simulation has a say in that.
pub(crate) fn today() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap())
}

fn roles(node: NodeId) -> Vec<RoleScope> {
    let own = Some(BTreeSet::from([ORGANIZATION]));
    let (role, organizations) = match node {
        ENTRY => (NodeRole::EntryNode, own),
        EGRESS => (NodeRole::StreamWorker, own),
        _ => (NodeRole::RelayNode, None),
    };
    vec![RoleScope { role, organizations }]
}

impl Cluster {
    pub(super) fn found(addresses: BTreeMap<NodeId, IpAddr>) -> Self {
        let begun = *BEGUN;
        let authority = ClusterAuthority::create(CLUSTER, &key(1), [1; 16], begun);
        Self { authority, control: key(2), addresses, begun }
    }

    pub(super) fn authority(&self) -> Vec<u8> {
        self.authority.certificate_der().to_vec()
    }

    pub(super) fn address(&self, node: NodeId) -> SocketAddr {
        SocketAddr::new(self.addresses[&node], PORT)
    }

    pub(super) fn identity(&self, node: NodeId) -> Identity {
        let key = key_of(node);
        let public = key.public_key();
        let leaf = self.authority.issue_node(&NodeCertificate {
            cluster: CLUSTER,
            node,
            key: &public,
            serial: [7; 16],
            renewal: 0,
            authority_epoch: 1,
            now: self.begun,
            lifetime: LASTS,
        });
        Identity { chain: vec![leaf], key }
    }

    pub(super) fn view(&self, node: NodeId) -> View {
        let manifest = Manifest {
            cluster: CLUSTER,
            node,
            authority_epoch: 1,
            version: VERSION,
            issued_at: self.begun,
            expires_at: self.begun + LASTS,
            stale_policy: StalePolicy::KeepSessions,
            sections: BTreeMap::new(),
        };
        let assignment = Assignment {
            name: "node".parse().unwrap(),
            draining: false,
            roles: roles(node),
            pools: BTreeSet::new(),
        };
        let trust = Trust {
            authorities: vec![self.authority().into()],
            control_keys: vec![self.control.public_key()],
            denied_nodes: BTreeSet::new(),
            denied_sessions: BTreeSet::new(),
        };
        let resources = if node == EGRESS { vec![resource()] } else { Vec::new() };
        View::new(
            &manifest,
            Sections {
                assignment,
                trust,
                peers: self.peers_of(node),
                resources: Resources { resources },
                bandwidth: Bandwidth::default(),
                places: Places::default(),
                paths: Default::default(),
                mesh: Default::default(),
            },
        )
    }

    /// An egress that knew relays would keep itself reachable there.
    fn peers_of(&self, node: NodeId) -> Peers {
        let known = |peer: NodeId| peer != node && !(node == EGRESS && RELAYS.contains(&peer));
        let peers = self.addresses.keys().filter(|peer| known(**peer)).map(|peer| Peer {
            node: *peer,
            key: key_of(*peer).public_key().id(),
            roles: roles(*peer),
            addresses: vec![self.address(*peer)],
        });
        Peers { peers: peers.collect() }
    }

    /// An access token for the client's key and a byte stream on each lane.
    pub(super) fn token(&self) -> Vec<u8> {
        let lanes = Lane::ALL.iter().copied().collect();
        self.token_for(BTreeMap::from([(ChannelKind::Stream, ChannelGrant { lanes, max_open: 1 })]))
    }

    /// The same for these channels.
    pub(super) fn token_for(&self, channels: BTreeMap<ChannelKind, ChannelGrant>) -> Vec<u8> {
        let now = today();
        let claims = AccessClaims {
            id: MessageId::from_u128(1),
            cluster: CLUSTER,
            authority_epoch: 1,
            organization: ORGANIZATION,
            user: USER,
            session: SessionId::from_u128(0x5e),
            attachment: AttachmentId::from_u128(1),
            resource: RESOURCE,
            kind: ResourceKind::Tcp,
            entries: BTreeSet::from([ENTRY]),
            egresses: BTreeMap::from([(EGRESS, VERSION)]),
            channels,
            not_before: now,
            connect_by: now + Duration::from_millis(CONNECT_TTL_MS),
            expires_at: now + Duration::from_millis(GRANT_TTL_MS),
            client_key: client_key().public_key(),
            leased: None,
        };
        signed::seal(&claims, &[&self.control])
    }
}

/// The egress answers itself: see `hosts::Resource`.
fn resource() -> Resource {
    Resource {
        id: RESOURCE,
        organization: ORGANIZATION,
        kind: ResourceKind::Tcp,
        target: Target { host: "127.0.0.1".to_owned(), port: 7, allow_local: true },
        users: BTreeSet::from([USER]),
        carried: None,
    }
}
