//! A fabric set up as an administrator does it, by typing commands.

mod clocks;
mod failover;
mod relays;
mod releases;
mod replicas;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use rap_log_postgres::private::{Durability, PrivatePostgres};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::{Lab, Office, Person, Process, Run, Space, person, until};
pub use clocks::Clocks;
pub use relays::{Killed, Used};
pub use replicas::FIRST;
use replicas::control_url;

/// How long a program may take to start, and the fabric to take up a change.
const PATIENCE: Duration = Duration::from_secs(30);
const CONTROL_PORT: u16 = 8443;
const NATS_PORT: u16 = 4222;
/// Where every node listens: the port that networks let TCP out to when they let nothing else out.
pub const NODE_PORT: u16 = 443;
/// What the name of a fabric's folder begins with; the process id follows.
const FOLDER_PREFIX: &str = "rap-e2e-";
/// Every person's.
const PASSWORD: &str = "a password for tests only";
/// Two cores do not carry two fabrics at once.
static TURN: Mutex<()> = Mutex::const_new(());

/// The nodes, by the host that they run on.
pub const NODES: [Space; 3] = [Space::Entry, Space::Relay, Space::Egress];

/// A running fabric with two organizations:
///
/// - `acme` has the resources `demo-ssh` and `demo-web` in the pool `office`, the owner `ada`, the
///   user `alice`, who may reach both resources, and the user `carol`, who may reach nothing;
/// - `beta` has the owner `bob`.
pub struct Fabric {
    // Dropped in this order: programs before what they use, and the folder last.
    agents: BTreeMap<Space, Process>,
    /// The running replicas by their numbers.
    control: BTreeMap<u16, Process>,
    nats: Option<Process>,
    postgres: PrivatePostgres,
    standby: Option<PrivatePostgres>,
    office: Office,
    /// The platform's owner, who sees no organization from within.
    pub owner: Person,
    pub ada: Person,
    pub alice: Person,
    pub carol: Person,
    pub bob: Person,
    lab: Arc<Lab>,
    site: Site,
    _turn: MutexGuard<'static, ()>,
}

/// Where things are.
#[derive(Debug)]
struct Site {
    lab: Arc<Lab>,
    dir: TempDir,
    /// The folder of what is started next.
    programs: PathBuf,
    database: String,
    /// Where the agents' recording driver sends to.
    recording: Option<String>,
    /// The replicas that nodes are told of.
    told: Vec<u16>,
}

impl Fabric {
    /// Starts everything, or says why this machine does not let us.
    ///
    /// # Panics
    /// When a program fails.
    pub async fn start() -> Result<Self, String> {
        Self::start_on(|_| Ok(())).await
    }

    /// The same on a network that `change` has changed first.
    ///
    /// # Panics
    /// When a program fails.
    pub async fn start_on(change: impl FnOnce(&Lab) -> Result<(), String>) -> Result<Self, String> {
        Self::start_with(change, programs(), None).await
    }

    /// The same with agents that send what the recording driver sends to `port` of their loopback.
    ///
    /// # Panics
    /// When a program fails.
    pub async fn start_recording(port: u16) -> Result<Self, String> {
        Self::start_with(|_| Ok(()), programs(), Some(format!("127.0.0.1:{port}"))).await
    }

