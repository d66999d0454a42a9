//! A real server with a little of everything in it, for whoever checks the API against its document.
//!
//! Prints one line of JSON: `url`; `ca`, where the CA certificate (PEM) is, in the folder that the
//! only argument names; `token` and `spare`, two logins of the platform's owner; and the ids of what
//! has no name, `session`, `apiToken` and `joinToken`. Ends when standard input does.

mod host;
mod reach;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use rap_bus::LocalBus;
use rap_control::{BusChoice, ControlOptions, Limits, LogChoice, Rates, StreamLimits, serve};
use rap_events::MemoryLog;
use rap_pki::tls;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, sync::oneshot};

use reach::Answers;

const PASSWORD: &str = "correct horse battery staple";
/// A point of the curve, as a client's key.
const KEY: &str = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
/// One is asked for another.
const NODES: usize = 2;
/// So much that no check meets it: rates have tests of their own.
const RATE: &str = "100000/100000";

type Failed = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder")?);
    let rates = Rates { user: RATE.parse()?, address: RATE.parse()?, ..Rates::default() };
    // A stream is read up to its first message: it comes soon.
    let streams = StreamLimits { keep_alive: Duration::from_millis(50), ..StreamLimits::default() };
    let options = ControlOptions {
        listen: "127.0.0.1:0".parse()?,
        metrics: Some("127.0.0.1:0".parse()?),
        state_dir: folder.join("state"),
        log: LogChoice::Local(Arc::new(MemoryLog::new())),
        bus: BusChoice::Local(Arc::new(LocalBus::new())),
        names: vec!["localhost".to_owned()],
        servers: Vec::new(),
        workers: 1,
        limits: Limits { rates, streams, ..Limits::default() },
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        // The sender is dropped when standard input ends.
        let _ = stopped.await;
    };
    let running = serve(options, shutdown).await?;
    let url = format!("https://localhost:{}", running.address.port());
    let ca = folder.join("ca.pem");
    fs::write(&ca, rap_pki::pem::encode([running.ca_certificate.as_slice()]))?;
    let config = tls::pinned_client(running.ca_fingerprint, &[b"http/1.1"]);
    let http = reqwest::Client::builder()
        .use_preconfigured_tls(config)
        .timeout(Duration::from_secs(20))
        .build()?;
    let code = running.setup_code.as_ref().ok_or("there is an owner already")?.reveal();
    let mut api = Api { http, base: format!("{url}/api/v1"), token: None, commands: 0 };
    let owner = json!({"setupCode": &*code, "name": "root", "password": PASSWORD});
    let token = secret(&api.post("/setup", owner).await?)?;
    let login = json!({"name": "root", "password": PASSWORD});
    let spare = secret(&api.post("/logins", login).await?)?;
    api.token = Some(token.clone());
    let things = furnish(&mut api).await?;
    for (number, secret) in (1..).zip(&things.join_secrets) {
        let config = tls::pinned_client(running.ca_fingerprint, &[b"http/1.1"]);
        host::enroll(running.address, config, secret, &format!("edge-{number}")).await?;
    }
    let session = api.post("/sessions", json!({"resource": "build", "clientKey": KEY})).await?;
    let mut line = json!({"url": url, "ca": ca, "token": token, "spare": spare});
    line["session"] = session["session"].clone();
    line["apiToken"] = things.api_token;
    line["joinToken"] = things.join_token;
    let metrics = running.metrics.ok_or("the metrics are nowhere")?;
    let before = Answers::of(&api.http, metrics).await?;
    println!("{line}");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    let after = Answers::of(&api.http, metrics).await?;
    let document = api.http.get(format!("{url}/api/v1/openapi.json")).send().await?;
    let document: Value = serde_json::from_str(&document.text().await?)?;
    let unreached = after.unreached(&before, &document);
    println!("{}", json!({"unreached": unreached.join(" ")}));
    drop(stop);
    running.stopped().await?;
    Ok(())
}

/// What the rest needs of what was furnished.
struct Things {
    api_token: Value,
    join_token: Value,
    /// Of join tokens for the organization's nodes.
    join_secrets: Vec<String>,
}

/// One of each thing that a path can name, but for nodes and what needs them.
async fn furnish(api: &mut Api) -> Result<Things, Failed> {
    api.post("/users", json!({"name": "alice", "password": PASSWORD})).await?;
    api.post("/users", json!({"name": "bob", "displayName": "Bob"})).await?;
    let acme = api.post("/organizations", json!({"name": "acme", "owner": "root"})).await?;
    let office = api.post("/organizations/acme/pools", json!({"name": "office"})).await?;
    let target = json!({"host": "build.internal", "port": 22});
    let resource = json!({"name": "build", "kind": "ssh", "pool": "office", "target": target});
    api.post("/organizations/acme/resources", resource).await?;
    let rules = json!({"users": ["root"], "resources": ["build"]});
    let policy = json!({"name": "developers", "rules": rules});
    api.post("/organizations/acme/policies", policy).await?;
    let connection = json!({"name": "tunnel", "class": "fast"});
    api.post("/organizations/acme/vpn-connections", connection).await?;
    let token = json!({"label": "program", "scopes": ["read"], "ttlSeconds": 3_600});
    let api_token = api.post("/api-tokens", token).await?;
    let join = json!({
        "roles": [{"role": "relay-node", "organizations": null}], "ttlSeconds": 3_600,
    });
    let join_token = api.post("/join-tokens", join).await?;
    let join = json!({
        "organization": "acme", "ttlSeconds": 600, "autoApprove": true, "pools": [office["id"]],
        "roles": [
            {"role": "entry-node", "organizations": [acme["id"]]},
            {"role": "stream-worker", "organizations": [acme["id"]]},
        ],
    });
    let mut join_secrets = Vec::new();
    for _ in 0..NODES {
        join_secrets.push(secret(&api.post("/join-tokens", join.clone()).await?)?);
    }
    let (api_token, join_token) =
        (api_token["token"]["id"].clone(), join_token["token"]["id"].clone());
    Ok(Things { api_token, join_token, join_secrets })
}

fn secret(reply: &Value) -> Result<String, Failed> {
    Ok(reply["secret"].as_str().ok_or("the reply has no secret")?.to_owned())
}

struct Api {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    commands: usize,
}

impl Api {
    async fn post(&mut self, path: &str, body: Value) -> Result<Value, Failed> {
        self.commands += 1;
        let key = format!("furnish-{}", self.commands);
        let mut request = self.http.post(format!("{}{path}", self.base)).json(&body);
        request = request.header("Idempotency-Key", key);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            return Err(format!("POST {path}: {status} {text}").into());
        }
        Ok(serde_json::from_str(&text)?)
    }
}
