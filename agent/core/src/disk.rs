//! The agent's state directory: which files there are, and what a power cut may do to them.
//!
//! A file is replaced by writing another one beside it, flushing that, renaming it over the old
//! name and flushing the directory: whoever reads later finds the old content or the new, never
//! a mixture. Appending may leave a part of what was appended; the reader of such a file drops
//! the torn tail. [`SimDisk`] cuts the power at any byte of any of these steps.

mod sim;

use rap_proto::{Digest, VpnConnectionId};

pub use sim::SimDisk;

/// Every file that an agent keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateFile {
    /// The node's private identity key, PKCS #8 PEM.
    IdentityKey,
    /// The seed of the key by which the agent authenticates at the bus, in NATS' text form.
    BusKey,
    /// [`Enrollment`](crate::record::Enrollment).
    Enrollment,
    /// [`HeldCredentials`](crate::record::HeldCredentials).
    Credentials,
    /// [`Floor`](crate::snapshot::Floor).
    Floor,
    /// [`HeldManifest`](crate::record::HeldManifest).
    Manifest,
    /// One section of the snapshot, named by its hash.
    Section(Digest),
    /// The observations that control has not confirmed yet.
    Spool,
    /// [`Standing`](crate::standing::Standing).
    Standing,
    /// [`Witnessed`](crate::witness::Witnessed).
    TreeHead,
    /// [`BeatFloor`](crate::beat::BeatFloor).
    Beat,
    /// [`HeldPeers`](crate::record::HeldPeers).
    Peers,
    /// [`HeldServers`](crate::servers::HeldServers).
    Servers,
    /// [`LeaseFloor`](crate::lease::LeaseFloor) of one connection.
    LeaseFloor(VpnConnectionId),
    /// [`Marks`](crate::lease::marks::Marks).
    FenceMarks,
}

impl StateFile {
    /// The file's path below the state directory. Made of letters, digits, dots and one slash.
    pub fn path(self) -> String {
        match self {
            Self::IdentityKey => "identity.pem".to_owned(),
            Self::BusKey => "bus.seed".to_owned(),
            Self::Enrollment => "enrollment".to_owned(),
            Self::Credentials => "credentials".to_owned(),
            Self::Floor => "floor".to_owned(),
            Self::Manifest => "manifest".to_owned(),
            Self::Section(digest) => format!("sections/{digest}"),
            Self::Spool => "spool".to_owned(),
            Self::Standing => "standing".to_owned(),
            Self::TreeHead => "tree_head".to_owned(),
            Self::Beat => "beat".to_owned(),
            Self::Peers => "peers".to_owned(),
            Self::Servers => "servers".to_owned(),
            Self::LeaseFloor(connection) => format!("lease.{}", connection.uuid().simple()),
            Self::FenceMarks => "fence".to_owned(),
        }
    }

    /// The most bytes that a reader takes from it.
    pub const fn limit(self) -> usize {
        match self {
            Self::Section(_) => rap_proto::snapshot::MAX_SECTION_BYTES,
            Self::Spool => crate::spool::MAX_FILE_BYTES,
            Self::FenceMarks => crate::lease::marks::MAX_MARKS_FILE_BYTES,
            _ => 128 * 1024,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("{file} is larger than {limit} bytes")]
    TooLarge { file: String, limit: usize },
    /// The write may or may not have happened.
    #[error("{file}: {message}")]
    Failed { file: String, message: String },
}

/// Where state files are kept. Each write has happened, durably, when the call returns.
pub trait Disk {
    fn read(&self, file: StateFile) -> Result<Option<Vec<u8>>, DiskError>;

    /// Puts `bytes` in the place of the whole file, or leaves it as it was.
    fn replace(&mut self, file: StateFile, bytes: &[u8]) -> Result<(), DiskError>;

    /// Adds `bytes` at the end; after a power cut any part of them, from the front, may be there.
    fn append(&mut self, file: StateFile, bytes: &[u8]) -> Result<(), DiskError>;

    /// Removing what is not there succeeds.
    fn remove(&mut self, file: StateFile) -> Result<(), DiskError>;

    /// The digests of the sections on disk.
    fn sections(&self) -> Result<Vec<Digest>, DiskError>;
}
