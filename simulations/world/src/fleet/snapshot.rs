//! What control tells a node: the real view of a snapshot, without the signatures around it.

use std::{collections::BTreeSet, sync::Arc};

use rap_mesh_core::{Sections, View};
use rap_proto::{
    Name, NodeRole, Timestamp,
    bandwidth::Bandwidth,
    mesh::Mesh,
    snapshot::{Assignment, Manifest, Peer, Peers, Place, Places, Resources, StalePolicy, Trust},
};

use super::{
    node::{CLUSTER, id_of, key_of},
    scope::Scope,
};

const NAME: &str = "simulated";
/// Nobody's snapshot ends in this scenario.
const UNTIL: Timestamp = Timestamp::from_unix_millis(i64::MAX);

/// One machine, as a snapshot tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub index: usize,
    pub role: NodeRole,
    pub scope: Scope,
    pub region: usize,
}

impl Told {
    fn place(self) -> Place {
        let region = region_name(self.region);
        Place { region, ..Place::default() }
    }

    fn peer(self) -> Peer {
        Peer {
            node: id_of(self.index),
            key: key_of(self.index),
            roles: vec![self.scope.of_role(self.role)],
            addresses: vec![([192, 0, 2, 1], 4433).into()],
        }
    }
}

/// The view of `own`, which is told of these peers and what the platform says of the mesh.
pub fn view(
    own: Told,
    version: u64,
    mesh: Mesh,
    peers: impl IntoIterator<Item = Told>,
) -> Arc<View> {
    let manifest = Manifest {
        cluster: CLUSTER,
        node: id_of(own.index),
        authority_epoch: 1,
        version,
        issued_at: Timestamp::default(),
        expires_at: UNTIL,
        stale_policy: StalePolicy::KeepSessions,
        sections: Default::default(),
    };
    let assignment = Assignment {
        name: NAME.parse().expect("a plain word"),
        draining: false,
        roles: vec![own.scope.of_role(own.role)],
        pools: BTreeSet::new(),
    };
    let trust = Trust {
        authorities: Vec::new(),
        control_keys: Vec::new(),
        denied_nodes: BTreeSet::new(),
        denied_sessions: BTreeSet::new(),
    };
    let peers: Vec<Told> = peers.into_iter().collect();
    let placed = peers.iter().chain([&own]).map(|told| (id_of(told.index), told.place()));
    let sections = Sections {
        assignment,
        trust,
        places: Places { nodes: placed.collect() },
        paths: Default::default(),
        mesh,
        peers: Peers { peers: peers.iter().map(|told| told.peer()).collect() },
        resources: Resources::default(),
        bandwidth: Bandwidth::default(),
    };
    Arc::new(View::new(&manifest, sections))
}

fn region_name(region: usize) -> Option<Name> {
    format!("r{region}-a").parse().ok()
}
