//! Who is told what the platform says of peers and weights.

use rap_events::cluster::{Cluster, ClusterCommand};
use rap_proto::mesh::{ChannelClass, Mesh, MeshRule, Part, PeerCounts, PeerKind};

use super::{section, version};
use crate::world::Platform;

#[test]
fn every_node_is_told_what_the_platform_says_of_the_mesh_and_nothing_while_that_is_nothing() {
    let mut platform = Platform::new();
    let nodes = [platform.entry, platform.relay, platform.acme.egress, platform.globex.egress];
    let cluster = platform.cluster.uuid();
    let counts = PeerCounts { least: 4, most: 8, warm: 12 };
    let peers = MeshRule { peers: [(PeerKind::Normal, counts)].into(), ..MeshRule::default() };
    let latency = [(Part::Latency, 1)].into();
    let weights =
        MeshRule { weights: [(ChannelClass::Bulk, latency)].into(), ..MeshRule::default() };
    for rule in [peers, weights, MeshRule::default()] {
        platform.must::<Cluster>(cluster, ClusterCommand::RuleMesh { rule: rule.clone() });
        let said = Some(Mesh::from(&rule)).filter(|said| !said.is_empty());
        for node in nodes {
            assert_eq!(section::<Mesh>(platform.state(), node), said);
            assert_eq!(version(&platform, node), platform.state().position());
        }
    }
}
