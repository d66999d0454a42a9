//! No secret lies on a disk or in a log: a whole fabric at its most talkative is used in every
//! way that has a secret in it, and then everything that it wrote is searched.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Instant,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rap_proto::{Signer as _, key::LocalKey};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    dev::{PATIENCE, POLL, READY, missing_program, signal, wait},
    program::{Person, RAP, Run, run},
};

/// A password that is nobody's, and that nothing else is likely to contain.
const MISTYPED: &str = "canary-mistyped-8f2e6c1d90";
const CHOSEN: &str = "canary-chosen-47ab03d5fe";
/// The digits of a secret behind its prefix.
const SECRET_DIGITS: usize = 43;
const PREFIXES: &[&str] = &["raps_", "rapa_", "rapj_", "rapi_", "rapsetup_"];

/// The only files that keep secrets, each with what for. All must be their owner's alone.
const KEEPERS: &[(&str, &str)] = &[
    ("dev.json", "the passwords that the fabric tells its user at every start"),
    ("control/ca.key", "the cluster's authority"),
    ("control/control.key", "signs snapshots and access tokens"),
    ("control/tls.key", "the server's certificate"),
    ("control/derivation.key", "repeats the secrets of repeated commands, and signs for the bus"),
    ("control/replica.key", "signs one replica's votes for the authority beat"),
    ("entry/identity.pem", "a node's identity"),
    ("entry/bus.seed", "a node's key on the bus"),
    ("relay/identity.pem", "a node's identity"),
    ("relay/bus.seed", "a node's key on the bus"),
    ("egress/identity.pem", "a node's identity"),
    ("egress/bus.seed", "a node's key on the bus"),
    ("home/profiles/default.json", "a login and its device's key"),
    ("home/profiles/admin.json", "a login and its device's key"),
    ("ssh/host_key", "the demo server's own key, which is no part of the fabric"),
    ("ssh/user_key", "the key that the demo server lets in"),
];

