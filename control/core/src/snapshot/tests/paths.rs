//! Who is told what the platform says of paths.

use rap_events::cluster::{Cluster, ClusterCommand};
use rap_proto::{
    paths::{DirectPaths, PathRule, Paths},
    snapshot::StalePolicy,
};

use super::{compile, section, version};
use crate::world::Platform;

#[test]
fn entries_and_egresses_are_told_what_the_platform_says_of_paths_and_nobody_else_is() {
    let mut platform = Platform::new();
    let ends = [platform.entry, platform.acme.egress, platform.globex.egress];
    let cluster = platform.cluster.uuid();
    let relay = version(&platform, platform.relay);
    let forbidden = PathRule { direct: DirectPaths::Forbidden, audited: false };
    let audited = PathRule { audited: true, ..PathRule::default() };
    let when_better = PathRule { direct: DirectPaths::WhenBetter, audited: false };
    for rule in [forbidden, audited, when_better, PathRule::default()] {
        platform.must::<Cluster>(cluster, ClusterCommand::RulePaths { rule });
        for node in ends {
            let told = section::<Paths>(platform.state(), node);
            assert_eq!(told, (rule != PathRule::default()).then_some(Paths { rule }));
            assert_eq!(version(&platform, node), platform.state().position());
        }
        assert_eq!(section::<Paths>(platform.state(), platform.relay), None);
    }
    assert_eq!(version(&platform, platform.relay), relay, "it was not touched");
}

#[test]
fn every_node_is_told_what_becomes_of_sessions_when_it_is_cut_off() {
    let mut platform = Platform::new();
    let nodes = [platform.entry, platform.relay, platform.acme.egress, platform.globex.egress];
    let told =
        |platform: &Platform, node| compile(platform.state(), node).unwrap().manifest.stale_policy;
    for node in nodes {
        assert_eq!(told(&platform, node), StalePolicy::KeepSessions);
    }
    let cluster = platform.cluster.uuid();
    for policy in [StalePolicy::Stop, StalePolicy::KeepSessions] {
        platform.must::<Cluster>(cluster, ClusterCommand::RuleStale { policy });
        for node in nodes {
            assert_eq!(told(&platform, node), policy);
            assert_eq!(version(&platform, node), platform.state().position());
        }
    }
}
