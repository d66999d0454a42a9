//! `rap dev` end to end, with nothing but this program.

mod people;

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Person, RAP, Run, run};

/// A development fabric is ready within that, also on a busy machine.
pub(crate) const READY: Duration = Duration::from_secs(90);
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A running `rap dev`.
pub(crate) struct Fabric {
    child: Child,
    home: PathBuf,
    ready: serde_json::Value,
}

impl Fabric {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Person::new().command(RAP);
        command.args(["dev", "-o", "json"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let told = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                text.push_str(&line);
                if line == "}" {
                    let _ = sender.send(text);
                    return;
                }
            }
        });
        let Ok(text) = receiver.recv_timeout(READY) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("rap dev is not ready: {}", told.join().unwrap());
        };
        let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
        let home = PathBuf::from(ready["home"].as_str().unwrap());
        Self { child, home, ready }
    }

    pub(crate) fn alice(&self) -> Person {
        Person::at(self.home.clone())
    }

    fn admin(&self, words: &[&str]) -> Run {
        self.alice().rap(&[&["--profile", "admin"], words].concat())
    }

    pub(crate) fn has_ssh(&self) -> bool {
        self.ready["resources"].as_array().unwrap().iter().any(|name| name == "demo-ssh")
    }

    /// Asks it to end as Ctrl-C does, and waits for that.
    fn stop(mut self) {
        signal(&self.child, Signal::INT);
        let status = wait(&mut self.child);
        assert!(status.success(), "{status}");
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A failed test leaves nothing behind either.
            signal(&self.child, Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

#[track_caller]
pub(crate) fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the program does not end");
        thread::park_timeout(POLL);
    }
}

/// `rap connect` to a resource.
struct Forward {
    child: Child,
    address: String,
}

