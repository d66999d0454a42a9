//! A real `rap-control` with a NATS server beside it, and just enough HTTP to follow its log.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rap_e2e::{Process, programs};
use rap_pki::tls;
use rap_proto::Digest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use uuid::Uuid;

use crate::Outcome;

/// Where Debian puts the server.
const NATS: &str = "/usr/sbin/nats-server";
/// As much as may be configured.
const RATE: &str = "100000/100000";
const PASSWORD: &str = "a password for measuring";
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE_BYTES: u64 = 4096;
/// The longest that a head or one message of a stream may be.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Whom the NATS server lets in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Nats {
    /// The cluster's programs, each with what its token allows.
    OfTheCluster,
    /// Anybody to everything, so that one connection can speak for all nodes.
    WithoutAccounts,
}

pub(crate) struct Control {
    process: Process,
    nats: Process,
    connector: TlsConnector,
    port: u16,
    metrics: String,
    bus: String,
    state: PathBuf,
    token: String,
}

impl Control {
    /// Starts it over an empty database, with room for so many streams, and makes its owner.
    pub(crate) async fn start(
        dir: &Path,
        database: &str,
        streams: usize,
        nats: Nats,
    ) -> Outcome<Self> {
        let state = dir.join("control");
        let program = programs().join("rap-control");
        let bus = format!("127.0.0.1:{}", free_port()?);
        let nats = start_nats(dir, &state, &bus, nats).await?;
        let (port, metrics) = (free_port()?, format!("127.0.0.1:{}", free_port()?));
        let mut command = Command::new(&program);
        command.args(["run", "--listen", &format!("127.0.0.1:{port}"), "--name", "localhost"]);
        command.args(["--metrics", &metrics]);
        command.args(["--nats", &format!("nats://{bus}"), "--rate-user", RATE]);
        command.args(["--rate-address", RATE, "--workers", "2", "--state-dir"]).arg(&state);
        command.args(["--max-streams", &streams.to_string()]);
        command.args(["--max-streams-per-user", &streams.to_string()]);
        command.env("RAP_CONTROL_DATABASE", database);
        let mut process = Process::start("control", command, dir);
        let ca = process.says("its CA", PATIENCE, |line| word(line, "sha256:")).await;
        let code = process.says("its setup code", PATIENCE, |line| word(line, "rapsetup_")).await;
        let ca: Digest = ca.trim_start_matches("sha256:").parse()?;
        let connector = TlsConnector::from(Arc::new(tls::pinned_client(ca, &[b"http/1.1"])));
        let token = String::new();
        let mut control = Self { process, nats, connector, port, metrics, bus, state, token };
        let owner = json!({"setupCode": code, "name": "root", "password": PASSWORD});
        let owner = control.post("/setup", &owner).await?;
        control.token = owner["secret"].as_str().ok_or("no secret")?.to_owned();
        Ok(control)
    }

    pub(crate) async fn stop(&mut self) {
        self.process.kill().await;
        self.nats.kill().await;
    }

    pub(crate) async fn create_organization(&self, name: &str) -> Outcome<Uuid> {
        let created = self.post("/organizations", &json!({"name": name})).await?;
        Ok(created["id"].as_str().ok_or("no id")?.parse()?)
    }

    /// Makes an organization and somebody who owns it, for whom all further requests are.
    pub(crate) async fn own_organization(&mut self, name: &str) -> Outcome<Uuid> {
        let owner = json!({"name": "owner", "password": PASSWORD});
        self.post("/users", &owner).await?;
        let organization = json!({"name": name, "owner": "owner"});
        let created = self.post("/organizations", &organization).await?;
        self.token = String::new();
        let login = self.post("/logins", &owner).await?;
        self.token = login["secret"].as_str().ok_or("no secret")?.to_owned();
        Ok(created["id"].as_str().ok_or("no id")?.parse()?)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where its NATS server listens.
    pub(crate) fn bus(&self) -> &str {
        &self.bus
    }

    /// Where it keeps the cluster's keys.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state
    }

    pub(crate) fn process_id(&self) -> Outcome<u32> {
        Ok(self.process.id().ok_or("it has ended")?)
    }

