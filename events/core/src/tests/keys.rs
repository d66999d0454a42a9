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
