//! The agent's identity on disk: what `join` leaves there and `run` starts from.

use std::path::Path;

use rap_agent_core::{
    beat::BeatFloor,
    disk::{Disk, DiskError, StateFile},
    record::{self, Enrollment, HeldCredentials, HeldPeers, Record, RecordError},
    servers::HeldServers,
    snapshot::Floor,
    standing::Standing,
    witness::Witnessed,
};
use rap_bus::BusKey;
use rap_pki::PeerIdentity;
use rap_proto::{
    ClusterId, Digest, NodeId, Signer as _, Timestamp, key::LocalKey, wire::node_api::Credentials,
};

use crate::{
    disk::{FileDisk, OpenDiskError},
    random,
};

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Open(#[from] OpenDiskError),
    #[error("cannot use the state directory: {0}")]
    Disk(#[from] DiskError),
    #[error("{file} in the state directory is damaged: {reason}")]
    Damaged { file: String, reason: String },
}

/// The state directory with this node's keys.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) disk: FileDisk,
    pub(crate) key: LocalKey,
    pub(crate) bus_key: BusKey,
}

/// The cluster that this host joined, or asked to join. `None` before. Makes the state directory and
/// its keys when they are not there, as a run does.
pub fn cluster(state_dir: &Path) -> Result<Option<ClusterId>, StateError> {
    Ok(State::open(state_dir)?.enrollment()?.and_then(|enrollment| enrollment.cluster))
}

impl State {
    /// Opens a state directory, and makes its keys when there are none.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        let mut disk = FileDisk::open(root)?;
        let key = match read_text(&disk, StateFile::IdentityKey)? {
            Some(pem) => {
                LocalKey::from_pem(&pem).map_err(|error| damaged(StateFile::IdentityKey, error))?
            }
            None => {
                let key = random::key();
                disk.replace(StateFile::IdentityKey, key.to_pem().as_bytes())?;
                key
            }
        };
        let bus_key = match read_text(&disk, StateFile::BusKey)? {
            Some(seed) => {
                BusKey::from_seed(&seed).map_err(|error| damaged(StateFile::BusKey, error))?
            }
            None => {
                let key = BusKey::from_random(random::bytes());
                disk.replace(StateFile::BusKey, key.seed().as_bytes())?;
                key
            }
        };
        Ok(Self { disk, key, bus_key })
    }

    /// What an approver compares.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.key.public_key().id()
    }

    pub(crate) fn enrollment(&self) -> Result<Option<Enrollment>, StateError> {
        read(&self.disk, StateFile::Enrollment)
    }

    pub(crate) fn credentials(&self) -> Result<Option<HeldCredentials>, StateError> {
        read(&self.disk, StateFile::Credentials)
    }

    pub(crate) fn standing(&self) -> Result<Standing, StateError> {
        Ok(read(&self.disk, StateFile::Standing)?.unwrap_or(Standing::Good))
    }

    /// The newest tree head that this node saw.
    pub(crate) fn witnessed(&self) -> Result<Option<Witnessed>, StateError> {
        read(&self.disk, StateFile::TreeHead)
    }

    pub(crate) fn keep_witnessed(&mut self, witnessed: &Witnessed) -> Result<(), StateError> {
        Ok(self.disk.replace(StateFile::TreeHead, &record::encode(witnessed))?)
    }

    /// The newest authority beat that counted.
    pub(crate) fn beat(&self) -> Result<Option<BeatFloor>, StateError> {
        read(&self.disk, StateFile::Beat)
    }

    pub(crate) fn keep_beat(&mut self, floor: &BeatFloor) -> Result<(), StateError> {
        Ok(self.disk.replace(StateFile::Beat, &record::encode(floor))?)
    }

    /// What an earlier run remembered of its peers.
    pub(crate) fn peers(&self) -> Result<Option<HeldPeers>, StateError> {
        read(&self.disk, StateFile::Peers)
    }

    pub(crate) fn keep_peers(&mut self, held: &HeldPeers) -> Result<(), StateError> {
        Ok(self.disk.replace(StateFile::Peers, &record::encode(held))?)
    }

    /// The servers of control that an earlier run knew.
    pub(crate) fn servers(&self) -> Result<Option<HeldServers>, StateError> {
        read(&self.disk, StateFile::Servers)
    }

    pub(crate) fn keep_servers(&mut self, held: &HeldServers) -> Result<(), StateError> {
        Ok(self.disk.replace(StateFile::Servers, &record::encode(held))?)
    }

    pub(crate) fn keep_enrollment(&mut self, enrollment: &Enrollment) -> Result<(), StateError> {
        Ok(self.disk.replace(StateFile::Enrollment, &record::encode(enrollment))?)
    }

    /// The first credentials of an enrollment: with them the node exists, so the floor and the
    /// standing are there before.
    pub(crate) fn keep_first_credentials(
        &mut self,
        held: &HeldCredentials,
    ) -> Result<(), StateError> {
        if self.disk.read(StateFile::Floor)?.is_none() {
            self.disk.replace(StateFile::Floor, &record::encode(&Floor::nothing()))?;
        }
        self.keep_standing(Standing::Good)?;
        self.keep_credentials(held)
    }

    pub(crate) fn keep_credentials(&mut self, held: &HeldCredentials) -> Result<(), StateError> {
        Ok(self.disk.replace(StateFile::Credentials, &record::encode(held))?)
    }

    pub(crate) fn keep_standing(&mut self, standing: Standing) -> Result<(), StateError> {
        Ok(self.disk.replace(StateFile::Standing, &record::encode(&standing))?)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error("control sent a certificate that cannot be read")]
    Certificate,
    #[error("control sent a certificate of another node, cluster or key")]
    Foreign,
    #[error("control sent a certificate of another authority than the pinned one")]
    WrongAuthority,
    #[error("control sent no key of its own")]
    NoControlKeys,
    #[error(
        "control sent a certificate of authority epoch {epoch}, before {held} of the one in use"
    )]
    EarlierEpoch { epoch: u64, held: u64 },
}

