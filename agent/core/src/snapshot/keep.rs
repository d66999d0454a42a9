//! Keeping the snapshot on disk, so that a power cut at any byte leaves one that verifies.
//!
//! The order is sections, manifest, floor. A cut after the manifest leaves a snapshot above the
//! floor, which is accepted again at the next start; the other order would leave one below it.

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{
    Digest,
    signed::Unverified,
    snapshot::{Bundle, Manifest},
};

use super::{Floor, check::Found};
use crate::{
    disk::{Disk, DiskError, StateFile},
    record::{self, HeldManifest, RecordError},
};

/// Everything that is written for one snapshot: it leaves no choice to the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub new_sections: Vec<(Digest, Vec<u8>)>,
    /// The manifest's envelope.
    pub manifest: Vec<u8>,
    pub floor: Floor,
    /// The sections that stay; others are removed at the end.
    pub keep: BTreeSet<Digest>,
}

/// What was found on disk: unverified, for the disk is not trusted either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub manifest: Vec<u8>,
    pub sections: BTreeMap<Digest, Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the state directory: {0}")]
    Disk(#[from] DiskError),
    /// Without a floor an older snapshot could be slipped in: the node does not start.
    #[error(
        "the snapshot floor is missing or damaged, so an older snapshot could not be told from \
         the newest: remove the state directory and join again"
    )]
    FloorDamaged,
}

impl Plan {
    pub(super) fn new(
        bundle: &Bundle,
        found: &Found,
        held: &BTreeMap<Digest, Vec<u8>>,
        floor: Floor,
    ) -> Self {
        let new = found.sections.iter().filter(|(digest, _)| !held.contains_key(digest));
        Self {
            new_sections: new.map(|(digest, bytes)| (*digest, bytes.clone())).collect(),
            manifest: bundle.manifest.clone(),
            floor,
            keep: found.sections.keys().copied().collect(),
        }
    }
}

/// Writes a plan; it is durable when this returns.
pub fn persist(disk: &mut dyn Disk, plan: &Plan) -> Result<(), DiskError> {
    for (digest, bytes) in &plan.new_sections {
        disk.replace(StateFile::Section(*digest), bytes)?;
    }
    let manifest = HeldManifest { manifest: plan.manifest.clone() };
    disk.replace(StateFile::Manifest, &record::encode(&manifest))?;
    disk.replace(StateFile::Floor, &record::encode(&plan.floor))
}

/// Removes sections that no manifest names any more. Failing costs space and nothing else.
pub fn forget_unused(disk: &mut dyn Disk, keep: &BTreeSet<Digest>) -> Result<(), DiskError> {
    for digest in disk.sections()? {
        if !keep.contains(&digest) {
            disk.remove(StateFile::Section(digest))?;
        }
    }
    Ok(())
}

/// Reads the floor and, when there is one, the snapshot.
///
/// A damaged manifest or section reads as no snapshot: control sends another one, and the floor
/// still refuses any that is older.
pub fn load(disk: &dyn Disk) -> Result<(Floor, Option<Kept>), LoadError> {
    let floor = disk.read(StateFile::Floor)?.ok_or(LoadError::FloorDamaged)?;
    let floor =
        record::decode::<Floor>(&floor).map_err(|_: RecordError| LoadError::FloorDamaged)?;
    Ok((floor, load_snapshot(disk)?))
}

fn load_snapshot(disk: &dyn Disk) -> Result<Option<Kept>, DiskError> {
    let Some(bytes) = disk.read(StateFile::Manifest)? else { return Ok(None) };
    let Ok(HeldManifest { manifest }) = record::decode(&bytes) else { return Ok(None) };
    // Peeked at only to know which files to read; the store verifies it afterwards.
    let Ok(claimed) = Unverified::<Manifest>::parse(&manifest).and_then(|found| found.peek())
    else {
        return Ok(None);
    };
    let mut sections = BTreeMap::new();
    for digest in claimed.sections.values() {
        match disk.read(StateFile::Section(*digest))? {
            Some(bytes) if Digest::of(&bytes) == *digest => sections.insert(*digest, bytes),
            _ => return Ok(None),
        };
    }
    Ok(Some(Kept { manifest, sections }))
}
