#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rap_proto::{
    NodeRole, Signer,
    key::LocalKey,
    signed,
    snapshot::{RoleScope, Section},
};

use super::*;
use crate::{
    disk::{Disk, SimDisk, StateFile},
    record,
};

const NOW: Timestamp = Timestamp::from_unix_millis(1_000_000);
const START: Moment = Moment::from_micros(0);

fn control() -> LocalKey {
    LocalKey::from_random(&[1; 32]).unwrap()
}

fn stranger() -> LocalKey {
    LocalKey::from_random(&[2; 32]).unwrap()
}

fn cluster() -> ClusterId {
    ClusterId::from_u128(1)
}

fn me() -> NodeId {
    NodeId::from_u128(7)
}

struct Making {
    cluster: ClusterId,
    node: NodeId,
    epoch: u64,
    version: u64,
    expires_at: Timestamp,
    draining: bool,
    denied: BTreeSet<NodeId>,
    signer: LocalKey,
}

impl Making {
    fn version(version: u64) -> Self {
        Self {
            cluster: cluster(),
            node: me(),
            epoch: 1,
            version,
            expires_at: NOW + Duration::from_secs(60),
            draining: false,
            denied: BTreeSet::new(),
            signer: control(),
        }
    }

    fn sections(&self) -> [(String, Vec<u8>); 2] {
        let assignment = Assignment {
            name: format!("edge-{}", self.version).parse().unwrap(),
            draining: self.draining,
            roles: vec![RoleScope { role: NodeRole::EntryNode, organizations: None }],
            pools: BTreeSet::new(),
        };
        let trust = Trust {
            authorities: Vec::new(),
            control_keys: vec![control().public_key()],
            denied_nodes: self.denied.clone(),
            denied_sessions: BTreeSet::new(),
        };
        [
            (Assignment::NAME.to_owned(), assignment.to_bytes()),
            (Trust::NAME.to_owned(), trust.to_bytes()),
        ]
    }

    fn bundle(&self) -> Bundle {
        let sections = self.sections();
        let digests = sections.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes)));
        let manifest = Manifest {
            cluster: self.cluster,
            node: self.node,
            authority_epoch: self.epoch,
            version: self.version,
            issued_at: NOW,
            expires_at: self.expires_at,
            stale_policy: StalePolicy::KeepSessions,
            sections: digests.collect(),
        };
        Bundle {
            manifest: signed::seal(&manifest, &[&self.signer]),
            sections: sections.map(|(_, bytes)| serde_bytes::ByteBuf::from(bytes)).to_vec(),
        }
    }
}

fn identity() -> Identity {
    Identity { cluster: cluster(), node: me(), control_keys: vec![control().public_key()] }
}

fn fresh_disk() -> SimDisk {
    let mut disk = SimDisk::new();
    disk.replace(StateFile::Floor, &record::encode(&Floor::nothing())).unwrap();
    disk
}

/// A store and its disk, driven as the shell drives them.
struct Node {
    store: SnapshotStore,
    disk: SimDisk,
    applied: Vec<u64>,
    refused: Vec<SnapshotRefusal>,
    expired: u32,
    denied: bool,
}

impl Node {
    fn start(disk: SimDisk) -> Self {
        Self::try_start(disk).unwrap()
    }

    fn try_start(disk: SimDisk) -> Result<Self, LoadError> {
        let (floor, kept) = load(&disk)?;
        let store = SnapshotStore::new(identity(), floor);
        let mut node = Self {
            store,
            disk,
            applied: Vec::new(),
            refused: Vec::new(),
            expired: 0,
            denied: false,
        };
        if let Some(kept) = kept {
            node.input(Input::Restore { kept, at: NOW });
        }
        Ok(node)
    }

    fn offer(&mut self, bundle: Bundle) {
        self.input(Input::Offered { bundle, at: NOW });
    }

    fn input(&mut self, input: Input) {
        self.store.handle_input(START, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.store.poll_effect() {
            match effect {
                Effect::Persist(plan) => {
                    let outcome = match persist(&mut self.disk, &plan) {
                        Ok(()) => {
                            forget_unused(&mut self.disk, &plan.keep).ok();
                            Input::Persisted { at: NOW }
                        }
                        Err(_) => Input::PersistFailed,
                    };
                    self.store.handle_input(START, outcome);
                }
                Effect::Apply { snapshot, .. } => self.applied.push(snapshot.manifest.version),
                Effect::Refused { code, .. } => self.refused.push(code),
                Effect::Expired(_) => self.expired += 1,
                Effect::Denied => self.denied = true,
            }
        }
    }
}

#[test]
fn a_newer_snapshot_is_applied_and_found_again_after_a_restart() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(3).bundle());
    node.offer(Making::version(5).bundle());
    assert_eq!(node.applied, [3, 5]);
    assert_eq!(node.disk.sections().unwrap().len(), 2, "unused sections are removed");

    let again = Node::start(node.disk);
    assert_eq!(again.applied, [5]);
    assert_eq!(again.store.holding().0, 5);
    assert!(again.refused.is_empty());
}

