//! The state directory: the cluster's keys, one file each, mode 0600, written atomically.
//!
//! | File | Content |
//! |---|---|
//! | `cluster` | the cluster's id |
//! | `ca.key`, `ca.pem` | the CA's key (PKCS #8) and its certificate |
//! | `control.key` | signs snapshots, access tokens and bus messages |
//! | `tls.key` | of the server's own certificate, which is issued anew at each start |
//! | `derivation.key` | 32 bytes, from which secrets that are shown once are derived |
//! | `replica.key` | this replica's own: signs its votes for the authority beat |
//!
//! What exists is never overwritten: a lost file is restored from a backup, not replaced. The one
//! exception is `replica.key`: a replica without one makes its own, and a copied one is removed.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rap_bus::NatsAuthority;
use rap_pki::{ClusterAuthority, pem};
use rap_proto::{
    ClusterId, CommandId, Digest, Timestamp,
    api::Imprint,
    key::LocalKey,
    secret::{Secret, SecretKind},
};
use rap_tlog::HeadKey;
use zeroize::{Zeroize as _, Zeroizing};

use crate::clock;

/// The largest file that is read here, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: not in the expected form")]
    Malformed { path: PathBuf },
    #[error("{path}: others than its owner can read it (mode {mode:o}); it must be 0600")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} is missing; restore it from a copy of the state directory")]
    Missing { path: PathBuf },
    #[error("the CA's certificate, key and cluster do not belong together: {0}")]
    Authority(String),
}

/// Everything that makes this server the cluster's control plane.
#[derive(Debug)]
pub(crate) struct Custody {
    pub(crate) cluster: ClusterId,
    pub(crate) authority: ClusterAuthority,
    pub(crate) control: LocalKey,
    pub(crate) tls: LocalKey,
    /// Different on each replica.
    pub(crate) replica: LocalKey,
    pub(crate) derivation: DerivationKey,
}

/// Makes the secrets that are shown once. The same command gives the same secret again, so that
/// a repeated request can be answered alike although no secret is ever stored.
pub(crate) struct DerivationKey([u8; 32]);

impl DerivationKey {
    pub(crate) fn secret<K: SecretKind>(&self, command: CommandId) -> Secret<K> {
        let command = command.uuid();
        let parts = [
            b"rap derived secret v1".as_slice(),
            &self.0,
            K::PREFIX.as_bytes(),
            command.as_bytes(),
        ];
        Secret::from_random(*Digest::of_parts(&parts).as_bytes())
    }

    /// The hash that a request is recognised by. Keyed, because a request may hold a password,
    /// and the hash is stored.
    pub(crate) fn request_hash(&self, parts: &[&[u8]]) -> Digest {
        let inner = Digest::of_parts(parts);
        Digest::of_parts(&[b"rap request hash v1", &self.0, inner.as_bytes()])
    }

    /// What a client is told of an event that it may not see. Keyed, because who guesses what the
    /// event is could look whether it is that.
    pub(crate) fn imprint(&self, leaf: &Digest) -> Imprint {
        let digest = Digest::of_parts(&[b"rap event imprint v1", &self.0, leaf.as_bytes()]);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.as_bytes()[..8]);
        Imprint::from_bytes(bytes)
    }
}

impl Drop for DerivationKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for DerivationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DerivationKey(…)")
    }
}

impl Custody {
    /// Reads the directory, or fills it when it is absent or empty of keys.
    pub(crate) fn open(dir: &Path, now: Timestamp) -> Result<Self, CustodyError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| CustodyError::Io { path: dir.to_owned(), error })?;
        if dir.join("complete").exists() { Self::load(dir) } else { Self::create(dir, now) }
    }

    /// Reads the directory, which must be filled.
    pub(crate) fn existing(dir: &Path) -> Result<Self, CustodyError> {
        if dir.join("complete").exists() {
            return Self::load(dir);
        }
        Err(CustodyError::Missing { path: dir.join("complete") })
    }

    /// The issuer of the cluster's NATS tokens.
    pub(crate) fn nats_authority(&self) -> NatsAuthority {
        let parts = [b"rap nats secret v1".as_slice(), &self.derivation.0];
        NatsAuthority::derive(self.cluster, Digest::of_parts(&parts).as_bytes())
    }

    /// The Ed25519 key of the log's tree heads.
    pub(crate) fn head_key(&self) -> HeadKey {
        let parts = [b"rap tree head ed25519 v1".as_slice(), &self.derivation.0];
        HeadKey::from_seed(Digest::of_parts(&parts).as_bytes())
    }

    /// What the keys of subjects are wrapped under.
    pub(crate) fn wrapping_key(&self) -> Zeroizing<[u8; 32]> {
        let parts = [b"rap subject key wrapping v1".as_slice(), &self.derivation.0];
        Zeroizing::new(*Digest::of_parts(&parts).as_bytes())
    }

    fn load(dir: &Path) -> Result<Self, CustodyError> {
        let path = dir.join("cluster");
        let cluster = read(&path)?;
        let cluster: ClusterId = text(&path, &cluster)?
            .trim()
            .parse()
            .map_err(|_| CustodyError::Malformed { path: path.clone() })?;
        let certificate = dir.join("ca.pem");
        let pem = read(&certificate)?;
        let chain = pem::decode(text(&certificate, &pem)?)
            .map_err(|_| CustodyError::Malformed { path: certificate.clone() })?;
        let authority = ClusterAuthority::load(&chain[0], &read_key(&dir.join("ca.key"))?)
            .map_err(|error| CustodyError::Authority(error.to_string()))?;
        if authority.cluster() != cluster {
            return Err(CustodyError::Authority("another cluster's certificate".to_owned()));
        }
        let path = dir.join("derivation.key");
        let derivation =
            read(&path)?.as_slice().try_into().map_err(|_| CustodyError::Malformed { path })?;
        Ok(Self {
            cluster,
            authority,
            control: read_key(&dir.join("control.key"))?,
            tls: read_key(&dir.join("tls.key"))?,
            replica: replica_key(&dir.join("replica.key"))?,
            derivation: DerivationKey(derivation),
        })
    }

    /// Every file is written before `complete` is: a crash in between starts over.
    fn create(dir: &Path, now: Timestamp) -> Result<Self, CustodyError> {
        let cluster = ClusterId::new(now, clock::random());
        let (ca, control, tls) = (new_key(), new_key(), new_key());
        let authority = ClusterAuthority::create(cluster, &ca, clock::random(), now);
        let derivation = DerivationKey(clock::random());
        write(&dir.join("cluster"), format!("{cluster}\n").as_bytes())?;
        write(&dir.join("ca.key"), ca.to_pem().as_bytes())?;
        write(&dir.join("ca.pem"), pem::encode([authority.certificate_der()]).as_bytes())?;
        write(&dir.join("control.key"), control.to_pem().as_bytes())?;
        write(&dir.join("tls.key"), tls.to_pem().as_bytes())?;
        write(&dir.join("derivation.key"), &derivation.0)?;
        let replica = replica_key(&dir.join("replica.key"))?;
        write(&dir.join("complete"), b"")?;
        Ok(Self { cluster, authority, control, tls, replica, derivation })
    }
}