    /// Follows the log from here on.
    pub(crate) async fn follow(&self) -> Outcome<Follower> {
        let mut stream = self.connect().await?;
        let token = &self.token;
        let request = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        send(&mut stream, &request).await?;
        let mut follower = Follower { stream, text: String::new() };
        let head = follower.until("\r\n\r\n").await?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head.into());
        }
        follower.until(": the log from here on\n").await?;
        Ok(follower)
    }

    /// Waits until a number of the metrics is as wanted.
    pub(crate) async fn settles(
        &self,
        gauge: &str,
        wanted: impl Fn(u64) -> bool,
        patience: Duration,
        poll: Duration,
    ) -> Outcome<()> {
        let deadline = Instant::now() + patience;
        loop {
            let metrics = self.metrics().await?;
            let line: Option<u64> =
                metrics.lines().find_map(|line| line.strip_prefix(gauge)?.trim().parse().ok());
            if line.is_some_and(&wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{gauge} stays at {line:?}").into());
            }
            tokio::time::sleep(poll).await;
        }
    }

    async fn metrics(&self) -> Outcome<String> {
        let mut stream = TcpStream::connect(&self.metrics).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// What the program holds in memory.
    pub(crate) fn resident_bytes(&self) -> Outcome<u64> {
        let id = self.process_id()?;
        let statm = fs::read_to_string(format!("/proc/{id}/statm"))?;
        let pages: u64 = statm.split(' ').nth(1).ok_or("not a line of statm")?.parse()?;
        Ok(pages * PAGE_BYTES)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        let reply = self.send("POST", &format!("/api/v1{path}"), &body.to_string()).await?;
        Ok(serde_json::from_str(&reply)?)
    }

    /// One request on a connection of its own; the body of a successful answer.
    async fn send(&self, method: &str, path: &str, body: &str) -> Outcome<String> {
        let mut stream = self.connect().await?;
        let authorization = match self.token.as_str() {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let (key, length) = (Digest::of(format!("{path}{body}").as_bytes()), body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\
             Idempotency-Key: {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        send(&mut stream, &request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP")?;
        if !head.starts_with("HTTP/1.1 2") {
            return Err(answer.into());
        }
        Ok(body.to_owned())
    }

    async fn connect(&self) -> Outcome<TlsStream<TcpStream>> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        socket.set_nodelay(true)?;
        Ok(self.connector.connect(ServerName::try_from("localhost")?, socket).await?)
    }
}

/// One who follows the log, and reads when asked to.
pub(crate) struct Follower {
    stream: TlsStream<TcpStream>,
    /// What was read and not yet looked at.
    text: String,
}

impl Follower {
    /// The position of the next event of this type.
    pub(crate) async fn next(&mut self, event_type: &str) -> Outcome<u64> {
        let named = format!("event: {event_type}\n");
        loop {
            let message = self.until("\n\n").await?;
            if message.contains(&named) {
                let id = message.split("id: ").nth(1).and_then(|rest| rest.split('\n').next());
                let (_, place) = id.and_then(|id| id.split_once(':')).ok_or("no id")?;
                // Its imprint stands behind the position.
                let position = place.split_once(':').map_or(place, |(position, _)| position);
                return Ok(position.parse()?);
            }
        }
    }

    /// Everything up to the first `end`, and that.
    async fn until(&mut self, end: &str) -> Outcome<String> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return Ok(std::mem::replace(&mut self.text, rest));
            }
            if self.text.len() > MAX_TEXT_BYTES {
                return Err("a message has no end".into());
            }
            let length = self.stream.read(&mut chunk).await?;
            if length == 0 {
                return Err("the stream ended".into());
            }
            self.text.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
    }
}

/// Sends all of it: what TLS took may still be with this process, and nothing would send it later.
async fn send(stream: &mut TlsStream<TcpStream>, request: &str) -> Outcome<()> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    Ok(())
}

async fn start_nats(dir: &Path, state: &Path, bus: &str, nats: Nats) -> Outcome<Process> {
    let config = match nats {
        Nats::OfTheCluster => {
            let mut configure = Command::new(programs().join("rap-control"));
            configure.args(["nats-config", "--listen", bus, "--state-dir"]).arg(state);
            let configured = configure.arg("--resolver-dir").arg(dir.join("accounts")).output()?;
            if !configured.status.success() {
                return Err(String::from_utf8_lossy(&configured.stderr).into());
            }
            configured.stdout
        }
        Nats::WithoutAccounts => format!("listen: \"{bus}\"\nmax_payload: 81920\n").into_bytes(),
    };
    fs::write(dir.join("nats.conf"), config)?;
    let mut command = Command::new(NATS);
    command.arg("-c").arg(dir.join("nats.conf"));
    let nats = Process::start("nats", command, dir);
    answers(bus).await?;
    Ok(nats)
}

/// The word in `line` that begins so.
fn word(line: &str, prefix: &str) -> Option<String> {
    let rest = &line[line.find(prefix)?..];
    rest.split_whitespace().next().map(str::to_owned)
}

/// A port that is free at this moment.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn answers(address: &str) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = TcpStream::connect(address).await {
        if Instant::now() > deadline {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