#[test]
fn sections_that_are_held_need_not_be_sent() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(3).bundle());
    let mut bundle = Making::version(4).bundle();
    let held = node.store.holding().1;
    bundle.sections.retain(|bytes| !held.contains(&Digest::of(bytes)));
    assert_eq!(bundle.sections.len(), 1, "the trust section did not change");
    node.offer(bundle);
    assert_eq!(node.applied, [3, 4]);
}

#[test]
fn every_wrong_snapshot_is_refused_with_its_own_code() {
    let with = |change: fn(&mut Making)| {
        let mut making = Making::version(9);
        change(&mut making);
        making.bundle()
    };
    let mut tampered = Making::version(9).bundle();
    let last = tampered.sections[0].len() - 1;
    tampered.sections[0][last] ^= 1;
    let mut cut = Making::version(9).bundle();
    cut.manifest.truncate(40);
    let mut flipped = Making::version(9).bundle();
    let at = flipped.manifest.windows(4).position(|w| w == b"edge").unwrap_or(120);
    flipped.manifest[at] ^= 1;
    let cases = [
        (with(|m| m.signer = stranger()), SnapshotRefusal::NotTrusted),
        (with(|m| m.cluster = ClusterId::from_u128(2)), SnapshotRefusal::WrongCluster),
        (with(|m| m.node = NodeId::from_u128(8)), SnapshotRefusal::WrongNode),
        (with(|m| m.expires_at = NOW - Duration::from_millis(5_001)), SnapshotRefusal::Expired),
        (with(|m| m.version = 4), SnapshotRefusal::Rollback),
        (with(|m| (m.epoch, m.version) = (0, 100)), SnapshotRefusal::Rollback),
        (with(|m| (m.version, m.draining) = (5, true)), SnapshotRefusal::Equivocation),
        (tampered, SnapshotRefusal::MissingSection),
        (cut, SnapshotRefusal::Malformed),
        (flipped, SnapshotRefusal::NotTrusted),
    ];
    for (bundle, code) in cases {
        let mut node = Node::start(fresh_disk());
        node.offer(Making::version(5).bundle());
        let before = node.disk.clone();
        node.offer(bundle);
        assert_eq!(node.refused, [code]);
        assert_eq!(node.applied, [5], "{code}: nothing changed");
        assert_eq!(node.disk.steps(), before.steps(), "{code}: nothing was written");
    }
}

#[test]
fn a_signed_type_is_not_taken_for_another() {
    let message = rap_proto::bus::ControlMessage {
        cluster: cluster(),
        authority_epoch: 1,
        audience: me(),
        incarnation: rap_proto::IncarnationId::from_u128(1),
        sequence: 1,
        issued_at: NOW,
        expires_at: NOW,
        body: rap_proto::bus::ControlBody::SnapshotAvailable { version: 1 },
    };
    let mut node = Node::start(fresh_disk());
    let manifest = signed::seal(&message, &[&control()]);
    node.offer(Bundle { manifest, sections: Vec::new() });
    assert_eq!(node.refused, [SnapshotRefusal::Malformed]);
}

#[test]
fn too_many_sections_are_refused() {
    let mut bundle = Making::version(1).bundle();
    bundle.sections =
        (0..=rap_proto::snapshot::MAX_SECTIONS).map(|at| vec![at as u8].into()).collect();
    let mut node = Node::start(fresh_disk());
    node.offer(bundle);
    assert_eq!(node.refused, [SnapshotRefusal::Malformed]);
}

#[test]
fn the_same_snapshot_again_changes_nothing() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(5).bundle());
    let steps = node.disk.steps();
    node.offer(Making::version(5).bundle());
    assert_eq!((node.applied, node.disk.steps()), (vec![5], steps));
    assert!(node.refused.is_empty());
}

#[test]
fn an_older_snapshot_put_on_the_disk_is_refused_at_the_start() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(3).bundle());
    let old = node.disk.clone();
    node.offer(Making::version(5).bundle());
    let mut disk = old;
    let floor = node.disk.read(StateFile::Floor).unwrap().unwrap();
    disk.tamper(StateFile::Floor, |bytes| *bytes = floor);
    let again = Node::start(disk);
    assert_eq!(again.refused, [SnapshotRefusal::Rollback]);
    assert!(again.applied.is_empty());
}

#[test]
fn a_torn_or_missing_floor_stops_the_node() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(3).bundle());
    let whole = node.disk.read(StateFile::Floor).unwrap().unwrap();
    for end in 0..whole.len() {
        let mut disk = node.disk.clone();
        disk.tamper(StateFile::Floor, |bytes| bytes.truncate(end));
        assert_eq!(Node::try_start(disk).err(), Some(LoadError::FloorDamaged), "{end}");
    }
    let mut disk = node.disk.clone();
    disk.remove(StateFile::Floor).unwrap();
    assert_eq!(Node::try_start(disk).err(), Some(LoadError::FloorDamaged));
}

