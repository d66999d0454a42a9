use std::{fs, path::PathBuf};

use rap_proto::{ClusterId, Duty, NodeId, OrganizationId, UserId};

use super::samples::{ACME, ALICE, BOB, EGRESS, ENTRY, GLOBEX, key, name};
use crate::{keys, log::MAX_KEY_BYTES};

#[test]
fn keys_differ_by_kind_organization_and_name() {
    let longest = name(&"n".repeat(63));
    let all = [
        keys::organization_name(&longest),
        keys::user_name(&longest),
        keys::node_name(&longest),
        keys::node_key(&key(1).id()),
        keys::pool_name(ACME, &longest),
        keys::pool_name(GLOBEX, &longest),
        keys::resource_name(ACME, &longest),
        keys::policy_name(ACME, &longest),
        keys::subject_key(ALICE),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert!(all.iter().all(|key| key.len() <= MAX_KEY_BYTES));
}

#[test]
fn a_membership_has_one_id_per_pair() {
    let id = keys::membership_id(ACME, ALICE);
    assert_eq!(id, keys::membership_id(ACME, ALICE));
    assert_ne!(id, keys::membership_id(ACME, BOB));
    assert_ne!(id, keys::membership_id(GLOBEX, ALICE));
    assert_eq!(id.get_version_num(), 8);
}

#[test]
fn an_observation_is_one_command() {
    let command = keys::observation_command(ENTRY, 7);
    assert_eq!(command, keys::observation_command(ENTRY, 7));
    assert_ne!(command, keys::observation_command(ENTRY, 8));
    assert_ne!(command, keys::observation_command(EGRESS, 7));
}

/// Two releases over one log claim the same keys and find the same streams and commands: else two
/// things could have one name, and an observation would be recorded twice.
#[test]
fn keys_and_ids_keep_their_spelling() {
    let (acme, one) = (OrganizationId::from_u128(3), name("one"));
    let actual = [
        keys::cluster(ClusterId::from_u128(2)),
        keys::organization_name(&one),
        keys::user_name(&one),
        keys::node_name(&one),
        keys::node_key(&key(1).id()),
        keys::pool_name(acme, &one),
        keys::resource_name(acme, &one),
        keys::policy_name(acme, &one),
        keys::vpn_connection_name(acme, &one),
        keys::subject_key(UserId::from_u128(4)),
        keys::leadership_id(Duty::Processes).to_string(),
        keys::membership_id(acme, UserId::from_u128(4)).to_string(),
        keys::observation_command(NodeId::from_u128(8), 7).to_string(),
    ];
    let actual = actual.join("\n") + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/keys/v1.txt");
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(&path).unwrap_or_default());
}
