//! The demo ssh server: Debian's sshd with keys that are thrown away.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::{
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use crate::{failure::Failure, home};

const PROGRAMS: [&str; 2] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"];
/// Where Debian's sshd drops its privileges. Only root's needs it, and only root can make it.
const PRIVILEGE_FOLDER: &str = "/run/sshd";
/// How often the folder is made or found before it is given up.
const MAX_HOLDS: usize = 16;
const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// Runs a server and ends it when standard input closes, which happens however this program ends.
const WATCH: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
( read -r _ <&3; kill "$server" ) &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// A running server, for the one user that runs this program.
pub(super) struct DemoSshd {
    child: Child,
    /// While this is open, the server runs.
    hold: Option<ChildStdin>,
    privilege: Option<PrivilegeFolder>,
    pub(super) user: String,
    pub(super) identity: PathBuf,
}

impl DemoSshd {
    /// Starts sshd on `address` with keys in `folder`; `None` and a reason where there is none.
    pub(super) async fn start(
        folder: &Path,
        address: SocketAddr,
    ) -> Result<Result<Self, String>, Failure> {
        let Some(program) = PROGRAMS.iter().map(Path::new).find(|path| path.is_file()) else {
            return Ok(Err("sshd is not installed (Debian's package openssh-server)".to_owned()));
        };
        let Some(user) = user_name() else {
            return Ok(Err("this user has no name".to_owned()));
        };
        home::make_private(folder)?;
        let (host_key, identity) = (folder.join("host_key"), folder.join("user_key"));
        for key in [&host_key, &identity] {
            if let Err(reason) = make_key(key).await {
                return Ok(Err(reason));
            }
        }
        let failed = |error: io::Error| Failure::io("the demo ssh server cannot start", &error);
        let authorized = folder.join("authorized_keys");
        fs::copy(identity.with_extension("pub"), &authorized).map_err(failed)?;
        let config = folder.join("sshd_config");
        fs::write(&config, configuration(address, &host_key, &authorized, &user))
            .map_err(failed)?;
        let privilege = PrivilegeFolder::hold().map_err(failed)?;
        let log = fs::File::create(folder.join("sshd.log")).map_err(failed)?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", WATCH, "sh"])
            .arg(program)
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C on the terminal is for this program alone.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let hold = child.stdin.take();
        let mut server = Self { child, hold, privilege, user, identity };
        if server.answers(address).await {
            Ok(Ok(server))
        } else {
            let log = fs::read_to_string(folder.join("sshd.log")).unwrap_or_default();
            let reason = log.lines().last().unwrap_or("it does not answer").to_owned();
            server.stop().await;
            Ok(Err(format!("sshd did not start: {reason}")))
        }
    }

    async fn answers(&mut self, address: SocketAddr) -> bool {
        let connected = async {
            loop {
                if TcpStream::connect(address).await.is_ok() {
                    return true;
                }
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return false;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(START_TIMEOUT, connected).await.unwrap_or(false)
    }

    pub(super) async fn stop(mut self) {
        drop(self.hold.take());
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            // An error means that it has ended meanwhile.
            let _ = self.child.kill().await;
        }
        if let Some(privilege) = self.privilege.take() {
            privilege.leave();
        }
    }
}

fn configuration(address: SocketAddr, host_key: &Path, authorized: &Path, user: &str) -> String {
    format!(
        "Port {}\n\
         ListenAddress {}\n\
         HostKey \"{}\"\n\
         AuthorizedKeysFile \"{}\"\n\
         AllowUsers {user}\n\
         PermitRootLogin prohibit-password\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         UsePAM no\n\
         StrictModes no\n\
         PidFile none\n\
         PrintMotd no\n\
         LogLevel ERROR\n\
         Subsystem sftp internal-sftp\n",
        address.port(),
        address.ip(),
        host_key.display(),
        authorized.display(),
    )
}

/// Makes a key pair, unless an earlier start did.
async fn make_key(path: &Path) -> Result<(), String> {
    if path.is_file() {
        return Ok(());
    }
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "rap dev", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ssh-keygen failed: {status}")),
        Err(_) => Err("ssh-keygen is not installed (Debian's package openssh-client)".to_owned()),
    }
}

/// sshd's own folder, which every server of this machine needs at each connection. Each fabric
/// holds a lock on it, so that the one that made it removes it only when it is the last.
struct PrivilegeFolder {
    locked: fs::File,
    made: bool,
}

impl PrivilegeFolder {
    /// `None` where sshd needs none: it drops no privileges that it does not have.
    fn hold() -> io::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        for _ in 0..MAX_HOLDS {
            let made = match fs::create_dir(PRIVILEGE_FOLDER) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error),
            };
            let opened = fs::File::open(PRIVILEGE_FOLDER);
            if let Ok(locked) = opened
                && flock(&locked, FlockOperation::LockShared).is_ok()
                && is_still_there(&locked)
            {
                if made {
                    fs::set_permissions(PRIVILEGE_FOLDER, fs::Permissions::from_mode(0o755))?;
                }
                return Ok(Some(Self { locked, made }));
            }
            // Another fabric left and removed it in between.
        }
        Err(io::Error::other(format!("{PRIVILEGE_FOLDER} comes and goes")))
    }

    fn leave(self) {
        let alone = flock(&self.locked, FlockOperation::NonBlockingLockExclusive).is_ok();
        if self.made && alone {
            let _ = fs::remove_dir(PRIVILEGE_FOLDER);
        }
    }
}

/// Whether the folder that was opened is the one that has the name now.
fn is_still_there(opened: &fs::File) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|known| known.ino()).ok();
    let now = inode(fs::metadata(PRIVILEGE_FOLDER));
    now.is_some() && now == inode(opened.metadata())
}

/// The name of the user that runs this program.
fn user_name() -> Option<String> {
    let own = rustix::process::geteuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let of_own = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == own).then(|| name.to_owned())
    };
    users.lines().find_map(of_own)
}