#[test]
fn a_damaged_section_reads_as_no_snapshot_and_the_floor_still_holds() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(5).bundle());
    let section = node.disk.sections().unwrap()[0];
    node.disk.tamper(StateFile::Section(section), |bytes| bytes[0] ^= 1);
    let mut again = Node::start(node.disk);
    assert!(again.applied.is_empty());
    again.offer(Making::version(4).bundle());
    assert_eq!(again.refused, [SnapshotRefusal::Rollback]);
    again.offer(Making::version(5).bundle());
    assert_eq!(again.applied, [5], "the same snapshot heals the disk");
}

/// The power is cut at every single step of writing the second snapshot.
#[test]
fn a_power_cut_at_any_byte_leaves_the_old_or_the_new_snapshot() {
    let mut before = Node::start(fresh_disk());
    before.offer(Making::version(3).bundle());
    let mut whole = Node::start(before.disk.clone());
    let start = whole.disk.steps();
    whole.offer(Making::version(4).bundle());
    let steps = whole.disk.steps() - start;
    for cut in 0..=steps {
        for survives in [false, true] {
            let mut node = Node::start(before.disk.clone());
            node.disk.cut_after(cut, survives);
            node.offer(Making::version(4).bundle());
            let acted_on = node.applied.clone();
            let mut disk = node.disk;
            disk.restore_power();
            let mut again = Node::start(disk);
            assert!(again.refused.is_empty(), "cut at {cut}: {:?}", again.refused);
            assert!([[3], [4]].iter().any(|one| again.applied == one), "cut at {cut}");
            let acted = acted_on.last().copied().unwrap_or(0);
            assert!(again.applied[0] >= acted, "cut at {cut}: fell behind what was acted on");
            again.offer(Making::version(4).bundle());
            assert_eq!(again.store.holding().0, 4, "cut at {cut}: and it goes on from there");
        }
    }
}

#[test]
fn life_ends_by_the_timer_and_what_is_expired_on_disk_is_applied_as_stale() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(3).bundle());
    let end = node.store.poll_timeout().unwrap();
    assert_eq!(end, START + Duration::from_secs(60));
    node.store.handle_timeout(Moment::from_micros(end.micros() - 1));
    node.drain();
    assert_eq!(node.expired, 0);
    node.store.handle_timeout(end);
    node.drain();
    assert_eq!((node.expired, node.store.poll_timeout()), (1, None));

    let (floor, kept) = load(&node.disk).unwrap();
    let mut late = SnapshotStore::new(identity(), floor);
    let at = NOW + Duration::from_secs(3_600);
    late.handle_input(START, Input::Restore { kept: kept.unwrap(), at });
    assert!(matches!(late.poll_effect(), Some(Effect::Apply { freshness: Freshness::Any, .. })));
    assert!(matches!(late.poll_effect(), Some(Effect::Expired(StalePolicy::KeepSessions))));
}

#[test]
fn a_node_learns_that_it_is_denied() {
    let mut node = Node::start(fresh_disk());
    let mut making = Making::version(3);
    making.denied.insert(me());
    node.offer(making.bundle());
    assert!(node.denied);
    assert!(Node::start(node.disk).denied, "and remembers it");
}

#[test]
fn the_same_refusal_is_reported_once() {
    let mut node = Node::start(fresh_disk());
    node.offer(Making::version(5).bundle());
    for version in [3, 3, 4, 4, 3] {
        node.offer(Making::version(version).bundle());
    }
    assert_eq!(node.refused, [SnapshotRefusal::Rollback; 3]);
    node.offer(Making::version(6).bundle());
    node.offer(Making::version(3).bundle());
    assert_eq!(node.refused.len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever order versions are offered in and wherever the power fails, what is acted on
    /// never falls.
    #[test]
    fn versions_never_fall(
        offers in proptest::collection::vec((1u64..8, proptest::option::of(0u64..1500)), 1..12)
    ) {
        let mut node = Node::start(fresh_disk());
        let mut highest = 0;
        for (version, cut) in offers {
            if let Some(cut) = cut {
                node.disk.cut_after(cut, cut % 2 == 0);
            }
            node.applied.clear();
            node.offer(Making::version(version).bundle());
            for applied in &node.applied {
                prop_assert!(*applied > highest);
                highest = *applied;
            }
            if cut.is_some() {
                let mut disk = node.disk.clone();
                disk.restore_power();
                node = Node::start(disk);
                let held = node.store.holding().0;
                prop_assert!(held >= highest);
                highest = held;
            }
        }
    }
}
