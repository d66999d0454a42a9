//! A private PostgreSQL server: a child of this process in a folder of its own.
//!
//! `rap dev --data-dir` and the tests run on it. It listens on a Unix socket in its own folder
//! and on nothing else; the kernel tells it who connects, so there is no password to keep. It
//! ends with the process that started it, however that ends: a small shell between the two
//! stops the server when its standard input closes.
//!
//! ```text
//! <dir>/data/    the cluster        <dir>/run/    the socket        <dir>/server.log
//! ```

mod account;
mod orphan;
mod programs;
mod small_disk;
mod standby;

use std::{
    fs, io,
    io::{Read as _, Seek as _},
    net::IpAddr,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::ConnectError;
use account::Account;
use programs::Programs;
pub use small_disk::{NotMounted, SmallDisk};

/// The Debian package that holds the programs.
pub const PACKAGE: &str = "postgresql";

/// Owns the databases.
const USER: &str = "rap";
/// What a server connects as.
const SERVER_USER: &str = "rap_server";
/// How long a start may take; recovery after a crash is part of it.
const START_DEADLINE: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(25);
/// How often a server is started again that ended while it was starting: the processes of one
/// that was killed can hold its memory for a moment.
const MAX_STARTS: u32 = 5;
const RESTART_DELAY: Duration = Duration::from_millis(300);
/// A Unix socket's path has room for 107 bytes; PostgreSQL adds `/.s.PGSQL.5432`.
const MAX_SOCKET_FOLDER_BYTES: usize = 90;
/// How much of the server's log an error repeats.
const LOG_TAIL_BYTES: u64 = 1_500;

/// Starts the server in the background and stops it when standard input closes. The server's
/// own exit status is the shell's.
const WATCH: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
( read -r _ <&3; kill -INT "$server" ) &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The disk: what was acknowledged survives a power cut.
    Safe,
    /// Nothing. For tests whose data may be lost.
    Fast,
}