impl Forward {
    fn start(person: &Person, resource: &str) -> Self {
        let mut command = person.command(RAP);
        let mut child = command
            .args(["connect", resource, "--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        let address = address.split(';').next().unwrap().to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks for the stream of events, whose answer never ends.
    fn follow(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: demo\r\n\r\n").unwrap();
        stream
    }
}

#[track_caller]
fn is_answered(stream: &mut TcpStream) {
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

impl Drop for Forward {
    fn drop(&mut self) {
        signal(&self.child, Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn a_newcomer_reaches_the_demo_and_nothing_stays_behind() {
    let fabric = Fabric::start(&[]);
    let alice = fabric.alice();
    let root = fabric.home.parent().unwrap().to_owned();

    log_in(&fabric);
    let listed = alice.rap(&["ls"]).ok();
    assert!(listed.starts_with("NAME"), "{listed}");
    assert!(listed.contains("demo-web") && listed.contains("web"), "{listed}");
    assert_eq!(alice.rap(&["status", "--check"]).code, 0);

    browse(&alice);
    crowd(&alice);
    if fabric.has_ssh() {
        use_ssh(&alice, &root);
    } else {
        rap_skips::skip("the ssh part of rap dev", "no sshd is installed");
    }
    administer(&fabric);
    people::reach(&fabric);
    people::act(&fabric);
    people::forget(&fabric);
    rule_the_mesh(&fabric);
    withdraw(&fabric);

    fabric.stop();
    assert!(!root.exists(), "{} stayed behind", root.display());
}

fn log_in(fabric: &Fabric) {
    let alice = fabric.alice();
    alice.rap(&["logout"]).ok();
    alice.rap(&["ls"]).fails(3);
    let said = fabric.alice().with("RAP_PASSWORD", "not this one").rap(&["login", "-u", "alice"]);
    assert!(said.fails(3).contains("credentials"), "a wrong password is told");
    let password = fabric.ready["password"].as_str().unwrap();
    fabric.alice().with("RAP_PASSWORD", password).rap(&["login", "--user", "alice"]).ok();
}

fn browse(alice: &Person) {
    let forward = Forward::start(alice, "demo-web");
    for _ in 0..3 {
        let page = forward.get("/");
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("It works"), "{page}");
    }
    let requests: Vec<_> = thread::scope(|scope| {
        let one = || forward.get("/");
        let started: Vec<_> = (0..20).map(|_| scope.spawn(one)).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(requests.iter().all(|page| page.contains("It works")));
    // An event arrives while the stream goes on.
    let mut lines = BufReader::new(forward.follow()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "data: tick 1"));
}

/// More local connections than one program carries: one too many waits for its turn.
fn crowd(alice: &Person) {
    const MOST: usize = 240;
    let forward = Forward::start(alice, "demo-web");
    let mut streams: Vec<_> = (0..MOST).map(|_| forward.follow()).collect();
    streams.iter_mut().for_each(is_answered);
    let mut waiting = forward.follow();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = waiting.read(&mut [0]);
    assert!(early.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it was answered");
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(streams.pop());
    is_answered(&mut waiting);
}

fn use_ssh(alice: &Person, root: &Path) {
    let kernel = run(Command::new("uname").arg("-a")).ok();
    assert_eq!(alice.rap(&["ssh", "demo-ssh", "--", "uname", "-a"]).ok(), kernel);
    assert_eq!(alice.rap(&["ssh", "demo-ssh", "--", "exit 7"]).code, 7);

    let config = root.join("ssh_config");
    std::fs::write(&config, alice.rap(&["ssh-config"]).ok()).unwrap();
    let (sent, back) = (root.join("sent"), root.join("back"));
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    std::fs::write(&sent, &content).unwrap();
    let there = root.join("there");
    for (from, to) in [
        (sent.display().to_string(), format!("demo-ssh.rap:{}", there.display())),
        (format!("demo-ssh:{}", there.display()), back.display().to_string()),
    ] {
        run(alice.command("scp").args(["-q", "-F"]).arg(&config).args([from, to])).ok();
    }
    assert!(std::fs::read(&back).unwrap() == content, "the file came back changed");
}

fn administer(fabric: &Fabric) {
    let nodes = fabric.admin(&["node", "ls"]).ok();
    for node in ["entry", "relay", "egress"] {
        assert!(nodes.contains(node), "{nodes}");
    }
    fabric.alice().rap(&["audit", "log"]);
    let nodes: serde_json::Value =
        serde_json::from_str(&fabric.admin(&["node", "ls", "-o", "json"]).ok()).unwrap();
    assert_eq!(nodes.as_array().unwrap().len(), 3);
    let yaml = fabric.admin(&["resource", "get", "demo-web", "-o", "yaml"]).ok();
    assert!(yaml.contains("allowLocal: true"), "{yaml}");

    let created = fabric.admin(&["pool", "create", "attic"]).ok();
    assert!(created.contains("attic"), "{created}");
    fabric.admin(&["pool", "create", "attic"]).fails(6);
    fabric.admin(&["pool", "rm", "attic"]).ok();
    fabric.admin(&["pool", "get", "attic"]).fails(5);
    fabric.alice().rap(&["pool", "create", "mine"]).fails(4);

    let line = fabric.admin(&["token", "join", "create", "--role", "relay-node"]).ok();
    assert!(line.contains("rap-node-agent join --control https://") && line.contains("rapj_"));
    let log = fabric.admin(&["audit", "log", "--since", "1h"]).ok();
    for event in ["organization.created", "node.approved", "session.started"] {
        assert!(log.contains(event), "{event} is not in\n{log}");
    }
    let replay = fabric.admin(&["audit", "replay", "-o", "json"]).ok();
    assert!(replay.contains("\"equal\": true"), "{replay}");
    let rebuild = fabric.admin(&["audit", "rebuild", "-o", "json"]).ok();
    assert!(rebuild.contains("\"state\": \"same\""), "{rebuild}");
    assert_eq!(fabric.admin(&["audit", "rebuild", "--status", "-o", "json"]).ok(), rebuild);
    audit_offline(fabric);
    follow_the_log(fabric);
}

/// What the platform's owner says of weights is what a node answers that it weighs by.
fn rule_the_mesh(fabric: &Fabric) {
    let words = ["mesh", "set", "--platform", "--class", "interactive", "latency=99"];
    let set = fabric.admin(&words).ok();
    assert!(set.contains("latency=99"), "{set}");
    fabric.alice().rap(&words).fails(4);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A busy node can answer too late.
        let why = fabric.admin(&["why", "egress", "--from", "entry"]);
        let weights = "weights for interactive: bandwidth 2, latency 99,";
        if why.code == 0 && why.stdout.contains(weights) {
            break;
        }
        assert!(Instant::now() < deadline, "it weighs by other weights:\n{why:?}");
        thread::park_timeout(POLL);
    }
    let too_many = ["mesh", "set", "--platform", "--kind", "normal", "--active", "3..21"];
    let refused = fabric.admin(&too_many).fails(6);
    assert!(refused.contains("peers.normal.most"), "{refused}");
}

/// The log is taken away, verified without the fabric, and a changed copy is found out.
fn audit_offline(fabric: &Fabric) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let at = log.to_str().unwrap();
    fabric.admin(&["audit", "export", at]).ok();
    let offline = |words: &[&str]| Person::new().rap(&[&["audit", "verify"], words].concat());
    let said = offline(&[at, "-o", "json"]).ok();
    assert!(said.contains("\"payloads\""), "{said}");

    co_signed(fabric, at);
    fabric.admin(&["org", "create", "between"]).ok();
    let grown = folder.path().join("grown");
    fabric.admin(&["audit", "export", grown.to_str().unwrap()]).ok();
    offline(&[grown.to_str().unwrap(), "--known", at]).ok();
    let said = offline(&[at, "--known", grown.to_str().unwrap()]).fails(1);
    assert!(said.contains("ends before position"), "{said}");

    let proof = folder.path().join("3.tlog-proof");
    std::fs::write(&proof, fabric.admin(&["audit", "prove", "3"]).ok()).unwrap();
    let keys = std::fs::read_to_string(log.join("keys")).unwrap();
    let key = keys.lines().last().unwrap();
    let said = offline(&[proof.to_str().unwrap(), "--key", key, "-o", "json"]).ok();
    assert!(said.contains("\"position\": 3"), "{said}");

    let entries = std::fs::read_dir(log.join("tile/entries/000.p")).unwrap();
    let bundle = entries.last().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(bundle, bytes).unwrap();
    let said = offline(&[at]).fails(1);
    assert!(said.contains("is not what the tree commits to"), "{said}");

    let replay = fabric.admin(&["audit", "replay", "--node", "egress", "-o", "json"]).ok();
    assert!(replay.contains("\"sections\"") && replay.contains("\"servedDigest\""), "{replay}");
    let then = fabric.admin(&["audit", "replay", "--as-of", "3", "-o", "json"]).ok();
    assert!(then.contains("\"events\": 3") && !then.contains("liveDigest"), "{then}");
    assert!(then.contains("\"equal\": true"), "{then}");
}

/// Every node co-signs what it saw soon after it saw it, and an auditor can ask for that.
fn co_signed(fabric: &Fabric, at: &str) {
    let verify = |count: &str| {
        Person::new().rap(&["audit", "verify", at, "--witnesses", count, "-o", "json"])
    };
    let begun = Instant::now();
    while verify("3").code != 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", verify("3").stderr);
        fabric.admin(&["audit", "export", at]).ok();
    }
    let said = verify("3").ok();
    assert!(said.contains("\"cosignedBy\": \"3 of 3 nodes\""), "{said}");
    let said = verify("4").fails(1);
    assert!(said.contains("3 of 3 nodes co-signed this log, not 4"), "{said}");
    verify("17").fails(2);
}

fn follow_the_log(fabric: &Fabric) {
    let mut command = fabric.alice().command(RAP);
    command.args(["--profile", "admin", "audit", "log", "--follow", "--since", "1h", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    let first = receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first["position"], 1, "what the log holds comes first");
    fabric.admin(&["org", "create", "second"]).ok();
    let mut last = 1;
    loop {
        let event = receiver.recv_timeout(PATIENCE).expect("the new event comes");
        assert_eq!(event["position"].as_u64().unwrap(), last + 1, "no event is left out");
        last += 1;
        if event["type"] == "organization.created"
            && event["payload"].to_string().contains("second")
        {
            break;
        }
    }
    signal(&child, Signal::INT);
    assert!(wait(&mut child).success());
}

/// Without its policy the resource is out of reach, and the sessions on it end.
fn withdraw(fabric: &Fabric) {
    let alice = fabric.alice();
    let forward = Forward::start(&alice, "demo-web");
    assert!(forward.get("/").contains("It works"));
    fabric.admin(&["policy", "rm", "alice-demo"]).ok();
    let said = alice.rap(&["connect", "demo-web"]).fails(4);
    assert!(said.contains("policy"), "{said}");
    assert!(!alice.rap(&["ls"]).ok().contains("demo-web"));
    let deadline = Instant::now() + PATIENCE;
    let started = |line: &str| line.contains("demo-web") && line.contains("started");
    loop {
        let open = fabric.admin(&["sessions", "ls"]).ok();
        if !open.lines().any(started) {
            break;
        }
        assert!(Instant::now() < deadline, "the session goes on:\n{open}");
        thread::park_timeout(POLL);
    }
}

/// The other half of the promise: with a folder, everything is there again.
#[test]
fn a_kept_fabric_survives_a_restart() {
    if let Some(missing) = missing_program() {
        let test = "a_kept_fabric_survives_a_restart";
        return rap_skips::skip(test, &format!("{missing} is not installed"));
    }
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .tempdir()
        .unwrap();
    let place = folder.path().join("fabric");
    let arguments = ["--data-dir", place.to_str().unwrap()];
    let first = Fabric::start(&arguments);
    let said = first.ready.clone();
    first.admin(&["pool", "create", "attic"]).ok();
    let nodes = |fabric: &Fabric| {
        let listed = fabric.admin(&["node", "ls", "-o", "json"]).ok();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let ids = listed.as_array().unwrap().iter().map(|node| node["id"].to_string());
        ids.collect::<Vec<_>>()
    };
    let before = nodes(&first);
    first.stop();

    let again = Fabric::start(&arguments);
    assert_eq!(again.ready, said, "addresses and passwords are the same");
    assert_eq!(nodes(&again), before);
    assert!(again.admin(&["pool", "ls"]).ok().contains("attic"));
    browse(&again.alice());
    if again.has_ssh() {
        assert_eq!(again.alice().rap(&["ssh", "demo-ssh", "--", "echo", "again"]).ok(), "again\n");
    }
    let replay = again.admin(&["audit", "replay", "-o", "json"]).ok();
    assert!(replay.contains("\"equal\": true"), "{replay}");
    replay_what_the_node_said(&again);
    again.stop();
}

/// This process served the node nothing; the node says at once what it acts on.
fn replay_what_the_node_said(again: &Fabric) {
    let begun = Instant::now();
    loop {
        let run = again.admin(&["audit", "replay", "--node", "egress", "-o", "json"]);
        if run.code == 0 && run.stdout.contains("\"appliedDigest\"") {
            return assert!(run.stdout.contains("\"equal\": true"), "{}", run.stdout);
        }
        assert!([0, 10].contains(&run.code), "{}{}", run.stdout, run.stderr);
        assert!(begun.elapsed() < PATIENCE, "the node said nothing: {}", run.stdout);
        thread::park_timeout(POLL);
    }
}

pub(crate) fn missing_program() -> Option<&'static str> {
    let nats = Path::new("/usr/sbin/nats-server").is_file();
    let postgres = Path::new("/usr/lib/postgresql").is_dir();
    match (nats, postgres) {
        (false, _) => Some("nats-server"),
        (_, false) => Some("postgresql"),
        _ => None,
    }
}
