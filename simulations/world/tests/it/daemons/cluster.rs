//! The cluster's CA, its nodes' keys, and the state directories that enrollment leaves.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use rap_agent_core::{
    disk::StateFile,
    record::{self, Enrollment, HeldCredentials},
    snapshot::Floor,
    standing::Standing,
};
use rap_bus::BusKey;
use rap_pki::{ClusterAuthority, NodeCertificate, tls::Identity};
use rap_proto::{
    NodeId, PublicKey, Signer as _, Timestamp, key::LocalKey, wire::node_api::Credentials,
};
use rap_simulations::cast::{self, CLUSTER, Host, Places};

use super::ground::today;
use crate::meshes::cluster::BEGUN;

/// Where every node listens.
const PORT: u16 = 443;
/// Certificates are judged by the machine's calendar, and said to end in the simulation's: they are
/// good in both.
const LASTS: Duration = Duration::from_secs(5 * 365 * 86_400);
const BACK: Duration = Duration::from_secs(86_400);

pub(crate) struct Cluster {
    pub(crate) authority: ClusterAuthority,
    pub(super) hosts: Vec<Host>,
    addresses: Vec<IpAddr>,
    begun: Timestamp,
}

fn key(place: usize) -> LocalKey {
    LocalKey::from_random(&[u8::try_from(20 + place).unwrap(); 32]).unwrap()
}

impl Cluster {
    /// Of these hosts, each with its address.
    pub(super) fn new(hosts: Vec<Host>, addresses: Vec<IpAddr>) -> Self {
        let begun = *BEGUN;
        let ca = LocalKey::from_random(&[1; 32]).unwrap();
        let authority = ClusterAuthority::create(CLUSTER, &ca, [1; 16], begun);
        Self { authority, hosts, addresses, begun }
    }

    pub(super) fn name(&self, place: usize) -> &str {
        self.hosts[place].name.as_str()
    }

    pub(super) fn key(&self, place: usize) -> PublicKey {
        key(place).public_key()
    }

    pub(crate) fn node(&self, place: usize) -> NodeId {
        cast::node_id(&self.key(place))
    }

    pub(crate) fn address(&self, place: usize) -> SocketAddr {
        SocketAddr::new(self.addresses[place], PORT)
    }

    pub(crate) fn places(&self) -> Places {
        (0..self.hosts.len()).map(|place| (self.node(place), place)).collect()
    }

    /// What control presents.
    pub(super) fn server(&self) -> Identity {
        let key = LocalKey::from_random(&[2; 32]).unwrap();
        let (names, public) = (["control".to_owned()], key.public_key());
        let leaf =
            self.authority.issue_server(&names, &public, [2; 16], self.begun, LASTS).unwrap();
        Identity { chain: vec![leaf, self.authority.certificate_der().to_vec()], key }
    }

    /// Fills a state directory as `join` does.
    pub(super) fn join(&self, place: usize, control_keys: Vec<PublicKey>, root: &Path) {
        let (node, key) = (self.node(place), key(place));
        let public = key.public_key();
        let leaf = self.authority.issue_node(&NodeCertificate {
            cluster: CLUSTER,
            node,
            key: &public,
            serial: [7; 16],
            renewal: 1,
            authority_epoch: 1,
            now: self.begun,
            lifetime: LASTS,
        });
        let ca = self.authority.certificate_der().to_vec();
        let credentials = Credentials {
            cluster: CLUSTER,
            node,
            renewal: 1,
            certificates: vec![leaf.into(), ca.into()],
            expires_at: today() + BACK,
            control_keys,
            bus: None,
        };
        let enrollment = Enrollment {
            control: "https://control".to_owned(),
            ca: self.authority.fingerprint(),
            name: self.hosts[place].name.clone(),
            addresses: vec![self.address(place)],
            node: Some(node),
            cluster: Some(CLUSTER),
        };
        let held = HeldCredentials { obtained_at: today(), credentials };
        let bus_key = BusKey::from_random([3; 32]);
        let write = |file: StateFile, bytes: &[u8]| {
            fs::write(root.join(file.path()), bytes).unwrap();
        };
        write(StateFile::IdentityKey, key.to_pem().as_bytes());
        write(StateFile::BusKey, bus_key.seed().as_bytes());
        write(StateFile::Enrollment, &record::encode(&enrollment));
        write(StateFile::Floor, &record::encode(&Floor::nothing()));
        write(StateFile::Standing, &record::encode(&Standing::Good));
        write(StateFile::Credentials, &record::encode(&held));
    }
}

pub(super) fn state_dir(below: &Path, place: usize) -> PathBuf {
    let path = below.join(place.to_string());
    fs::create_dir(&path).unwrap();
    path
}
