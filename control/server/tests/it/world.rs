//! A running server and its clients.

use std::{sync::Arc, time::Duration};

use rap_bus::LocalBus;
use rap_control::{BusChoice, ControlOptions, Limits, LogChoice, Running, serve};
use rap_events::{Log as _, memory::MemoryLog};
use rap_pki::tls;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The servers that nodes are told of.
pub(crate) const HERE: &str = "https://localhost:8443";
pub(crate) const ELSEWHERE: &str = "https://control-1.example:8443";

pub(crate) struct World {
    pub(crate) running: Running,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) bus: LocalBus,
    pub(crate) base: String,
    metrics: String,
    pub(crate) client: reqwest::Client,
    stop: oneshot::Sender<()>,
    dir: tempfile::TempDir,
}

/// What a request carries beside its method and path.
#[derive(Default, Clone)]
pub(crate) struct With {
    pub(crate) body: Option<Value>,
    pub(crate) key: Option<String>,
    pub(crate) if_match: Option<u64>,
}

/// A caller: anonymous, or with a bearer token.
#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    base: String,
    /// Where the server's metrics are.
    metrics: String,
    pub(crate) token: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_over(dir, Arc::new(MemoryLog::with_clock(rap_control::now))).await
    }

    /// Starts over keys and events that are there already.
    pub(crate) async fn start_over(dir: tempfile::TempDir, log: Arc<MemoryLog>) -> Self {
        let bus = LocalBus::new();
        let (log_choice, bus_choice) =
            (LogChoice::Local(log.clone()), BusChoice::Local(Arc::new(bus.clone())));
        Self { log, bus, ..Self::start_with(dir, log_choice, bus_choice).await }
    }

    /// Over a log and a bus in memory, with other limits than the usual ones.
    pub(crate) async fn start_within(limits: Limits) -> Self {
        let (dir, log, bus) =
            (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::new()), LocalBus::new());
        let (log_choice, bus_choice) =
            (LogChoice::Local(log.clone()), BusChoice::Local(Arc::new(bus.clone())));
        Self { log, bus, ..Self::start_as(dir, log_choice, bus_choice, limits).await }
    }

    pub(crate) async fn start_with(dir: tempfile::TempDir, log: LogChoice, bus: BusChoice) -> Self {
        Self::start_as(dir, log, bus, Limits::default()).await
    }

    pub(crate) async fn start_as(
        dir: tempfile::TempDir,
        log: LogChoice,
        bus: BusChoice,
        limits: Limits,
    ) -> Self {
        let options = ControlOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            metrics: Some("127.0.0.1:0".parse().unwrap()),
            state_dir: dir.path().join("control"),
            log,
            bus,
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            servers: [HERE, ELSEWHERE].map(|url| url.parse().unwrap()).to_vec(),
            workers: 1,
            limits,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let running = serve(options, shutdown).await.unwrap();
        let config = tls::pinned_client(running.ca_fingerprint, &[b"http/1.1"]);
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(config)
            // Of an answer's next bytes: one that tells of events does not end.
            .read_timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let base = format!("https://localhost:{}", running.address.port());
        let metrics = format!("http://{}", running.metrics.unwrap());
        let (log, bus) = Default::default();
        Self { running, log, bus, base, metrics, client, stop, dir }
    }

    pub(crate) async fn stop(self) -> (tempfile::TempDir, Arc<MemoryLog>) {
        drop(self.stop);
        self.running.stopped().await.unwrap();
        (self.dir, self.log)
    }

    pub(crate) fn state_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("control")
    }

    pub(crate) fn anonymous(&self) -> Api {
        Api::new(self.client.clone(), self.base.clone(), self.metrics.clone())
    }

    /// The first platform owner.
    pub(crate) async fn set_up(&self) -> Api {
        let code = self.running.setup_code.as_ref().unwrap().reveal();
        let body = json!({"setupCode": code, "name": "root", "password": PASSWORD});
        let reply = self.anonymous().post("/setup", body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        self.anonymous().with_token(reply.json["secret"].as_str().unwrap())
    }

    /// An account with a password, logged in.
    pub(crate) async fn user(&self, admin: &Api, name: &str) -> (Api, String) {
        let body = json!({"name": name, "password": PASSWORD});
        let created = admin.post("/users", body).await;
        assert_eq!(created.status, 201, "{}", created.text);
        let id = created.json["user"]["id"].as_str().unwrap().to_owned();
        (self.log_in(name).await, id)
    }

    pub(crate) async fn log_in(&self, name: &str) -> Api {
        let body = json!({"name": name, "password": PASSWORD});
        let reply = self.anonymous().post("/logins", body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        self.anonymous().with_token(reply.json["secret"].as_str().unwrap())
    }

    /// Waits until a number of the metrics is as wanted.
    pub(crate) async fn settles(&self, gauge: &str, wanted: impl Fn(u64) -> bool) {
        let mut last = None;
        for _ in 0..MAX_POLLS {
            let metrics = self.anonymous().get("/metrics").await.text;
            let line = metrics.lines().find_map(|line| line.strip_prefix(gauge));
            last = line.and_then(|value| value.trim().parse().ok());
            if last.is_some_and(&wanted) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("{gauge} stays at {last:?}");
    }

    pub(crate) async fn head(&self) -> u64 {
        self.log.head().await.unwrap()
    }
}

/// How often a thing that moves is read again.
const MAX_READINGS: usize = 20;
/// How often, and after which pauses, something that is bound to happen is looked for.
const MAX_POLLS: usize = 600;
const POLL: Duration = Duration::from_millis(50);

impl Api {
    /// Nobody, at a server that runs somewhere else.
    pub(crate) fn new(client: reqwest::Client, base: String, metrics: String) -> Self {
        Self { client, base, metrics, token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, With::default()).await
    }

    /// With an idempotency key of its own.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.command(Method::POST, path, Some(body), None).await
    }

    /// Changes what exists, over the revision that it has now.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        revision: u64,
    ) -> Reply {
        self.command(method, path, body, Some(revision)).await
    }

    /// Changes what the fabric changes as well: when it moved since it was read, it is read again,
    /// as the answer 412 asks for.
    pub(crate) async fn change_current(&self, method: Method, path: &str, action: &str) -> Reply {
        let whole = format!("{path}{action}");
        for _ in 0..MAX_READINGS {
            let revision = self.get(path).await.revision();
            let reply = self.change(method.clone(), &whole, None, revision).await;
            if reply.status != 412 {
                return reply;
            }
        }
        panic!("{path} does not come to rest");
    }

    async fn command(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        if_match: Option<u64>,
    ) -> Reply {
        let key = Some(fresh_key());
        self.send(method, path, With { body, key, if_match }).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, with: With) -> Reply {
        self.try_send(method, path, with).await.expect("the server answers")
    }

    /// `None` when the server does not answer.
    pub(crate) async fn try_send(&self, method: Method, path: &str, with: With) -> Option<Reply> {
        let url = match path {
            "/metrics" => format!("{}{path}", self.metrics),
            _ if path.starts_with("/api/") => format!("{}{path}", self.base),
            _ => format!("{}/api/v1{path}", self.base),
        };
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = with.key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(revision) = with.if_match {
            request = request.header("If-Match", format!("\"{revision}\""));
        }
        if let Some(body) = with.body {
            request = request.json(&body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.ok()?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some(Reply { status, headers, text, json })
    }
}

impl Reply {
    pub(crate) fn position(&self) -> u64 {
        self.headers["rap-position"].to_str().unwrap().parse().unwrap()
    }

    pub(crate) fn revision(&self) -> u64 {
        let revision = self.headers.get("etag").unwrap_or_else(|| panic!("none: {}", self.text));
        revision.to_str().unwrap().trim_matches('"').parse().unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.json["id"].as_str().unwrap_or_else(|| panic!("{}", self.text)).to_owned()
    }

    /// The problem's code, after its form was checked.
    pub(crate) fn problem(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        assert_eq!(self.json["status"], self.status.as_u16());
        for field in ["title", "detail", "requestId"] {
            assert!(self.json[field].is_string(), "{}", self.text);
        }
        self.json["type"].as_str().unwrap().strip_prefix("urn:rap:problem:").unwrap()
    }
}

pub(crate) fn fresh_key() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An organization with an owner and one of everything.
pub(crate) struct Tenant {
    pub(crate) api: Api,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) organization: String,
    pub(crate) pool: String,
    pub(crate) resource: String,
    pub(crate) policy: String,
    pub(crate) connection: String,
    pub(crate) api_token: String,
    pub(crate) join_token: String,
    pub(crate) join_secret: String,
}

pub(crate) async fn tenant(world: &World, root: &Api, name: &str) -> Tenant {
    let owner_name = format!("{name}-owner");
    let (api, owner) = world.user(root, &owner_name).await;
    let body = json!({"name": name, "owner": owner_name});
    let organization = root.post("/organizations", body).await.id();
    let within = |path: &str| format!("/organizations/{organization}{path}");
    let pool = api.post(&within("/pools"), json!({"name": format!("{name}-pool")})).await.id();
    let resource = json!({
        "name": format!("{name}-ssh"), "kind": "ssh", "pool": pool,
        "target": {"host": format!("{name}.internal"), "port": 22},
    });
    let resource = api.post(&within("/resources"), resource).await.id();
    let policy = json!({
        "name": format!("{name}-policy"),
        "rules": {"users": [owner_name], "resources": [format!("{name}-ssh")]},
    });
    let policy = api.post(&within("/policies"), policy).await.id();
    let connection = json!({"name": format!("{name}-vpn"), "class": "fast"});
    let connection = api.post(&within("/vpn-connections"), connection).await.id();
    let token = json!({"label": format!("{name}-label"), "scopes": ["read"], "ttlSeconds": 600});
    let api_token = api.post("/api-tokens", token).await.json["token"]["id"].to_string();
    let join = json!({
        "organization": name, "ttlSeconds": 600, "autoApprove": true, "pools": [pool],
        "roles": [
            {"role": "entry-node", "organizations": [organization]},
            {"role": "stream-worker", "organizations": [organization]},
        ],
    });
    let join = api.post("/join-tokens", join).await;
    assert_eq!(join.status, 201, "{}", join.text);
    Tenant {
        api,
        name: name.to_owned(),
        owner,
        organization,
        pool,
        resource,
        policy,
        connection,
        api_token: api_token.trim_matches('"').to_owned(),
        join_token: join.json["token"]["id"].as_str().unwrap().to_owned(),
        join_secret: join.json["secret"].as_str().unwrap().to_owned(),
    }
}
