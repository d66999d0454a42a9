//! A private `nats-server` as a child process: for tests, and for a whole fabric in one folder.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rap_proto::Timestamp;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    NatsAuthority,
    nats_authority::{InvalidServerConfig, Revocations, ServerOptions},
};

/// How long a server may take to answer its first connection.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Where Debian puts the server, which is not on every user's PATH.
const DEBIAN_PLACE: &str = "/usr/sbin/nats-server";

/// A running server on the loopback, in a folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct PrivateNats {
    dir: PathBuf,
    program: PathBuf,
    scheme: &'static str,
    address: SocketAddr,
    child: Option<Child>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartNatsError {
    #[error("`nats-server` is not installed; Debian's package is `nats-server`")]
    NotInstalled,
    #[error("the folder {dir} of the NATS server cannot be used: {error}")]
    Folder { dir: PathBuf, error: io::Error },
    #[error(transparent)]
    Config(#[from] InvalidServerConfig),
    #[error("`{program}` cannot be started: {error}")]
    Spawn { program: PathBuf, error: io::Error },
    #[error(
        "the NATS server ended or did not answer within {START_TIMEOUT:?}; its last words:\n{log}"
    )]
    NotReady { log: String },
}

impl PrivateNats {
    /// Starts a server for `authority`'s cluster in `dir`, which may hold an earlier one's state:
    /// then on the same port, if that is still free.
    pub async fn start(
        dir: &Path,
        authority: &NatsAuthority,
        revoked: &Revocations,
        now: Timestamp,
    ) -> Result<Self, StartNatsError> {
        let earlier = read(&dir.join("port")).and_then(|text| text.parse::<u16>().ok());
        let options = |port| ServerOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            accounts: absolute(dir).join("accounts"),
            tls: None,
        };
        if let Some(port) = earlier {
            let again = Self::start_with(dir, authority, &options(port), revoked, now).await;
            if !matches!(again, Err(StartNatsError::NotReady { .. })) {
                return again;
            }
        }
        Self::start_with(dir, authority, &options(0), revoked, now).await
    }

    /// Starts a server with chosen options in `dir`, which keeps its configuration, log and port.
    pub async fn start_with(
        dir: &Path,
        authority: &NatsAuthority,
        options: &ServerOptions,
        revoked: &Revocations,
        now: Timestamp,
    ) -> Result<Self, StartNatsError> {
        let program = find_program().ok_or(StartNatsError::NotInstalled)?;
        let dir = absolute(dir);
        let folder = |error| StartNatsError::Folder { dir: dir.clone(), error };
        fs::create_dir_all(&dir).map_err(folder)?;
        end_orphan(&dir);
        let config = authority.server_config(options, revoked, now)?;
        fs::write(dir.join("nats.conf"), config).map_err(folder)?;
        let scheme = if options.tls.is_some() { "tls" } else { "nats" };
        let (address, child) = (options.listen, None);
        let mut server = Self { dir: dir.clone(), program, scheme, address, child };
        server.launch().await?;
        fs::write(dir.join("port"), server.address.port().to_string()).map_err(folder)?;
        Ok(server)
    }

    /// `nats://127.0.0.1:<port>`, or `tls://` where the options asked for it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Kills the server (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill().await;
        }
    }

    /// Starts the server again on the port that it had.
    pub async fn restart(&mut self) -> Result<(), StartNatsError> {
        self.kill().await;
        self.launch().await
    }

    async fn launch(&mut self) -> Result<(), StartNatsError> {
        let folder = |error| StartNatsError::Folder { dir: self.dir.clone(), error };
        let ports = self.dir.join("ports");
        // Files of earlier runs would be taken for this one's.
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir_all(&ports).map_err(folder)?;
        let _ = fs::remove_file(self.dir.join("nats.log"));
        let spawned = Command::new(&self.program)
            .arg("--config")
            .arg(self.dir.join("nats.conf"))
            .arg("--log")
            .arg(self.dir.join("nats.log"))
            .arg("--pid")
            .arg(self.dir.join("pid"))
            .arg("--ports_file_dir")
            .arg(&ports)
            .arg("--port")
            .arg(match self.address.port() {
                0 => "-1".to_owned(),
                port => port.to_string(),
            })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(
            spawned
                .map_err(|error| StartNatsError::Spawn { program: self.program.clone(), error })?,
        );
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline && self.is_running() {
            if let Some(address) = announced(&ports)
                && greets(address).await
            {
                self.address = address;
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
        self.kill().await;
        Err(StartNatsError::NotReady { log: last_lines(&self.dir.join("nats.log")) })
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .chain([PathBuf::from(DEBIAN_PLACE)])
        .find(|program| program.is_file())
}

/// Ends the server that a killed parent left behind in this folder, and no other process: its
/// command line names our configuration.
fn end_orphan(dir: &Path) {
    let Some(pid) = read(&dir.join("pid")).and_then(|text| text.parse::<u32>().ok()) else {
        return;
    };
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let config = dir.join("nats.conf");
    let ours =
        command.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes());
    if ours {
        let _ = std::process::Command::new("kill").arg("-KILL").arg(pid.to_string()).status();
    }
}

/// The address in the file that the server writes once it listens.
fn announced(ports: &Path) -> Option<SocketAddr> {
    let file = fs::read_dir(ports).ok()?.flatten().next()?.path();
    let listed: serde_json::Value = serde_json::from_str(&read(&file)?).ok()?;
    listed["nats"][0].as_str()?.split_once("://")?.1.parse().ok()
}

/// A NATS server speaks first.
async fn greets(address: SocketAddr) -> bool {
    let greeting = async {
        let mut word = [0; 4];
        TcpStream::connect(address).await?.read_exact(&mut word).await?;
        io::Result::Ok(&word == b"INFO")
    };
    matches!(timeout(Duration::from_secs(1), greeting).await, Ok(Ok(true)))
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn last_lines(path: &Path) -> String {
    let text = read(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
