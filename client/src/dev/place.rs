//! The one folder of a development fabric, and what it remembers between starts.

use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
};

use rap_proto::api::SecretText;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{failure::Failure, home, random};

const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
/// How many ports are tried for one that is free on both carriers.
const MAX_PORT_TRIES: u32 = 16;

/// Where everything is.
pub(super) struct Place {
    root: PathBuf,
    /// Removed with everything in it, when nothing is to be kept.
    temporary: Option<TempDir>,
}

/// What a later start needs: who there is, and where everybody listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remembered {
    pub(super) ports: Ports,
    pub(super) owner_password: SecretText,
    pub(super) user_password: SecretText,
}

/// All on 127.0.0.1. Nodes are told to each other by address, so these must stay.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) control: u16,
    pub(super) entry: u16,
    pub(super) relay: u16,
    pub(super) egress: u16,
    pub(super) web: u16,
    pub(super) ssh: u16,
}

impl Place {
    /// A folder that is kept, or a temporary one.
    pub(super) fn prepare(data_dir: Option<&Path>) -> Result<Self, Failure> {
        let place = match data_dir {
            Some(folder) => {
                make_kept(folder)?;
                let root = fs::canonicalize(folder).map_err(|error| {
                    Failure::io(format!("cannot use {}", folder.display()), &error)
                })?;
                Self { root, temporary: None }
            }
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("rap-dev-")
                    .tempdir()
                    .map_err(|error| Failure::io("there is no temporary folder", &error))?;
                Self { root: folder.path().to_owned(), temporary: Some(folder) }
            }
        };
        home::make_private(&place.home())?;
        Ok(place)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// The `RAP_HOME` of whoever tries the fabric.
    pub(super) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The adapter worker: this very program under the worker's name, so that there is nothing
    /// else to install.
    pub(super) fn worker(&self) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| Failure::io("the worker cannot be made", &error);
        let program = env::current_exe().map_err(failed)?;
        let link = self.root.join(super::WORKER_NAME);
        // It may lead to where the program was at the last start.
        home::remove(&link)?;
        symlink(program, &link).map_err(failed)?;
        Ok(link)
    }

    /// What the first start chose; this may be the first.
    pub(super) fn remembered(&self) -> Result<Remembered, Failure> {
        if let Some(content) = home::read_private(&self.memory())? {
            return serde_json::from_slice(&content).map_err(|_| {
                Failure::usage(format!("{} is damaged", self.memory().display()))
                    .hint("choose another --data-dir, or remove this one to begin anew")
            });
        }
        let chosen = Remembered {
            ports: Ports::choose()?,
            owner_password: SecretText::new(random::hex()),
            user_password: SecretText::new(random::hex()),
        };
        let content = serde_json::to_vec_pretty(&chosen)
            .map_err(|_| Failure::usage("the fabric's state cannot be written"))?;
        home::write_private(&self.memory(), &content)?;
        Ok(chosen)
    }

    fn memory(&self) -> PathBuf {
        self.root.join("dev.json")
    }
}

/// A server that runs as another user must be able to pass through; what is in the folder keeps
/// everybody out by itself.
fn make_kept(folder: &Path) -> Result<(), Failure> {
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(|error| Failure::io(format!("cannot make {}", folder.display()), &error))
}

impl Ports {
    /// Ports that are free now. All are held until the last is found, so no two are the same.
    pub(super) fn choose() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::io("there is no free port", &error);
        let tcp = || TcpListener::bind(ANY_PORT).map_err(failed);
        let mesh = || tried(both).map_err(failed);
        let port =
            |address: io::Result<SocketAddr>| address.map(|address| address.port()).map_err(failed);
        let (control, web, ssh) = (tcp()?, tcp()?, tcp()?);
        let (entry, relay, egress) = (mesh()?, mesh()?, mesh()?);
        Ok(Self {
            control: port(control.local_addr())?,
            entry: port(entry.0.local_addr())?,
            relay: port(relay.0.local_addr())?,
            egress: port(egress.0.local_addr())?,
            web: port(web.local_addr())?,
            ssh: port(ssh.local_addr())?,
        })
    }
}

/// One port for both carriers: the mesh listens on UDP and on TCP.
fn both() -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(ANY_PORT)?;
    let tcp = TcpListener::bind(udp.local_addr()?)?;
    Ok((udp, tcp))
}

/// Somebody else may have the port of one carrier: then the system names another one.
fn tried<T>(mut once: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let tries = (1..MAX_PORT_TRIES).find_map(|_| once().ok());
    tries.map_or_else(once, Ok)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_carriers_share_a_port_and_so_many_are_tried() {
        let (udp, tcp) = tried(both).unwrap();
        assert_eq!(udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let mut tries = 0;
        let taken = || {
            tries += 1;
            Err::<(), _>(io::ErrorKind::AddrInUse.into())
        };
        assert_eq!(tried(taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(tries, MAX_PORT_TRIES);
    }
}