/// A fresh P-256 key.
pub(crate) fn new_key() -> LocalKey {
    loop {
        let bytes = Zeroizing::new(clock::random());
        if let Some(key) = LocalKey::from_random(&bytes) {
            return key;
        }
    }
}

/// The replica's own key, made when there is none.
fn replica_key(path: &Path) -> Result<LocalKey, CustodyError> {
    match read_key(path) {
        Err(CustodyError::Missing { .. }) => {
            let key = new_key();
            write(path, key.to_pem().as_bytes())?;
            Ok(key)
        }
        found => found,
    }
}

fn read_key(path: &Path) -> Result<LocalKey, CustodyError> {
    let bytes = read(path)?;
    LocalKey::from_pem(text(path, &bytes)?)
        .map_err(|_| CustodyError::Malformed { path: path.to_owned() })
}

fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, CustodyError> {
    std::str::from_utf8(bytes).map_err(|_| CustodyError::Malformed { path: path.to_owned() })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => CustodyError::Missing { path: path.to_owned() },
        _ => CustodyError::Io { path: path.to_owned(), error },
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CustodyError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(CustodyError::Malformed { path: path.to_owned() });
    }
    fs::read(path).map(Zeroizing::new).map_err(failed)
}

/// Temporary file, fsync, rename, fsync of the directory: a reader sees all or nothing.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), CustodyError> {
    let temporary = path.with_extension("new");
    let write_all = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::File::open(dir)?.sync_all()
    };
    write_all().map_err(|error| CustodyError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod frozen;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::{Signer as _, secret::LoginSecret};

    use super::*;

    #[test]
    fn a_directory_is_filled_once_and_read_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let made = Custody::open(&path, clock::now()).unwrap();
        let read = Custody::open(&path, clock::now()).unwrap();
        assert_eq!(made.cluster, read.cluster);
        assert_eq!(made.authority.fingerprint(), read.authority.fingerprint());
        assert_eq!(made.control.public_key(), read.control.public_key());
        assert_eq!(made.replica.public_key(), read.replica.public_key());
        let command = CommandId::from_u128(1);
        let secrets = [&made, &read].map(|c| c.derivation.secret::<LoginSecret>(command).reveal());
        assert_eq!(secrets[0], secrets[1]);
        for entry in fs::read_dir(&path).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
    }

    #[test]
    fn the_same_event_has_another_imprint_in_another_cluster() {
        let [leaf, other] = [b"one", b"two"].map(|bytes| Digest::of(bytes));
        let [here, there] = [[1; 32], [2; 32]].map(DerivationKey);
        assert_eq!(here.imprint(&leaf), here.imprint(&leaf));
        assert_ne!(here.imprint(&leaf), here.imprint(&other));
        assert_ne!(here.imprint(&leaf), there.imprint(&leaf));
        // Nor is it a part of what the tree shows.
        let imprint = here.imprint(&leaf).to_string();
        assert!(!leaf.to_string().contains(&imprint));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_a_lost_one_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Custody::open(dir.path(), clock::now()).unwrap();
        let key = dir.path().join("control.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Custody::open(dir.path(), clock::now()),
            Err(CustodyError::Exposed { .. })
        ));
        fs::remove_file(&key).unwrap();
        assert!(matches!(
            Custody::open(dir.path(), clock::now()),
            Err(CustodyError::Missing { .. })
        ));
        assert!(!key.exists());
    }
}