/// Checks what control sent before it is kept: the certificate is for this node and this key, and
/// its chain ends in the pinned CA.
pub(crate) fn check_credentials(
    credentials: &Credentials,
    node: NodeId,
    key: &LocalKey,
    ca: Digest,
) -> Result<(), CredentialsError> {
    let leaf = credentials.certificates.first().ok_or(CredentialsError::Certificate)?;
    let own = PeerIdentity::from_leaf(leaf).map_err(|_| CredentialsError::Certificate)?;
    let fits = own.node == node
        && credentials.node == node
        && own.cluster == credentials.cluster
        && own.key == key.public_key().id();
    if !fits {
        return Err(CredentialsError::Foreign);
    }
    if !credentials.certificates[1..].iter().any(|der| Digest::of(der) == ca) {
        return Err(CredentialsError::WrongAuthority);
    }
    if credentials.control_keys.is_empty() {
        return Err(CredentialsError::NoControlKeys);
    }
    Ok(())
}

/// Checks that what replaces the credentials in use is of no earlier authority: whoever was deposed may
/// still hold the CA's key, and answer.
pub(crate) fn check_succession(
    held: &Credentials,
    credentials: &Credentials,
) -> Result<(), CredentialsError> {
    let (held, epoch) = (authority_epoch(held)?, authority_epoch(credentials)?);
    if epoch < held {
        return Err(CredentialsError::EarlierEpoch { epoch, held });
    }
    Ok(())
}

fn authority_epoch(credentials: &Credentials) -> Result<u64, CredentialsError> {
    let leaf = credentials.certificates.first().ok_or(CredentialsError::Certificate)?;
    let identity = PeerIdentity::from_leaf(leaf).map_err(|_| CredentialsError::Certificate)?;
    Ok(identity.authority_epoch)
}

pub(crate) fn held(credentials: Credentials, at: Timestamp) -> HeldCredentials {
    HeldCredentials { obtained_at: at, credentials }
}

fn read<T: Record>(disk: &FileDisk, file: StateFile) -> Result<Option<T>, StateError> {
    let Some(bytes) = disk.read(file)? else { return Ok(None) };
    record::decode(&bytes).map(Some).map_err(|error: RecordError| damaged(file, error))
}

fn read_text(
    disk: &FileDisk,
    file: StateFile,
) -> Result<Option<zeroize::Zeroizing<String>>, StateError> {
    let Some(bytes) = disk.read(file)? else { return Ok(None) };
    String::from_utf8(bytes)
        .map(|text| Some(zeroize::Zeroizing::new(text)))
        .map_err(|_| damaged(file, "not text"))
}

fn damaged(file: StateFile, reason: impl ToString) -> StateError {
    StateError::Damaged { file: file.path(), reason: reason.to_string() }
}
