//! Who signs: one key for each replica, and the control key that all of them hold. And who is known by
//! a key.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use rap_proto::{
    ClusterId, Digest, NodeId, PublicKey, Signer as _,
    beat::{EpochStatement, FIRST_AUTHORITY_EPOCH, majority},
    key::LocalKey,
};
use rap_tlog::{HeadKey, WitnessKey};

/// How many replicas there are.
pub const REPLICAS: usize = 3;
/// Whose beats these are.
pub const CLUSTER: ClusterId = ClusterId::from_u128(1);

/// The same in every run: making a key costs as much as a signature.
struct Keys {
    replicas: Vec<LocalKey>,
    control: LocalKey,
    head: HeadKey,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let key = |seed| LocalKey::from_random(&[seed; 32]).expect("a small number is a key");
    KEYS.get_or_init(|| Keys {
        replicas: (1..).take(REPLICAS).map(key).collect(),
        control: key(99),
        head: HeadKey::from_seed(&[2; 32]),
    })
}

pub fn replica(index: usize) -> &'static LocalKey {
    &keys().replicas[index]
}

pub fn control() -> &'static LocalKey {
    &keys().control
}

/// The log's second key.
pub fn head() -> &'static HeadKey {
    &keys().head
}

/// What a node cosigns with, in every run.
pub fn witness(node: NodeId) -> WitnessKey {
    static KEYS: Mutex<BTreeMap<NodeId, WitnessKey>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = || WitnessKey::derive(node, b"a node of the simulation");
    keys.entry(node).or_insert_with(key).clone()
}

/// What a node with this number is known by, in every run.
pub fn node(index: usize) -> PublicKey {
    static KEYS: Mutex<BTreeMap<usize, PublicKey>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    *keys.entry(index).or_insert_with(|| {
        let random = Digest::of(&index.to_be_bytes());
        let key = LocalKey::from_random(random.as_bytes());
        key.expect("nearly all numbers are keys").public_key()
    })
}

/// The first statement: it lists every replica.
pub fn statement() -> EpochStatement {
    let replicas: Vec<PublicKey> = keys().replicas.iter().map(LocalKey::public_key).collect();
    EpochStatement {
        cluster: CLUSTER,
        epoch: FIRST_AUTHORITY_EPOCH,
        revision: 1,
        threshold: majority(replicas.len()),
        replicas,
        previous: None,
    }
}