#[test]
fn no_secret_is_on_a_disk_or_in_a_log() {
    let mut fabric = Talkative::start();
    let mut secrets = fabric.secrets();
    fabric.use_it(&mut secrets);
    let running = secrets.search_folder(&fabric.root);
    fabric.stop();
    let mut found = [running, secrets.search_folder(&fabric.root)].concat();
    found.extend(secrets.search_folder(fabric.told.path()));
    for (what, said) in &fabric.said {
        found.extend(secrets.in_text(said, false).map(|secret| format!("{secret} in {what}")));
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_secret_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let token = format!("rapj_{}", "x".repeat(SECRET_DIGITS));
    let mut secrets = Secrets::default();
    secrets.nowhere("the mistyped password", MISTYPED);
    secrets.kept("a password", CHOSEN);
    let plant = |name: &str, content: &str, mode| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    plant("clean", "rapj_ is a prefix and no secret", 0o644);
    plant("dev.json", CHOSEN, 0o600);
    assert_eq!(secrets.search_folder(folder.path()), Vec::<String>::new());
    plant("deep/log", &format!("\u{0}{token}\u{0}"), 0o600);
    plant("deep/other", &format!("password={}", STANDARD.encode(CHOSEN)), 0o600);
    plant("pem", "-----BEGIN PRIVATE KEY-----", 0o600);
    plant("dev.json", MISTYPED, 0o600);
    plant("ssh/user_key", "", 0o640);
    assert_eq!(secrets.search_folder(folder.path()).len(), 5);
}

/// What is searched for.
#[derive(Default)]
struct Secrets {
    /// Its name, its text, and whether keepers may hold it.
    known: Vec<(String, String, bool)>,
}

impl Secrets {
    fn nowhere(&mut self, name: &str, text: &str) {
        self.add(name, text, false);
    }

    fn kept(&mut self, name: &str, text: &str) {
        self.add(name, text, true);
    }

    fn add(&mut self, name: &str, text: &str, kept: bool) {
        assert!(text.len() >= 16, "{name} is too short to be searched for");
        for text in [text.to_owned(), STANDARD.encode(text), URL_SAFE_NO_PAD.encode(text)] {
            self.known.push((name.to_owned(), text, kept));
        }
    }

    /// The lines of a private key in PEM that are not its public half, which certificates repeat.
    fn key(&mut self, name: &str, pem: &str) {
        let body = pem.lines().filter(|line| !line.starts_with("--") && line.len() >= 32);
        body.take(2).for_each(|line| self.kept(name, line));
    }

    /// The names of what stands in a text.
    fn in_text<'a>(&'a self, text: &'a str, keeper: bool) -> impl Iterator<Item = String> + 'a {
        let known = self.known.iter();
        let known = known
            .filter(move |(_, secret, kept)| !(keeper && *kept) && text.contains(secret.as_str()));
        let shapes = PREFIXES.iter().filter(move |prefix| {
            let is_digit = |c: &u8| c.is_ascii_alphanumeric() || b"-_".contains(c);
            !keeper
                && text.match_indices(**prefix).any(|(at, _)| {
                    let digits = &text.as_bytes()[at + prefix.len()..];
                    digits.iter().take_while(|c| is_digit(c)).count() >= SECRET_DIGITS
                })
        });
        let key =
            (!keeper && text.contains("PRIVATE KEY-----")).then(|| "a private key".to_owned());
        let known = known.map(|(name, ..)| name.clone());
        known.chain(shapes.map(|prefix| format!("a secret {prefix}…"))).chain(key)
    }

    fn search_folder(&self, root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for path in files(root) {
            // A database at work removes files at any time.
            let Ok(bytes) = fs::read(&path) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let keeper = KEEPERS.iter().any(|(keeper, _)| *keeper == name);
            let hits = self.in_text(&text, keeper);
            found.extend(hits.map(|secret| format!("{secret} in {name}")));
            let mode = fs::metadata(&path).map_or(0, |data| data.permissions().mode());
            if keeper && mode & 0o077 != 0 {
                found.push(format!("others can reach {name}"));
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// `rap dev` with all that it can log, and what everybody said.
struct Talkative {
    child: Child,
    root: PathBuf,
    ready: Value,
    told: TempDir,
    /// What commands printed that do not show a secret on purpose.
    said: Vec<(String, String)>,
    _place: TempDir,
}

impl Talkative {
    fn start() -> Self {
        let passable = fs::Permissions::from_mode(0o711);
        let place = tempfile::Builder::new().permissions(passable).tempdir().unwrap();
        let told = tempfile::tempdir().unwrap();
        let ready_file = place.path().join("ready");
        let mut command = loud(Person::new()).command(RAP);
        command.args(["dev", "-o", "json"]);
        match missing_program() {
            None => drop(command.arg("--data-dir").arg(place.path().join("fabric"))),
            Some(missing) => eprintln!("without a database's files: {missing} is not installed"),
        }
        command.stdout(File::create(&ready_file).unwrap());
        command.stderr(File::create(told.path().join("dev")).unwrap());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + READY;
        let ready = loop {
            let text = fs::read_to_string(&ready_file).unwrap();
            if let Ok(ready) = serde_json::from_str::<Value>(&text) {
                break ready;
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "not ready: {ended:?}");
            thread::park_timeout(POLL);
        };
        let root = Path::new(text(&ready, "home")).parent().unwrap().to_owned();
        Self { child, root, ready, told, said: Vec::new(), _place: place }
    }

    /// The secrets that the fabric was made with.
    fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.nowhere("the mistyped password", MISTYPED);
        secrets.nowhere("the chosen password", CHOSEN);
        secrets.kept("alice's password", text(&self.ready, "password"));
        secrets.kept("the owner's password", text(&self.ready, "adminPassword"));
        for (name, _) in KEEPERS {
            let Ok(bytes) = fs::read(self.root.join(name)) else { continue };
            match String::from_utf8(bytes) {
                Ok(content) if name.ends_with(".json") => {
                    let kept: Value = serde_json::from_str(&content).unwrap();
                    secrets.key(name, kept["key"].as_str().unwrap_or_default());
                }
                Ok(content) if name.ends_with(".seed") => secrets.kept(name, content.trim()),
                Ok(content) => secrets.key(name, &content),
                Err(raw) => {
                    let hex: String = raw.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
                    secrets.kept(name, &hex);
                    secrets.kept(name, &STANDARD.encode(raw.as_bytes()));
                }
            }
        }
        secrets
    }

    fn use_it(&mut self, secrets: &mut Secrets) {
        let home = self.root.join("home");
        let alice = || loud(Person::at(home.clone()));
        let password = text(&self.ready, "password").to_owned();
        self.keep("logout", &alice().rap(&["logout"]));
        let mistyped = alice().with("RAP_PASSWORD", MISTYPED).rap(&["login", "-u", "alice"]);
        assert_eq!(mistyped.code, 3, "{}", mistyped.stderr);
        self.keep("a mistyped login", &mistyped);
        self.keep("login", &alice().with("RAP_PASSWORD", &password).rap(&["login", "-u", "alice"]));
        self.keep("ls", &alice().rap(&["ls"]));
        self.browse(&alice());
        if self.ready["resources"].as_array().unwrap().iter().any(|name| name == "demo-ssh") {
            let outcome = alice().rap(&["ssh", "demo-ssh", "--", "echo", "hello"]);
            assert_eq!(outcome.stdout, "hello\n", "{}", outcome.stderr);
            self.keep("ssh", &outcome);
        }

        let admin = || alice().with("RAP_PROFILE", "admin");
        let join = ["-o", "json", "token", "join", "create", "--role", "relay-node"];
        secrets.nowhere("a join token", &self.shown_once(&admin().rap(&join), "rapj_"));
        let invited = admin().rap(&["-o", "json", "user", "create", "carol"]);
        let invitation = self.shown_once(&invited, "rapi_");
        secrets.nowhere("an invitation", &invitation);
        self.accept(&invitation);
        let api = ["-o", "json", "token", "api", "create", "canary", "--scope", "connect"];
        let api_token = self.shown_once(&alice().rap(&api), "rapa_");
        secrets.nowhere("an API token", &api_token);
        secrets.nowhere("an access token", &self.access_token(&api_token));
        self.keep("audit log", &admin().rap(&["audit", "log", "--since", "1h"]));
        self.keep("audit replay", &admin().rap(&["audit", "replay"]));
    }

    #[track_caller]
    fn keep(&mut self, what: &str, outcome: &Run) {
        assert!(outcome.code == 0 || what.contains("mistyped"), "{what}: {outcome:?}");
        let said = format!("{}\n{}", outcome.stdout, outcome.stderr);
        self.said.push((what.to_owned(), said));
    }

    /// The secret that a command shows on purpose, on standard output alone.
    #[track_caller]
    fn shown_once(&mut self, outcome: &Run, prefix: &str) -> String {
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let (_, rest) = outcome.stdout.split_once(prefix).unwrap();
        self.said.push((format!("the errors of what shows {prefix}"), outcome.stderr.clone()));
        format!("{prefix}{}", &rest[..SECRET_DIGITS])
    }

    /// A page through a local port.
    fn browse(&mut self, alice: &Person) {
        let told = self.told.path().join("connect");
        let mut command = alice.command(RAP);
        command.args(["connect", "demo-web", "--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(File::create(&told).unwrap()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let address = loop {
            let text = fs::read_to_string(&told).unwrap();
            let line = text.split_once("listening on ").and_then(|(_, rest)| rest.split_once(';'));
            if let Some((address, _)) = line {
                break address.to_owned();
            }
            assert!(Instant::now() < deadline, "{text}");
            thread::park_timeout(POLL);
        };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.contains("It works"), "{page}");
        signal(&child, Signal::TERM);
        wait(&mut child);
    }

    /// Carol, on another machine, chooses her password.
    fn accept(&mut self, invitation: &str) {
        let (control, ca) = (text(&self.ready, "control"), text(&self.ready, "ca"));
        let carol = loud(Person::new()).with("RAP_CONTROL", control).with("RAP_CA", ca);
        let carol = carol.with("RAP_INVITATION", invitation).with("RAP_PASSWORD", CHOSEN);
        let outcome = carol.rap(&["login"]);
        self.keep("an accepted invitation", &outcome);
    }

    /// An access token as a program would get it, for a key of its own.
    fn access_token(&self, api_token: &str) -> String {
        let key = LocalKey::from_random(&[7; 32]).unwrap();
        let body = serde_json::json!({
            "organization": text(&self.ready, "organization"),
            "resource": "demo-web",
            "clientKey": key.public_key(),
        });
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-k", "-H", "Content-Type: application/json"]);
        curl.args(["-H", "Idempotency-Key: canary-access"]);
        curl.args(["-H", &format!("Authorization: Bearer {api_token}"), "-d", &body.to_string()]);
        let url = format!("{}/api/v1/sessions", text(&self.ready, "control"));
        let answer = run(curl.arg(url)).ok();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        text(&answer, "token").to_owned()
    }

    /// Asks the fabric to end, and waits for that.
    fn stop(&mut self) {
        signal(&self.child, Signal::INT);
        assert!(wait(&mut self.child).success());
        let log = fs::read_to_string(self.told.path().join("dev")).unwrap();
        assert!(log.contains("TRACE"), "the fabric logged all that it can");
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(&self.child, Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Everything is logged.
fn loud(person: Person) -> Person {
    person.with("RAP_LOG", "trace")
}

#[track_caller]
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}
