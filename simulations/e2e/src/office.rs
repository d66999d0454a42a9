//! The private machine behind the egress: Debian's `sshd` and `nginx`, with keys of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinHandle, time::sleep};

use crate::{Lab, Process, Space};

/// What a page of the web server holds.
pub const PAGE: &str = "a page of the office\n";
/// Where the web server finds the event source that it passes on.
const EVENTS_PORT: u16 = 9000;
/// The pause between two events of the event source.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);
/// Where Debian's `sshd` insists on a folder.
const SSHD_FOLDER: &str = "/run/sshd";

/// What runs in the office.
#[derive(Debug)]
pub struct Office {
    dir: PathBuf,
    _sshd: Process,
    _nginx: Process,
    events: JoinHandle<()>,
}

impl Office {
    pub fn open(lab: &Lab, dir: &Path, logs: &Path) -> Self {
        let dir = dir.join("office");
        fs::create_dir_all(dir.join("files")).expect("the test's folder is ours");
        let (sshd, nginx) =
            (start_sshd(lab, Space::Office, &dir, logs), start_nginx(lab, &dir, logs));
        let listener = lab.listen(Space::Office, EVENTS_PORT);
        let listener = TcpListener::from_std(listener).expect("a listening socket");
        let events = tokio::spawn(serve_events(listener));
        Self { dir, _sshd: sshd, _nginx: nginx, events }
    }

    /// The folder with the configuration and keys of its servers.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The private key that opens the ssh account `root`.
    pub fn user_key(&self) -> PathBuf {
        self.dir.join("user_key")
    }

    /// One line for each request that the web server has answered.
    pub fn web_log(&self) -> PathBuf {
        self.dir.join("web.log")
    }

    /// A folder of the office's disk.
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.events.abort();
    }
}

/// Starts an `sshd` on a host's port 22. The keys in `dir` are made when they are not there.
pub fn start_sshd(lab: &Lab, space: Space, dir: &Path, logs: &Path) -> Process {
    for name in ["host_key", "user_key"] {
        if dir.join(name).exists() {
            continue;
        }
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(dir.join(name))
            .stdin(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "ssh-keygen makes a key");
    }
    let config = format!(
        "Port 22\nListenAddress 0.0.0.0\nHostKey {dir}/host_key\nPidFile none\n\
         AuthorizedKeysFile {dir}/user_key.pub\nStrictModes no\nPermitRootLogin yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\n\
         MaxStartups 100\nSubsystem sftp internal-sftp\n",
        dir = dir.display()
    );
    fs::write(dir.join("sshd_config"), config).expect("the test's folder is ours");
    let _ = fs::create_dir(SSHD_FOLDER);
    let mut command = lab.command(space, "/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(dir.join("sshd_config"));
    Process::start(&format!("sshd-{}", space.name()), command, logs)
}

fn start_nginx(lab: &Lab, dir: &Path, logs: &Path) -> Process {
    let pages = dir.join("pages");
    fs::create_dir_all(&pages).expect("the test's folder is ours");
    fs::write(pages.join("index.html"), PAGE).expect("the test's folder is ours");
    // nginx reads pages as another user.
    for folder in [dir, pages.as_path()] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, open).expect("the test's folder is ours");
    }
    let config = format!(
        "daemon off;\npid {dir}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
         access_log {dir}/web.log;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
         server {{\nlisten 80;\nroot {dir}/pages;\n\
         location /events {{ proxy_pass http://127.0.0.1:{EVENTS_PORT}; proxy_buffering off; }}\n\
         }}\n}}\n",
        dir = dir.display()
    );
    fs::write(dir.join("nginx.conf"), config).expect("the test's folder is ours");
    let mut command = lab.command(Space::Office, "/usr/sbin/nginx");
    command.arg("-c").arg(dir.join("nginx.conf")).args(["-e", "stderr"]);
    Process::start("nginx", command, logs)
}

/// Server-sent events, one every [`EVENT_INTERVAL`], for as long as somebody listens.
async fn serve_events(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Cache-Control: no-store\r\nConnection: close\r\n\r\n";
            let mut outcome = stream.write_all(head.as_bytes()).await;
            for number in 1.. {
                if outcome.is_err() {
                    return;
                }
                outcome = stream.write_all(format!("data: tick {number}\n\n").as_bytes()).await;
                sleep(EVENT_INTERVAL).await;
            }
        });
    }
}