    async fn start_with(
        change: impl FnOnce(&Lab) -> Result<(), String>,
        programs: PathBuf,
        recording: Option<String>,
    ) -> Result<Self, String> {
        let turn = TURN.lock().await;
        let lab = Arc::new(Lab::build()?);
        change(&lab)?;
        sweep();
        let prefix = format!("{FOLDER_PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder for us");
        // PostgreSQL and nginx run as other users.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our folder");
        fs::create_dir(dir.path().join("logs")).expect("our folder");
        let postgres =
            PrivatePostgres::start(&dir.path().join(failover::PRIMARY), Durability::Safe)
                .await
                .map_err(|error| error.to_string())?;
        let database = postgres.create_log("rap").await.map_err(|error| error.to_string())?;
        let site = Site { lab: lab.clone(), dir, programs, database, recording, told: Vec::new() };
        let office = Office::open(&lab, site.dir.path(), &site.logs());
        let nats = site.start_nats().await;
        let mut control = site.start_control(FIRST);
        let code = control.says("its setup code", PATIENCE, |line| word(line, "rapsetup_")).await;
        let ca = control.says("its CA's fingerprint", PATIENCE, |line| word(line, "sha256:")).await;
        let person = |name: &str| site.person(name, &ca);
        let mut fabric = Self {
            agents: BTreeMap::new(),
            control: [(FIRST, control)].into(),
            nats: Some(nats),
            postgres,
            standby: None,
            office,
            owner: person("owner"),
            ada: person("ada"),
            alice: person("alice"),
            carol: person("carol"),
            bob: person("bob"),
            lab,
            site,
            _turn: turn,
        };
        fabric.set_up(&code).await;
        for space in NODES {
            fabric.enroll(space).await;
        }
        fabric.create_resources().await;
        fabric.settle().await;
        Ok(fabric)
    }

    pub fn lab(&self) -> &Arc<Lab> {
        &self.lab
    }

    pub fn office(&self) -> &Office {
        &self.office
    }

    /// Has a second relay join, and waits until every node knows of it.
    pub async fn add_relay(&mut self) {
        self.enroll(Space::Spare).await;
        self.settle().await;
    }

    /// Has a third one join beyond the second, and waits until every node knows of it.
    pub async fn add_third_relay(&mut self) {
        self.enroll(Space::Third).await;
        self.settle().await;
    }

    /// The agent that runs on a host.
    pub fn agent(&mut self, space: Space) -> &mut Process {
        self.agents.get_mut(&space).expect("every node has an agent")
    }

    /// The folder in which the agent of a host keeps its state.
    pub fn agent_state(&self, space: Space) -> PathBuf {
        self.site.agent_state(space)
    }

    /// The folder in which control keeps its keys.
    pub fn control_state(&self) -> PathBuf {
        self.site.control_state(FIRST)
    }

    pub fn control_url(&self) -> String {
        control_url(FIRST)
    }

    /// The folder for the output of programs.
    pub fn logs(&self) -> PathBuf {
        self.site.logs()
    }

    /// A folder of the test's own.
    pub fn scratch(&self) -> PathBuf {
        let dir = self.site.dir.path().join("scratch");
        fs::create_dir_all(&dir).expect("our folder");
        dir
    }

    /// Starts the agent of a host that has joined.
    pub fn start_agent(&mut self, space: Space) {
        self.start_agent_on(space, &Clocks::True);
    }

    /// The same on other clocks.
    pub fn start_agent_on(&mut self, space: Space, clocks: &Clocks) {
        let agent = self.site.start_agent(space, clocks);
        self.agents.insert(space, agent);
    }

    /// The process of the agent of a host.
    ///
    /// # Panics
    /// When none runs there.
    pub fn agent_process(&self, space: Space) -> u32 {
        let is_agent = |id: &u32| {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            name.trim() == "rap-node-agent"
        };
        let id = self.lab.processes(space).into_iter().find(is_agent);
        id.expect("an agent runs on the host")
    }

    /// Sends a signal to the agent of a host.
    ///
    /// # Panics
    /// When none runs there.
    pub fn signal_agent(&self, space: Space, signal: Signal) {
        let id = Pid::from_raw(self.agent_process(space).cast_signed());
        kill_process(id.expect("no process is number 0"), signal).expect("it is ours");
    }

    /// What the agent of a host says of itself; `None` when it does not answer.
    pub async fn agent_status(&self, space: Space) -> Option<Value> {
        let state = self.agent_state(space).to_string_lossy().into_owned();
        let status = self.node_agent(space, &["status", "-o", "json", "--state-dir", &state]).await;
        serde_json::from_str(&status.stdout).ok()
    }