#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    #[error(
        "PostgreSQL's server programs were found neither on PATH nor in /usr/lib/postgresql; \
         install the Debian package `{PACKAGE}`"
    )]
    NotInstalled,
    #[error("{what} {}: {source}", path.display())]
    Folder { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "PostgreSQL refuses to run as root, and the account `{account}` cannot enter {}; \
         choose a folder that it can reach, such as one below /var/lib or /tmp",
        path.display()
    )]
    Unreachable { account: String, path: PathBuf },
    #[error(
        "PostgreSQL refuses to run as root, and this host has neither an account `postgres` nor `nobody`"
    )]
    NoAccount,
    #[error("{program} could not be started: {source}")]
    Program { program: &'static str, source: io::Error },
    #[error("PostgreSQL did not start ({status}): {log}")]
    DidNotStart { status: String, log: String },
    #[error("another PostgreSQL is still running in {} and does not stop", path.display())]
    StillRunning { path: PathBuf },
    #[error("the private PostgreSQL does not answer: {0}")]
    NoAnswer(String),
    #[error(transparent)]
    Schema(#[from] ConnectError),
}

/// A running server. Dropping it stops it and waits until it is gone.
#[derive(Debug)]
pub struct PrivatePostgres {
    dir: PathBuf,
    socket: PathBuf,
    durability: Durability,
    account: Account,
    programs: Programs,
    listen: Option<Listen>,
    child: Option<Child>,
}

/// Where a server also listens with TLS, and by which files it proves itself.
#[derive(Debug, Clone)]
pub struct Listen {
    /// On PostgreSQL's own port.
    pub addresses: Vec<IpAddr>,
    /// In PEM: the server's certificate and those above it.
    pub certificates: String,
    /// In PEM.
    pub key: String,
    /// What the user `rap` has to show there. Plain: no quotes.
    pub password: String,
}

impl PrivatePostgres {
    /// Starts a server on the cluster in `dir`, which is made first if it is not there. When this
    /// process is root, the server runs as `postgres` or `nobody`, and `dir` is given to it.
    pub async fn start(dir: &Path, durability: Durability) -> Result<Self, PrivateError> {
        Self::start_with(dir, durability, None).await
    }

    /// The same, and reachable over TCP with TLS: a stand-in for a server on another machine.
    pub async fn start_with(
        dir: &Path,
        durability: Durability,
        listen: Option<Listen>,
    ) -> Result<Self, PrivateError> {
        let mut server = Self::in_folder(dir, durability, listen)?;
        if !server.data().join("PG_VERSION").exists() {
            server.initialize().await?;
        }
        server.let_in()?;
        server.launch().await?;
        server.create_database(USER).await?;
        server.create_server_role().await?;
        server.set_password().await?;
        Ok(server)
    }

    fn in_folder(
        dir: &Path,
        durability: Durability,
        listen: Option<Listen>,
    ) -> Result<Self, PrivateError> {
        let programs = Programs::find().ok_or(PrivateError::NotInstalled)?;
        let account = Account::choose()?;
        account.make_folder(dir)?;
        let dir = fs::canonicalize(dir).map_err(folder("cannot use", dir))?;
        account.check_reachable(&dir)?;
        let socket = dir.join("run");
        if socket.as_os_str().len() > MAX_SOCKET_FOLDER_BYTES {
            let source = io::Error::other("too long for a Unix socket; choose a shorter path");
            return Err(PrivateError::Folder { what: "cannot use", path: dir, source });
        }
        account.make_folder(&socket)?;
        Ok(Self { dir, socket, durability, account, programs, listen, child: None })
    }

    /// Where the owner of the databases connects, such as `postgres://rap@%2Ftmp%2Fx%2Frun/rap`.
    pub fn url(&self) -> String {
        self.database_url(USER, USER)
    }

    fn database_url(&self, user: &str, database: &str) -> String {
        // A Unix socket's folder stands in the host's place, percent-encoded.
        let mut host = String::new();
        for byte in self.socket.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    host.push(char::from(*byte));
                }
                _ => host.push_str(&format!("%{byte:02X}")),
            }
        }
        format!("postgres://{user}@{host}/{database}")
    }

    /// Makes a database, unless it is there, and returns where it is. `name` is a plain
    /// identifier: `a` to `z`, digits, `_`.
    pub async fn create_database(&self, name: &str) -> Result<String, PrivateError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(PrivateError::NoAnswer(format!("`{name}` is no plain identifier")));
        }
        let client = self.administrator().await?;
        let no_answer = |error: tokio_postgres::Error| PrivateError::NoAnswer(error.to_string());
        let known = client
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
            .await
            .map_err(no_answer)?;
        if known.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {name}")).await.map_err(no_answer)?;
        }
        Ok(self.database_url(USER, name))
    }

    /// Makes a database with the schema of a log, unless it is there, and returns where a server
    /// connects: as a role that cannot change what is stored.
    pub async fn create_log(&self, name: &str) -> Result<String, PrivateError> {
        let owner = self.create_database(name).await?;
        let server = self.database_url(SERVER_USER, name);
        crate::migrate(&owner, &server).await?;
        Ok(server)
    }

    /// Kills every process of the server: nothing is said to anyone and nothing flushed.
    pub async fn kill(&mut self) {
        for process in orphan::processes(&self.data()) {
            orphan::signal(process, rustix::process::Signal::KILL);
        }
        self.wait().await;
    }

    /// Starts the same cluster again after [`Self::kill`] or [`Self::halt`].
    pub async fn restart(&mut self) -> Result<(), PrivateError> {
        self.halt().await;
        self.launch().await
    }

    /// Stops the server in order; [`Self::restart`] starts it again.
    pub async fn halt(&mut self) {
        drop(self.child.as_mut().and_then(|child| child.stdin.take()));
        self.wait().await;
    }

    /// Stops the server in order and waits until it is gone.
    pub async fn stop(mut self) {
        self.halt().await;
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    async fn wait(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // A thread of its own: a child is waited for by blocking.
        let waited = tokio::task::spawn_blocking(move || child.wait()).await;
        if let Ok(Err(error)) = waited {
            tracing::warn!(%error, "the private PostgreSQL's end could not be observed");
        }
    }

    async fn initialize(&self) -> Result<(), PrivateError> {
        let data = self.data();
        // A first start that was interrupted leaves a folder without PG_VERSION.
        if data.exists() {
            fs::remove_dir_all(&data).map_err(folder("cannot clear", &data))?;
        }
        let mut command = Command::new(&self.programs.initdb);
        command
            .args(["--username", USER, "--encoding", "UTF8", "--locale", "C"])
            .args(["--auth-local", "peer", "--auth-host", "reject", "--pgdata"])
            .arg(&data);
        if self.durability == Durability::Fast {
            command.arg("--no-sync");
        }
        self.run("initdb", command).await
    }

    /// Runs one of PostgreSQL's programs to its end, as the server's account.
    async fn run(&self, program: &'static str, mut command: Command) -> Result<(), PrivateError> {
        self.account.apply(&mut command);
        command.current_dir(&self.dir).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .map_err(|error| PrivateError::NoAnswer(error.to_string()))?
            .map_err(|source| PrivateError::Program { program, source })?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(PrivateError::DidNotStart { status: output.status.to_string(), log });
        }
        Ok(())
    }

    async fn launch(&mut self) -> Result<(), PrivateError> {
        orphan::stop(&self.data()).await?;
        let mut starts = 0;
        loop {
            starts += 1;
            match self.launch_once().await {
                Err(PrivateError::DidNotStart { .. }) if starts < MAX_STARTS => {
                    sleep(RESTART_DELAY).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn launch_once(&mut self) -> Result<(), PrivateError> {
        let log = fs::File::create(self.log()).map_err(folder("cannot write", &self.log()))?;
        let errors = log.try_clone().map_err(folder("cannot write", &self.log()))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCH, "rap-private-postgres"]).arg(&self.programs.postgres);
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.socket);
        for setting in self.settings() {
            command.args(["-c", &setting]);
        }
        self.account.apply(&mut command);
        // Its own group: a Ctrl-C at the terminal is for this process, which then stops it.
        command.process_group(0).current_dir(&self.dir);
        command.stdin(Stdio::piped()).stdout(log).stderr(errors);
        let child = command
            .spawn()
            .map_err(|source| PrivateError::Program { program: "postgres", source })?;
        self.child = Some(child);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                let status = status.to_string();
                return Err(PrivateError::DidNotStart { status, log: self.log_tail() });
            }
            if self.administrator().await.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.halt().await;
                let status = format!("no answer within {} s", START_DEADLINE.as_secs());
                return Err(PrivateError::DidNotStart { status, log: self.log_tail() });
            }
            sleep(START_POLL).await;
        }
    }

    /// Writes who may connect, as what, and by what the server proves itself. The kernel says who
    /// somebody on the socket is; over TLS a password does.
    fn let_in(&self) -> Result<(), PrivateError> {
        let own = Account::current_name();
        let ident = format!("here {own} {USER}\nhere {own} {SERVER_USER}\n");
        let mut hba = "local all all peer map=here\n".to_owned();
        let mut files = vec![("pg_ident.conf", &*ident)];
        if let Some(Listen { certificates, key, .. }) = &self.listen {
            hba.push_str("hostssl all all all scram-sha-256\n");
            files.extend([("server.crt", &**certificates), ("server.key", &**key)]);
        }
        files.push(("pg_hba.conf", &hba));
        for (name, content) in files {
            self.account.write_file(&self.data().join(name), content)?;
        }
        Ok(())
    }

    async fn create_server_role(&self) -> Result<(), PrivateError> {
        let no_answer = |error: tokio_postgres::Error| PrivateError::NoAnswer(error.to_string());
        let client = self.administrator().await?;
        let known = "SELECT 1 FROM pg_roles WHERE rolname = $1";
        if client.query_opt(known, &[&SERVER_USER]).await.map_err(no_answer)?.is_none() {
            let make = format!("CREATE ROLE {SERVER_USER} LOGIN");
            client.batch_execute(&make).await.map_err(no_answer)?;
        }
        Ok(())
    }

    async fn set_password(&self) -> Result<(), PrivateError> {
        let Some(Listen { password, .. }) = &self.listen else { return Ok(()) };
        let statement = format!("ALTER ROLE {USER} PASSWORD '{password}'");
        let done = self.administrator().await?.batch_execute(&statement).await;
        done.map_err(|error| PrivateError::NoAnswer(error.to_string()))
    }

    fn settings(&self) -> Vec<String> {
        let listening = match &self.listen {
            None => vec!["listen_addresses=".to_owned()],
            Some(Listen { addresses, .. }) => {
                let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                vec![format!("listen_addresses={}", addresses.join(",")), "ssl=on".to_owned()]
            }
        };
        let fixed = self.fixed_settings().into_iter().map(str::to_owned);
        listening.into_iter().chain(fixed).collect()
    }

    fn fixed_settings(&self) -> Vec<&'static str> {
        let mut settings = vec![
            "unix_socket_permissions=0700",
            "max_connections=100",
            "shared_buffers=32MB",
            "dynamic_shared_memory_type=mmap",
            "logging_collector=off",
            "log_destination=stderr",
            "timezone=UTC",
        ];
        if self.durability == Durability::Fast {
            settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
        }
        settings
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    async fn administrator(&self) -> Result<tokio_postgres::Client, PrivateError> {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(&self.socket)
            .user(USER)
            .dbname("postgres")
            .connect(tokio_postgres::NoTls)
            .await
            .map_err(|error| PrivateError::NoAnswer(error.to_string()))?;
        tokio::spawn(async move {
            // Its errors reach the client's calls as well.
            let _ = connection.await;
        });
        Ok(client)
    }

    fn log_tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(self.log())?;
            let length = file.metadata()?.len();
            file.seek(io::SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_else(|error| format!("its log cannot be read: {error}"))
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        // Whoever removes the folder next must find nobody in it.
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "the private PostgreSQL's end could not be observed");
        }
    }
}

fn folder(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |source| PrivateError::Folder { what, path, source }
}
