//! The checks that a snapshot passes before anything of it is believed, in this order:
//! signature, cluster, node, life, rollback, equivocation, sections.

use std::collections::BTreeMap;

use rap_proto::{
    ClusterId, Digest, NodeId, PublicKey, Timestamp,
    bandwidth::Bandwidth,
    mesh::Mesh,
    observation::SnapshotRefusal,
    paths::Paths,
    signed::{OpenError, Trusted, Unverified, Verified},
    snapshot::{
        Assignment, Bundle, Connections, MAX_SECTION_BYTES, MAX_SECTIONS, Manifest, Peers, Places,
        Resources, Section, Trust,
    },
    token::CLOCK_SKEW_MS,
};

use super::{Floor, Snapshot};

/// Whether a snapshot whose life ended is still taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Within its life, as everything that is offered must be.
    Fresh,
    /// At whatever age: what a node finds on its own disk tells it how to go on without control.
    Any,
}

pub(super) struct Known {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub floor: Floor,
    pub freshness: Freshness,
}

/// A snapshot that passed, with the bytes of all its sections.
pub(super) struct Found {
    pub snapshot: Snapshot,
    pub sections: BTreeMap<Digest, Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Zero when not even that could be read.
    pub version: u64,
    pub code: SnapshotRefusal,
}

pub(super) fn check(
    bundle: &Bundle,
    held: &BTreeMap<Digest, Vec<u8>>,
    known: &Known,
    keys: &[PublicKey],
    at: Timestamp,
) -> Result<Found, Refused> {
    let manifest = verify(&bundle.manifest, keys)?;
    let refuse = |code| Refused { version: manifest.version, code };
    check_scope(&manifest, known, at).map_err(refuse)?;
    check_floor(&manifest, known.floor).map_err(refuse)?;
    let sections = collect(&manifest, bundle, held).map_err(refuse)?;
    let snapshot = read(&manifest, &sections).map_err(refuse)?;
    Ok(Found { snapshot, sections })
}

fn verify(bytes: &[u8], keys: &[PublicKey]) -> Result<Verified<Manifest>, Refused> {
    let malformed = |version| Refused { version, code: SnapshotRefusal::Malformed };
    let envelope = Unverified::<Manifest>::parse(bytes).map_err(|_| malformed(0))?;
    let version = envelope.peek().map_or(0, |manifest| manifest.version);
    envelope.verify(&Trusted::new(keys.iter().copied(), 1)).map_err(|error| match error {
        OpenError::NotTrusted { .. } => Refused { version, code: SnapshotRefusal::NotTrusted },
        OpenError::Envelope(_) | OpenError::WrongType { .. } | OpenError::Payload(_) => {
            malformed(version)
        }
    })
}

fn check_scope(manifest: &Manifest, known: &Known, at: Timestamp) -> Result<(), SnapshotRefusal> {
    if manifest.cluster != known.cluster {
        return Err(SnapshotRefusal::WrongCluster);
    }
    if manifest.node != known.node {
        return Err(SnapshotRefusal::WrongNode);
    }
    let late = manifest.expires_at.unix_millis() + CLOCK_SKEW_MS.cast_signed() < at.unix_millis();
    if known.freshness == Freshness::Fresh && late {
        return Err(SnapshotRefusal::Expired);
    }
    Ok(())
}

fn check_floor(manifest: &Verified<Manifest>, floor: Floor) -> Result<(), SnapshotRefusal> {
    let offered = (manifest.authority_epoch, manifest.version);
    let lowest = (floor.authority_epoch, floor.version);
    if offered < lowest {
        return Err(SnapshotRefusal::Rollback);
    }
    if offered == lowest && manifest.digest() != floor.digest {
        return Err(SnapshotRefusal::Equivocation);
    }
    Ok(())
}

/// Every section that the manifest names, from the bundle or from what is held.
fn collect(
    manifest: &Manifest,
    bundle: &Bundle,
    held: &BTreeMap<Digest, Vec<u8>>,
) -> Result<BTreeMap<Digest, Vec<u8>>, SnapshotRefusal> {
    if manifest.sections.len() > MAX_SECTIONS || bundle.sections.len() > MAX_SECTIONS {
        return Err(SnapshotRefusal::Malformed);
    }
    if bundle.sections.iter().any(|section| section.len() > MAX_SECTION_BYTES) {
        return Err(SnapshotRefusal::Malformed);
    }
    let sent: BTreeMap<Digest, &[u8]> =
        bundle.sections.iter().map(|bytes| (Digest::of(bytes), &bytes[..])).collect();
    let find =
        |digest: &Digest| sent.get(digest).copied().or_else(|| held.get(digest).map(Vec::as_slice));
    manifest
        .sections
        .values()
        .map(|digest| match find(digest) {
            Some(bytes) => Ok((*digest, bytes.to_vec())),
            None => Err(SnapshotRefusal::MissingSection),
        })
        .collect()
}

fn read(
    manifest: &Verified<Manifest>,
    sections: &BTreeMap<Digest, Vec<u8>>,
) -> Result<Snapshot, SnapshotRefusal> {
    let missing = SnapshotRefusal::MissingSection;
    Ok(Snapshot {
        digest: manifest.digest(),
        assignment: section::<Assignment>(manifest, sections)?.ok_or(missing)?,
        trust: section::<Trust>(manifest, sections)?.ok_or(missing)?,
        peers: section::<Peers>(manifest, sections)?.unwrap_or_default(),
        resources: section::<Resources>(manifest, sections)?.unwrap_or_default(),
        connections: section::<Connections>(manifest, sections)?.unwrap_or_default(),
        bandwidth: section::<Bandwidth>(manifest, sections)?.unwrap_or_default(),
        places: section::<Places>(manifest, sections)?.unwrap_or_default(),
        paths: section::<Paths>(manifest, sections)?.unwrap_or_default(),
        mesh: section::<Mesh>(manifest, sections)?.unwrap_or_default(),
        manifest: Manifest::clone(manifest),
    })
}

fn section<S: Section>(
    manifest: &Manifest,
    sections: &BTreeMap<Digest, Vec<u8>>,
) -> Result<Option<S>, SnapshotRefusal> {
    let Some(digest) = manifest.sections.get(S::NAME) else { return Ok(None) };
    let bytes = sections.get(digest).ok_or(SnapshotRefusal::MissingSection)?;
    S::from_bytes(bytes).map(Some).map_err(|_| SnapshotRefusal::Malformed)
}
