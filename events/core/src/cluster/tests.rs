#![allow(clippy::unwrap_used)]

use rap_proto::{
    PublicKey,
    carriers::CarrierRules,
    mesh::{ChannelClass, MeshFault, MeshRule, PeerCounts, PeerKind},
    paths::PathRule,
    snapshot::StalePolicy,
};

use super::*;
use crate::tests::{
    given::given,
    samples::{
        ALICE, BOB, CLUSTER, bootstrapped, carrier_rules, key, mesh_rule, path_rule, secret,
    },
};

fn bootstrap(keys: Vec<PublicKey>, certificate: Vec<u8>) -> ClusterCommand {
    ClusterCommand::Bootstrap {
        cluster: CLUSTER,
        ca_certificate: certificate,
        control_keys: keys,
        setup_code: secret("setup"),
    }
}

fn complete(code: &str) -> ClusterCommand {
    ClusterCommand::CompleteSetup { presented: secret(code), owner: ALICE }
}

#[test]
fn a_cluster_is_bootstrapped_once() {
    let command = bootstrap(vec![key(1)], vec![0x30, 0x82]);
    given::<Cluster>([]).when(command.clone()).then([bootstrapped().into()]);
    given::<Cluster>([bootstrapped().into()])
        .when(command)
        .rejected(ClusterRejection::AlreadyBootstrapped);
    let rule = ClusterCommand::RuleCarriers { carriers: carrier_rules() };
    let paths = ClusterCommand::RulePaths { rule: path_rule() };
    let mesh = ClusterCommand::RuleMesh { rule: mesh_rule() };
    let stale = ClusterCommand::RuleStale { policy: StalePolicy::Stop };
    for command in [complete("setup"), ClusterCommand::RenewSnapshots, rule, paths, mesh, stale] {
        given::<Cluster>([]).when(command).rejected(ClusterRejection::NotBootstrapped);
    }
}

#[test]
fn a_bootstrap_keeps_the_limits() {
    let keys = |count: usize| (1..=count).map(|n| key(n as u8)).collect::<Vec<_>>();
    let decide = |keys, bytes: usize| given::<Cluster>([]).when(bootstrap(keys, vec![0; bytes]));
    decide(keys(0), 9).rejected(ClusterRejection::ControlKeyCount);
    decide(keys(MAX_CONTROL_KEYS + 1), 9).rejected(ClusterRejection::ControlKeyCount);
    decide(keys(1), 0).rejected(ClusterRejection::CertificateSize);
    decide(keys(1), MAX_CERTIFICATE_BYTES + 1).rejected(ClusterRejection::CertificateSize);

    let full = ClusterBootstrapped { control_keys: keys(MAX_CONTROL_KEYS), ..bootstrapped() };
    let add = |key| ClusterCommand::AddControlKey { key };
    given::<Cluster>([full.clone().into()]).when(add(key(1))).nothing();
    given::<Cluster>([full.into()]).when(add(key(99))).rejected(ClusterRejection::ControlKeyCount);
    let added = ControlKeyAdded { key: key(99) };
    let state = given::<Cluster>([bootstrapped().into()]).when(add(key(99))).then([added.into()]);
    assert_eq!(state.control_keys, [key(1), key(99)]);
}

#[test]
fn the_setup_code_works_once() {
    let completed = SetupCompleted { owner: ALICE };
    let state = given::<Cluster>([bootstrapped().into()])
        .when(complete("setup"))
        .then([completed.clone().into()]);
    assert_eq!((state.owner, state.setup_code), (Some(ALICE), None));

    given::<Cluster>([bootstrapped().into()])
        .when(complete("guess"))
        .rejected(ClusterRejection::WrongSetupCode);
    let again = ClusterCommand::CompleteSetup { presented: secret("setup"), owner: BOB };
    for command in [again, ClusterCommand::ReplaceSetupCode { setup_code: secret("new") }] {
        given::<Cluster>([bootstrapped().into(), completed.clone().into()])
            .when(command)
            .rejected(ClusterRejection::SetupAlreadyCompleted);
    }
}

#[test]
fn a_replaced_setup_code_is_worthless() {
    let replaced = SetupCodeReplaced { setup_code: secret("new") };
    given::<Cluster>([bootstrapped().into()])
        .when(ClusterCommand::ReplaceSetupCode { setup_code: secret("new") })
        .then([replaced.clone().into()]);
    let events: [ClusterEvent; 2] = [bootstrapped().into(), replaced.into()];
    given::<Cluster>(events.clone())
        .when(complete("setup"))
        .rejected(ClusterRejection::WrongSetupCode);
    given::<Cluster>(events).when(complete("new")).then([SetupCompleted { owner: ALICE }.into()]);
}

