//! The same small cluster in every process: all keys come from fixed seeds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rap_mesh::{Identity, Sections, View};
use rap_pki::{ClusterAuthority, NodeCertificate};
use rap_proto::{
    AttachmentId, ChannelKind, ClusterId, Lane, MessageId, NodeId, NodeRole, OrganizationId,
    ResourceId, ResourceKind, SessionId, Signer, Timestamp, UserId,
    key::LocalKey,
    signed,
    snapshot::{
        self, Assignment, Manifest, Peer, Peers, Resource, Resources, RoleScope, StalePolicy, Trust,
    },
    token::{AccessClaims, ChannelGrant},
};

const CLUSTER: ClusterId = ClusterId::from_u128(1);
pub(crate) const ORGANIZATION: OrganizationId = OrganizationId::from_u128(2);
const USER: UserId = UserId::from_u128(3);
const RESOURCE: ResourceId = ResourceId::from_u128(4);

pub(crate) const ENTRY: NodeId = NodeId::from_u128(11);
pub(crate) const EGRESS: NodeId = NodeId::from_u128(12);
pub(crate) const RELAY: NodeId = NodeId::from_u128(13);
/// Behind the other one, on a path over both.
pub(crate) const SECOND: NodeId = NodeId::from_u128(14);

/// One entry may have so many streams at one relay that a thousand need several.
pub(crate) const ENTRIES: [NodeId; 8] = [
    ENTRY,
    NodeId::from_u128(21),
    NodeId::from_u128(22),
    NodeId::from_u128(23),
    NodeId::from_u128(24),
    NodeId::from_u128(25),
    NodeId::from_u128(26),
    NodeId::from_u128(27),
];

/// The node's number is what its key is made of.
const OTHERS: [(NodeId, NodeRole); 3] =
    [(EGRESS, NodeRole::StreamWorker), (RELAY, NodeRole::RelayNode), (SECOND, NodeRole::RelayNode)];

/// Channels that one session may have open.
const MAX_OPEN: u32 = 256;

/// Certificates live for long enough for any measurement.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Cluster {
    authority: ClusterAuthority,
    made_at: Timestamp,
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(0))
}

fn key(seed: u8) -> LocalKey {
    LocalKey::from_random(&[seed; 32]).expect("small numbers are valid scalars")
}

pub(crate) fn client_key() -> LocalKey {
    key(3)
}

impl Cluster {
    /// Processes that give the same time get the same cluster, byte for byte.
    pub(crate) fn new(made_at: Timestamp) -> Self {
        Self { authority: ClusterAuthority::create(CLUSTER, &key(1), [1; 16], made_at), made_at }
    }

    pub(crate) fn authority(&self) -> Vec<u8> {
        self.authority.certificate_der().to_vec()
    }

    pub(crate) fn identity(&self, node: NodeId) -> Identity {
        let key = key(seed(node));
        let public = key.public_key();
        let leaf = self.authority.issue_node(&NodeCertificate {
            cluster: CLUSTER,
            node,
            key: &public,
            serial: [2; 16],
            renewal: 0,
            authority_epoch: 1,
            now: self.made_at,
            lifetime: LIFETIME,
        });
        Identity { chain: vec![leaf], key }
    }

    /// The snapshot of `node`, with the addresses that it needs to know.
    pub(crate) fn view(&self, node: NodeId, addresses: &BTreeMap<NodeId, SocketAddr>) -> View {
        let manifest = Manifest {
            cluster: CLUSTER,
            node,
            authority_epoch: 1,
            version: 1,
            issued_at: self.made_at,
            expires_at: self.made_at + LIFETIME,
            stale_policy: StalePolicy::KeepSessions,
            sections: BTreeMap::new(),
        };
        let peers = nodes().filter(|(peer, _)| *peer != node).map(|(peer, role)| Peer {
            node: peer,
            key: key(seed(peer)).public_key().id(),
            roles: vec![everywhere(role)],
            addresses: addresses.get(&peer).copied().into_iter().collect(),
        });
        let sections = Sections {
            assignment: Assignment {
                name: "measured".parse().expect("a plain word"),
                draining: false,
                roles: nodes()
                    .filter(|(own, _)| *own == node)
                    .map(|(_, role)| everywhere(role))
                    .collect(),
                pools: BTreeSet::new(),
            },
            trust: Trust {
                authorities: vec![self.authority().into()],
                control_keys: vec![key(2).public_key()],
                denied_nodes: BTreeSet::new(),
                denied_sessions: BTreeSet::new(),
            },
            peers: Peers { peers: peers.collect() },
            resources: Resources { resources: vec![resource()] },
            bandwidth: Default::default(),
            places: Default::default(),
            paths: Default::default(),
            mesh: Default::default(),
        };
        View::new(&manifest, sections)
    }

    /// The node as others know it that reach it at this address.
    pub(crate) fn peer(&self, node: NodeId, address: SocketAddr) -> Peer {
        let view = self.view(ENTRY, &BTreeMap::from([(node, address)]));
        view.peer(node).expect("it is another than the entry").clone()
    }

    /// A token by the cluster's control key for the session of this number.
    pub(crate) fn token(&self, target: Target, number: u32) -> Vec<u8> {
        let session = target.session(number).uuid().as_u128();
        let lanes = BTreeSet::from([Lane::Interactive, Lane::Bulk]);
        let grant = ChannelGrant { lanes, max_open: MAX_OPEN };
        let claims = AccessClaims {
            id: MessageId::from_u128(session),
            cluster: CLUSTER,
            authority_epoch: 1,
            organization: ORGANIZATION,
            user: USER,
            session: SessionId::from_u128(session),
            attachment: AttachmentId::from_u128(session),
            resource: RESOURCE,
            kind: ResourceKind::Tcp,
            entries: BTreeSet::from(ENTRIES),
            egresses: BTreeMap::from([(EGRESS, 1)]),
            channels: BTreeMap::from([(ChannelKind::Stream, grant)]),
            not_before: now(),
            connect_by: now() + Duration::from_secs(120),
            expires_at: now() + Duration::from_secs(600),
            client_key: client_key().public_key(),
            leased: None,
        };
        signed::seal(&claims, &[&key(2)])
    }
}

/// What the resource does with the channels of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Takes everything, and gives the number of bytes at the end.
    Counts,
    /// Gives back what it gets.
    Echoes,
}

impl Target {
    const FIRST_ECHO: u128 = 1 << 64;

    pub(crate) fn of(session: SessionId) -> Self {
        if session.uuid().as_u128() >= Self::FIRST_ECHO { Self::Echoes } else { Self::Counts }
    }

    fn session(self, number: u32) -> SessionId {
        let first = match self {
            Self::Counts => 0,
            Self::Echoes => Self::FIRST_ECHO,
        };
        SessionId::from_u128(first + u128::from(number))
    }
}

fn nodes() -> impl Iterator<Item = (NodeId, NodeRole)> {
    let entries = ENTRIES.into_iter().map(|entry| (entry, NodeRole::EntryNode));
    entries.chain(OTHERS)
}

fn seed(node: NodeId) -> u8 {
    u8::try_from(node.uuid().as_u128()).expect("nodes have small numbers")
}

fn everywhere(role: NodeRole) -> RoleScope {
    RoleScope { role, organizations: None }
}

fn resource() -> Resource {
    Resource {
        id: RESOURCE,
        organization: ORGANIZATION,
        kind: ResourceKind::Tcp,
        target: snapshot::Target { host: "measured".to_owned(), port: 1, allow_local: true },
        users: BTreeSet::from([USER]),
        carried: None,
    }
}
