//! A relay between one control server and its database. It can freeze: to the server it is as if it
//! were paused, or as if its network were cut. And it can lead to another database.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// What begins an append, and nothing else that the server says to its database.
const BEGIN: &[u8] = b"BEGIN";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Freezes at the next append, before the database hears of it.
    FreezeAtAppend,
    Frozen,
}

pub(crate) struct Relay {
    folder: TempDir,
    mode: watch::Sender<Mode>,
    /// The socket of the database.
    target: watch::Sender<PathBuf>,
}

impl Relay {
    /// In front of the server whose socket is `target`.
    pub(crate) fn start(target: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let ((mode, _), (target, mut leads)) = (watch::channel(Mode::Pass), watch::channel(target));
        let shared = mode.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let to = leads.borrow_and_update().clone();
                let Ok(server) = UnixStream::connect(to).await else { continue };
                let (mut leads, mode) = (leads.clone(), shared.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = leads.changed() => {}
                        () = relay(client, server, mode) => {}
                    }
                });
            }
        });
        Self { folder, mode, target }
    }

    /// Ends every connection; from now on they lead to another socket.
    pub(crate) fn lead_to(&self, target: PathBuf) {
        self.target.send_replace(target);
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(self.folder.path(), database)
    }

    pub(crate) fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// Freezes when the server next begins an append.
    pub(crate) fn freeze_at_append(&self) {
        self.mode.send_replace(Mode::FreezeAtAppend);
    }

    pub(crate) async fn frozen(&self) {
        self.mode.subscribe().wait_for(|mode| *mode == Mode::Frozen).await.unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

pub(crate) fn url(folder: &Path, database: &str) -> String {
    format!("postgres://rap_server@{}/{database}", folder.to_str().unwrap().replace('/', "%2F"))
}

async fn relay(mut client: UnixStream, mut server: UnixStream, mode: watch::Sender<Mode>) {
    let mut changes = mode.subscribe();
    let (mut said, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                if said[..length].windows(BEGIN.len()).any(|window| window == BEGIN) {
                    mode.send_if_modified(|mode| {
                        let freezes = *mode == Mode::FreezeAtAppend;
                        if freezes {
                            *mode = Mode::Frozen;
                        }
                        freezes
                    });
                }
                changes.wait_for(|mode| *mode != Mode::Frozen).await.unwrap();
                if server.write_all(&said[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                changes.wait_for(|mode| *mode != Mode::Frozen).await.unwrap();
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