    /// Runs `rap-node-agent` on a host to its end.
    pub async fn node_agent(&self, space: Space, arguments: &[&str]) -> Run {
        let mut command = self.site.command(space, "rap-node-agent");
        command.args(arguments);
        person::run(command, "").await
    }

    /// Kills control, NATS and PostgreSQL at once.
    pub async fn kill_authority(&mut self) {
        for mut program in std::mem::take(&mut self.control).into_values().chain(self.nats.take()) {
            program.kill().await;
        }
        self.postgres.kill().await;
    }

    /// Starts control, NATS and PostgreSQL again and waits until they answer.
    pub async fn restart_authority(&mut self) {
        self.postgres.restart().await.expect("PostgreSQL recovers");
        self.nats = Some(self.site.start_nats().await);
        self.control.insert(FIRST, self.site.start_control(FIRST));
        self.await_control().await;
    }

    /// Waits until every agent runs on the newest snapshot of its node.
    pub async fn settle(&self) {
        until("every agent has the newest snapshot", PATIENCE, async || {
            let nodes = items(&self.owner.rap(&["node", "ls", "-o", "json"]).await.json());
            for space in self.agents.keys() {
                let state = self.agent_state(*space).to_string_lossy().into_owned();
                let words = ["status", "-o", "json", "--state-dir", &state];
                let status = self.node_agent(*space, &words).await;
                let status: Value = serde_json::from_str(&status.stdout).ok()?;
                let node = nodes.iter().find(|node| node["id"] == status["node"])?;
                let newest = node["snapshotVersion"].as_u64()?;
                (status["snapshot"]["version"].as_u64()? >= newest).then_some(())?;
            }
            Some(())
        })
        .await;
    }

    /// The log's events, oldest first: what the platform's owner and the owners of the two
    /// organizations see.
    pub async fn audit(&self) -> Vec<Value> {
        let mut events = Vec::new();
        for person in [&self.owner, &self.ada, &self.bob] {
            events.extend(items(&person.rap(&["audit", "log", "-o", "json"]).await.json()));
        }
        // Who owns an organization sees some of what belongs to none.
        events.sort_by_key(|event| event["position"].as_u64());
        events.dedup_by_key(|event| event["position"].as_u64());
        events
    }

    /// Has control write the events before a position into a folder.
    pub async fn archive(&self, before: u64, folder: &Path) -> Run {
        let mut command = self.site.command(Space::Control, "rap-control");
        command.args(["archive", "--before", &before.to_string()]).arg(folder);
        command.arg("--state-dir").arg(self.control_state());
        command.env("RAP_CONTROL_DATABASE", &self.site.database);
        person::run(command, "").await
    }

    /// The first event for which `pick` is true, once it is there.
    pub async fn event(&self, what: &str, pick: impl Fn(&Value) -> bool) -> Value {
        until(what, PATIENCE, async || self.audit().await.into_iter().find(&pick)).await
    }

    /// The id of a thing that `rap <noun> get <name>` shows.
    pub async fn id(&self, noun: &str, name: &str) -> String {
        let shown = self.ada.rap(&[noun, "get", name, "-o", "json"]).await.json();
        shown["id"].as_str().unwrap_or_else(|| panic!("no id in {shown}")).to_owned()
    }

    /// Has `person` create a join token and returns the words behind `rap-node-agent` of its join
    /// line.
    pub async fn join_line(&self, person: &Person, arguments: &[&str]) -> Vec<String> {
        let created = [&["token", "join", "create"], arguments].concat();
        let printed = person.rap(&created).await.ok();
        let line = printed.lines().find_map(|line| line.split_once("rap-node-agent join "));
        let (_, line) = line.unwrap_or_else(|| panic!("no join line in:\n{printed}"));
        ["join"].into_iter().chain(line.split_whitespace()).map(str::to_owned).collect()
    }