#[test]
fn snapshots_are_renewed_each_time() {
    given::<Cluster>([bootstrapped().into()])
        .when(ClusterCommand::RenewSnapshots)
        .then([SnapshotsRenewed {}.into()]);
}

#[test]
fn all_carrier_rules_are_ruled_at_once_and_the_same_ones_once() {
    let rule = |carriers| ClusterCommand::RuleCarriers { carriers };
    let ruled = ClusterCarriersRuled { carriers: carrier_rules() };
    let state = given::<Cluster>([bootstrapped().into()])
        .when(rule(carrier_rules()))
        .then([ruled.clone().into()]);
    assert_eq!(state.carriers, carrier_rules());
    let before: [ClusterEvent; 2] = [bootstrapped().into(), ruled.into()];
    given::<Cluster>(before.clone()).when(rule(carrier_rules())).nothing();
    let none = CarrierRules::default();
    let taken_back = ClusterCarriersRuled { carriers: none };
    let state = given::<Cluster>(before).when(rule(none)).then([taken_back.into()]);
    assert!(state.carriers.is_empty());
}

#[test]
fn paths_are_ruled_at_once_and_the_same_rule_once() {
    let ruled = PathsRuled { rule: path_rule() };
    let command = |rule| ClusterCommand::RulePaths { rule };
    let state = given::<Cluster>([bootstrapped().into()])
        .when(command(path_rule()))
        .then([ruled.clone().into()]);
    assert_eq!(state.paths, path_rule());
    let before: [ClusterEvent; 2] = [bootstrapped().into(), ruled.into()];
    given::<Cluster>(before.clone()).when(command(path_rule())).nothing();
    let rule = PathRule::default();
    let state = given::<Cluster>(before).when(command(rule)).then([PathsRuled { rule }.into()]);
    assert_eq!(state.paths, rule, "as in the beginning");
}

#[test]
fn what_becomes_of_sessions_at_stale_nodes_is_ruled_at_once_and_the_same_once() {
    let ruled = |policy| ClusterEvent::from(StaleRuled { policy });
    let command = |policy| ClusterCommand::RuleStale { policy };
    let (keep, stop) = (StalePolicy::KeepSessions, StalePolicy::Stop);
    given::<Cluster>([bootstrapped().into()]).when(command(keep)).nothing();
    let state = given::<Cluster>([bootstrapped().into()]).when(command(stop)).then([ruled(stop)]);
    assert_eq!(state.stale, stop);
    let before = [bootstrapped().into(), ruled(stop)];
    given::<Cluster>(before.clone()).when(command(stop)).nothing();
    let state = given::<Cluster>(before).when(command(keep)).then([ruled(keep)]);
    assert_eq!(state.stale, keep, "as in the beginning");
}

#[test]
fn the_mesh_is_ruled_at_once_and_the_same_rule_once() {
    let ruled = MeshRuled { rule: mesh_rule() };
    let command = |rule| ClusterCommand::RuleMesh { rule };
    let state = given::<Cluster>([bootstrapped().into()])
        .when(command(mesh_rule()))
        .then([ruled.clone().into()]);
    assert_eq!(state.mesh, mesh_rule());
    let before: [ClusterEvent; 2] = [bootstrapped().into(), ruled.into()];
    given::<Cluster>(before.clone()).when(command(mesh_rule())).nothing();
    let rule = MeshRule::default();
    let taken_back = MeshRuled { rule: rule.clone() };
    let state = given::<Cluster>(before).when(command(rule.clone())).then([taken_back.into()]);
    assert_eq!(state.mesh, rule, "as in the beginning");
}

#[test]
fn a_rule_of_the_mesh_that_is_out_of_bounds_is_refused_whatever_else_it_says() {
    let counts = PeerCounts { least: 3, most: 21, warm: 8 };
    let mut rule = MeshRule { peers: [(PeerKind::Relay, counts)].into(), ..mesh_rule() };
    let refused = |rule: &MeshRule, fault| {
        given::<Cluster>([bootstrapped().into()])
            .when(ClusterCommand::RuleMesh { rule: rule.clone() })
            .rejected(ClusterRejection::MeshRuleUnsound(fault));
    };
    refused(&rule, MeshFault::Most(PeerKind::Relay));
    rule.peers.clear();
    rule.weights.insert(ChannelClass::Media, [].into());
    refused(&rule, MeshFault::NoWeight(ChannelClass::Media));
}
