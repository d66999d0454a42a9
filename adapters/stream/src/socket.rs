//! The listening socket, and who may connect to it.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{path} is no directory of mode 0700 that belongs to this user")]
    NotPrivate { path: PathBuf },
    #[error("cannot listen on {path}: {source}")]
    Listen { path: PathBuf, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("the peer's user is {peer}, not {own}")]
    OtherUser { peer: u32, own: u32 },
    #[error("the peer's user is unknown: {0}")]
    Unknown(io::Error),
}

/// Listens on `path`, whose directory must already keep other users out. A socket that a dead
/// worker left there is replaced.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    if !is_private(directory) {
        return Err(SocketError::NotPrivate { path: directory.to_owned() });
    }
    remove(path);
    let listen = || {
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|source| SocketError::Listen { path: path.to_owned(), source })
}

/// Removes the socket at `path`, and nothing but a socket.
pub(crate) fn remove(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, "the socket could not be removed");
    }
}

/// Only processes of this user are served, whatever the directory's mode became meanwhile.
pub(crate) fn check_peer(stream: &UnixStream) -> Result<(), PeerError> {
    let peer = stream.peer_cred().map_err(PeerError::Unknown)?.uid();
    let own = own_user();
    if peer == own { Ok(()) } else { Err(PeerError::OtherUser { peer, own }) }
}

fn is_private(directory: &Path) -> bool {
    fs::metadata(directory)
        .is_ok_and(|found| found.is_dir() && found.uid() == own_user() && found.mode() & 0o077 == 0)
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