    async fn await_control(&self) {
        until("control answers", PATIENCE, async || {
            (self.owner.rap(&["status", "--check"]).await.code == 0).then_some(())
        })
        .await;
    }

    async fn set_up(&self, code: &str) {
        let words = ["setup", "--user", "owner", "--code", code, "--password-stdin"];
        self.owner.rap_with_input(&words, PASSWORD).await.ok();
        let people = [
            (&self.ada, "ada"),
            (&self.alice, "alice"),
            (&self.carol, "carol"),
            (&self.bob, "bob"),
        ];
        for (person, name) in people {
            let words = ["user", "create", name, "--password-stdin"];
            self.owner.rap_with_input(&words, PASSWORD).await.ok();
            let words = ["login", "--user", name, "--password-stdin"];
            person.rap_with_input(&words, PASSWORD).await.ok();
        }
        for (organization, owner) in [("acme", "ada"), ("beta", "bob")] {
            self.owner.rap(&["org", "create", organization, "--owner", owner]).await.ok();
        }
        for user in ["alice", "carol"] {
            self.ada.rap(&["org", "set-member", "acme", user, "organization_user"]).await.ok();
        }
        self.ada.rap(&["pool", "create", "office"]).await.ok();
    }

    /// The entry is approved by hand, the others by their token.
    async fn enroll(&mut self, space: Space) {
        let (person, words): (_, &[&str]) = match space {
            Space::Entry => (&self.owner, &["--role", "entry-node", "--host", "entry"]),
            Space::Relay | Space::Spare | Space::Third => {
                (&self.owner, &["--role", "relay-node", "--auto-approve"])
            }
            _ => {
                let words = &[
                    "--organization",
                    "acme",
                    "--role",
                    "stream-worker",
                    "--pool",
                    "office",
                    "--auto-approve",
                ];
                (&self.ada, words)
            }
        };
        let line = self.join_line(person, words).await;
        let mut command = self.site.command(space, "rap-node-agent");
        command.args(&line).args(self.site.join_options(space, &self.agent_state(space)));
        let mut joining = Process::start(&format!("join-{}", space.name()), command, &self.logs());
        if space == Space::Entry {
            let fingerprint = joining.says("its fingerprint", PATIENCE, fingerprint).await;
            let words = ["node", "approve", space.name(), "--fingerprint", &fingerprint];
            self.owner.rap(&words).await.ok();
        }
        let joined = until("the node has joined", PATIENCE, async || joining.ended()).await;
        assert!(joined.success(), "{space:?} did not join: {}", joining.output());
        self.start_agent(space);
    }

    async fn create_resources(&self) {
        let office = Space::Office.address();
        for (name, kind, port) in [("demo-ssh", "ssh", 22), ("demo-web", "web", 80)] {
            let target = format!("{office}:{port}");
            let words = [
                "resource", "create", name, "--kind", kind, "--target", &target, "--pool", "office",
            ];
            self.ada.rap(&words).await.ok();
        }
        let words = [
            "policy",
            "create",
            "staff",
            "--user",
            "alice",
            "--resource",
            "demo-ssh",
            "--resource",
            "demo-web",
        ];
        self.ada.rap(&words).await.ok();
    }
}

impl Site {
    fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    fn control_state(&self, number: u16) -> PathBuf {
        self.dir.path().join(replicas::name(number))
    }

    fn agent_state(&self, space: Space) -> PathBuf {
        self.dir.path().join(format!("agent-{}", space.name()))
    }

    fn person(&self, name: &str, ca: &str) -> Person {
        let home = self.dir.path().join("home").join(name);
        let variables = [("RAP_CONTROL", control_url(FIRST)), ("RAP_CA", ca.to_owned())];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        Person::new(self.lab.clone(), home, &self.programs, variables.into())
    }

    fn command(&self, space: Space, program: &str) -> Command {
        let path = self.programs.join(program);
        assert!(path.is_file(), "{} is missing: cargo build --workspace --bins", path.display());
        self.lab.command(space, &path.to_string_lossy())
    }

    async fn start_nats(&self) -> Process {
        let config = self.dir.path().join("nats.conf");
        if !config.exists() {
            let mut configure = self.command(Space::Control, "rap-control");
            configure.args(["nats-config", "--state-dir"]).arg(self.control_state(FIRST));
            configure.arg("--listen").arg(format!("{}:{NATS_PORT}", Space::Control.address()));
            configure.arg("--resolver-dir").arg(self.dir.path().join("nats-accounts"));
            fs::write(&config, person::run(configure, "").await.ok()).expect("our folder");
        }
        let mut command = self.lab.command(Space::Control, "/usr/sbin/nats-server");
        command.arg("-c").arg(config);
        Process::start("nats", command, &self.logs())
    }

    fn start_control(&self, number: u16) -> Process {
        Process::start(&replicas::name(number), self.control(number, &["run"]), &self.logs())
    }

    /// `rap-control` with the flags of a replica.
    fn control(&self, number: u16, words: &[&str]) -> Command {
        let mut command = self.command(Space::Control, "rap-control");
        command.args(words).arg("--state-dir").arg(self.control_state(number));
        command.args(["--listen", &format!("0.0.0.0:{}", CONTROL_PORT + number)]);
        command.args(["--name", &Space::Control.address().to_string()]);
        for told in &self.told {
            command.args(["--server", &control_url(*told)]);
        }
        command.args(["--nats", &format!("nats://{}:{NATS_PORT}", Space::Control.address())]);
        command.env("RAP_CONTROL_DATABASE", &self.database);
        command
    }

    fn start_agent(&self, space: Space, clocks: &Clocks) -> Process {
        let mut command = self.on_clocks(space, "rap-node-agent", clocks);
        if let Some(to) = &self.recording {
            command.env("RAP_NODE_RECORDING_DRIVER_FOR_TESTS", to);
        }
        command.args(["run", "--state-dir"]).arg(self.agent_state(space));
        command.args(["--listen", &format!("0.0.0.0:{NODE_PORT}")]);
        command.args(["--advertise", &format!("{}:{NODE_PORT}", space.address())]);
        command.arg("--worker").arg(self.programs.join("rap-stream-worker"));
        Process::start(&format!("agent-{}", space.name()), command, &self.logs())
    }

    /// What follows a join line on a host.
    fn join_options(&self, space: Space, state: &Path) -> Vec<String> {
        let (listen, own) =
            (format!("0.0.0.0:{NODE_PORT}"), format!("{}:{NODE_PORT}", space.address()));
        let state = state.to_string_lossy();
        let words = [
            "--name",
            space.name(),
            "--listen",
            &listen,
            "--advertise",
            &own,
            "--state-dir",
            &state,
        ];
        words.map(str::to_owned).into()
    }
}

/// Removes the folders that killed processes left behind.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(FOLDER_PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else { continue };
        if !fs::exists(format!("/proc/{owner}")).unwrap_or(true) {
            // Another user's is for that user to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The items of a list, whether it came bare or as a page.
pub fn items(list: &Value) -> Vec<Value> {
    let bare = list.as_array().or_else(|| list["items"].as_array());
    bare.cloned().unwrap_or_else(|| panic!("not a list: {list}"))
}

/// The folder of the fabric's programs.
pub fn programs() -> PathBuf {
    std::env::var_os("RAP_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let own = std::env::current_exe().expect("a running program has a file");
        let folder = own.parent().expect("a file has a folder");
        let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
        folder.expect("a folder has a parent").to_owned()
    })
}

/// The word in `line` that begins so.
fn word(line: &str, prefix: &str) -> Option<String> {
    let start = line.find(prefix)?;
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
    Some(line[start..].chars().take_while(|c| letter(*c)).collect())
}

/// The 64 hexadecimal digits in `line`.
fn fingerprint(line: &str) -> Option<String> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    let digits = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    words.into_iter().find(digits).map(str::to_owned)
}
