//! What a stranger does while another organization looks: whatever its people can cause, and what the
//! platform's people do with it.

use std::{collections::BTreeSet, time::Duration};

use rap_events::{Log as _, catalogue::catalogue, log::MAX_READ_EVENTS};
use rap_proto::{
    Capability, RefusalCode, Signer as _,
    bus::{Heartbeat, NodeBody},
    observation::{Claimed, EndReason, Observation, Spooled},
    wire::node_api::{Credentials, EnrollReply, RenewRequest},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    bus::{message, say},
    collisions::Names,
    node::{self, Host},
    tenancy::Target,
    world::{Api, PASSWORD, Reply, Tenant, World},
};

/// How long an event may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events, by how their types begin, that no person of an organization causes: the cluster's own, and
/// what nodes alone say.
const OF_OTHERS: &[&str] = &[
    "cluster.",
    "authority.",
    "leadership.",
    "guessing.",
    "node_report.",
    "node.witness_key_recorded",
    "vpn_connection.lease_",
    "vpn_connection.drain_requested",
];

pub(super) struct Stranger<'a> {
    world: &'a World,
    root: &'a Api,
    target: &'a Target<'a>,
    names: Names,
}

impl<'a> Stranger<'a> {
    pub(super) fn new(world: &'a World, root: &'a Api, target: &'a Target<'a>) -> Self {
        Self { world, root, target, names: Names::of(target.tenant) }
    }

    /// Uses whatever there is to use, and tries what is the observer's.
    pub(super) async fn is_busy(&self, observer: &Tenant) {
        let head = self.world.head().await;
        self.ruled().await;
        self.things().await;
        self.rules().await;
        self.connections().await;
        self.person().await;
        let (host, credentials) = self.node().await;
        let session = self.sessions(&host, observer).await;
        self.suspended(&session).await;
        self.node_leaves(&host, &credentials).await;
        self.other_hosts().await;
        let written = self.written(head).await;
        let of_others = |name: &str| OF_OTHERS.iter().any(|others| name.starts_with(others));
        let types = catalogue().into_iter().map(|kind| kind.event_type);
        let missing: Vec<_> =
            types.filter(|name| !of_others(name) && !written.contains(*name)).collect();
        assert!(missing.is_empty(), "the stranger causes no {missing:?}");
    }

    /// By the platform's owner.
    async fn ruled(&self) {
        let quotas = json!({"nodes": 20, "sessions": 50, "eventsPerSecond": 1_000});
        self.change(self.root, Method::PUT, &self.within("/quotas"), "", quotas).await;
        let cap = json!({"capBitsPerSecond": 900_000_000});
        self.change(self.root, Method::PUT, &self.within("/bandwidth"), "/grant", cap).await;
        let name = format!("canary-second-of-{}", self.tenant().name);
        let second = self.make(self.root, "/organizations", json!({"name": name})).await.id();
        let path = format!("/organizations/{second}");
        self.change(self.root, Method::DELETE, &path, "", Value::Null).await;
        for name in [format!("canary-{}", self.tenant().name), self.tenant().name.clone()] {
            let body = json!({"name": name});
            self.change(self.api(), Method::PATCH, &self.within(""), "", body).await;
        }
    }

    async fn things(&self) {
        let path = self.within("/pools");
        let pool = self.make(self.api(), &path, json!({"name": self.names.pool})).await.id();
        self.brief(&path, json!({"name": "canary-brief"}), []).await;
        let resource = |name: &str| {
            json!({
                "name": name, "kind": "web", "pool": pool, "labels": {"env": "prod"},
                "target": {"host": "canary.internal", "port": 80},
            })
        };
        let path = self.within("/resources");
        self.make(self.api(), &path, resource(&self.names.resource)).await;
        let target = json!({"target": {"host": "canary.internal", "port": 81}});
        let changes = [
            (Method::PATCH, "", target),
            (Method::PATCH, "", json!({"labels": {"env": "canary"}})),
            (Method::PUT, "/connection", json!({"connection": self.tenant().connection})),
            (Method::PUT, "/connection", json!({"connection": null})),
        ];
        self.brief(&path, resource("canary-brief"), changes).await;
    }

    async fn rules(&self) {
        let (path, user) = (self.within("/policies"), &self.names.user);
        let bob = json!({"name": user, "organization": self.organization(), "password": PASSWORD});
        self.make(self.api(), "/users", bob).await;
        let document = |more: &str| {
            let text = format!(
                "permit(principal, action, resource);{more} \
                 forbid(principal == User::\"{user}\", action, resource);"
            );
            json!({"name": self.names.policy, "document": {"text": text}})
        };
        let written = self.make(self.api(), &path, document("")).await.id();
        let written = format!("{path}/{written}");
        let mut again = document(" ");
        again.as_object_mut().unwrap().remove("name");
        self.change(self.api(), Method::PUT, &written, "", again).await;
        let rules = |kind: &str| json!({"roles": ["organization_user"], "kinds": [kind]});
        let brief = json!({"name": "canary-brief", "rules": rules("ssh")});
        self.brief(&path, brief, [(Method::PUT, "", json!({"rules": rules("web")}))]).await;
        let rules = json!({"rules": [{"user": user, "capBitsPerSecond": 4_000_000}]});
        self.change(self.api(), Method::PUT, &self.within("/bandwidth"), "", rules).await;
        let rules = json!({"bulk": "quic-only"});
        self.change(self.api(), Method::PUT, &self.within("/carriers"), "", rules).await;
    }

    async fn connections(&self) {
        let path = self.within("/vpn-connections");
        let connection = |name: &str| json!({"name": name, "class": "fast"});
        self.make(self.api(), &path, connection(&self.names.connection)).await;
        let changes = [
            (Method::PUT, "/nodes", json!({"nodes": [self.target.node]})),
            (Method::POST, "/enable", Value::Null),
            (Method::POST, "/disable", Value::Null),
        ];
        self.brief(&path, connection("canary-brief"), changes).await;
    }

    /// Somebody comes, is given more and less, leaves, and is erased.
    async fn person(&self) {
        let (root, api) = (self.root, self.api());
        let name = format!("canary-ann-of-{}", self.tenant().name);
        let (user, member) = (format!("/users/{name}"), self.within(&format!("/members/{name}")));
        let ann = json!({
            "name": name, "displayName": "canary", "organization": self.organization(),
        });
        self.make(api, "/users", ann).await;
        let invited = self.change(root, Method::POST, &user, "/invite", Value::Null).await;
        let accept = json!({"invitation": invited.json["invitation"], "password": PASSWORD});
        let nobody = self.world.anonymous();
        let accepted = self.make(&nobody, "/invitations/accept", accept).await;
        let ann = nobody.with_token(accepted.json["secret"].as_str().unwrap());
        let words = json!({"current": PASSWORD, "new": "canary battery staple"});
        let changed = ann.change(Method::PUT, "/me/password", Some(words), 0).await;
        assert!(changed.status.is_success(), "{}", changed.text);
        let token = json!({"label": "canary", "scopes": ["read"], "ttlSeconds": 600});
        let token = self.make(&ann, "/api-tokens", token).await;
        let path = format!("/api-tokens/{}", token.json["token"]["id"].as_str().unwrap());
        self.removed(&ann, &path, 1).await;
        self.removed(&ann, "/logins/current", 0).await;

        let admin = json!({"role": "organization_admin"});
        self.change(api, Method::PUT, &member, "", admin).await;
        let role = "/platform-roles/platform_admin";
        self.change(root, Method::PUT, &user, role, Value::Null).await;
        self.change(root, Method::DELETE, &user, role, Value::Null).await;
        self.change(root, Method::POST, &user, "/disable", json!({"reason": "canary"})).await;
        self.change(root, Method::POST, &user, "/enable", Value::Null).await;
        self.change(api, Method::DELETE, &member, "", Value::Null).await;
        self.change(root, Method::POST, &user, "/erase", Value::Null).await;
    }

    /// A host comes with a token, is approved, and is given everything that a node can be given.
    async fn node(&self) -> (Host, Credentials) {
        let (world, api) = (self.world, self.api());
        let secret = self.join_token().await.json["secret"].as_str().unwrap().to_owned();
        let host = node::enroll(world, &secret, "canary-host").await;
        node::enroll(world, &secret, "canary-late").await.refusal();
        let path = format!("/nodes/{}", host.node());
        let fingerprint = json!({"fingerprint": host.key.public_key().id().to_string()});
        self.change(api, Method::POST, &path, "/approve", fingerprint).await;
        let polled = node::poll(world, host.node(), &host.key, rap_control::now()).await;
        let EnrollReply::Enrolled(credentials) = polled.read() else { panic!("not enrolled") };
        let say_capable = NodeBody::Heartbeat(Heartbeat {
            agent_version: "1.2.3".to_owned(),
            snapshot_version: 3,
            snapshot_digest: None,
            capabilities: [Capability::AcceptClientIngress].into(),
            open_sessions: 0,
            draining: false,
        });
        say(world, &host, &message(world, &host, 1, say_capable), &host.key).await;
        self.wait("node.capabilities_reported", &host.node().to_string()).await;
        let roles =
            json!({"roles": [{"role": "entry-node", "organizations": [self.organization()]}]});
        self.change(api, Method::PUT, &path, "/roles", roles).await;
        let pools = json!({"pools": [self.tenant().pool]});
        self.change(api, Method::PUT, &path, "/pools", pools).await;
        let place =
            json!({"region": "canary-west", "preference": "avoided", "relayedLanes": ["media"]});
        self.change(self.root, Method::PUT, &path, "/place", place).await;
        let cap = json!({"capBitsPerSecond": 800_000_000});
        self.change(self.root, Method::PUT, &path, "/bandwidth", cap).await;
        (host, *credentials)
    }

    async fn node_leaves(&self, host: &Host, credentials: &Credentials) {
        let (api, path) = (self.api(), format!("/nodes/{}", host.node()));
        let request = RenewRequest {
            csr: rap_pki::csr::make(&host.key),
            renewal: 1,
            addresses: vec!["127.0.0.2:4433".parse().unwrap()],
        };
        let renewed = node::call(self.world, credentials, &host.key, "/node/v1/renew", &request);
        assert_eq!(renewed.await.status, 200);
        self.change(api, Method::POST, &path, "/drain", Value::Null).await;
        self.change(api, Method::POST, &path, "/undrain", Value::Null).await;
        self.change(api, Method::POST, &path, "/revoke", json!({"reason": "canary"})).await;
    }

    /// One is rejected, and a token is taken back.
    async fn other_hosts(&self) {
        let secret = self.join_token().await.json["secret"].as_str().unwrap().to_owned();
        let host = node::enroll(self.world, &secret, "canary-other").await;
        let path = format!("/nodes/{}", host.node());
        let reason = json!({"reason": "canary"});
        self.change(self.api(), Method::POST, &path, "/reject", reason).await;
        let token = self.join_token().await.json["token"]["id"].as_str().unwrap().to_owned();
        self.removed(self.api(), &format!("/join-tokens/{token}"), 1).await;
    }

    /// Sessions of each fate, as the node tells of them; the one that is returned goes on.
    async fn sessions(&self, host: &Host, observer: &Tenant) -> String {
        let (api, key) = (self.api(), node::fresh_key().public_key());
        let own = json!({"resource": self.tenant().resource, "clientKey": key});
        let granted = async || {
            let access = self.make(api, "/sessions", own.clone()).await;
            access.json["session"].as_str().unwrap().to_owned()
        };
        let [first, second, third] = [granted().await, granted().await, granted().await];
        let mut newer = own.clone();
        newer["session"] = json!(first);
        self.make(api, "/sessions", newer).await;
        self.removed(api, &format!("/sessions/{second}"), 0).await;
        let denied = self.world.log_in(&self.names.user).await;
        assert_eq!(denied.post("/sessions", own.clone()).await.problem(), "access_denied");
        let foreign = json!({
            "organization": observer.organization, "resource": observer.resource, "clientKey": key,
        });
        assert_eq!(api.post("/sessions", foreign).await.problem(), "not_found");

        let claimed = Claimed {
            organization: self.organization().parse().unwrap(),
            user: self.tenant().owner.parse().unwrap(),
            session: first.parse().unwrap(),
            resource: self.tenant().resource.parse().unwrap(),
        };
        let session = claimed.session;
        let told = [
            Observation::SessionStarted { session, from: None },
            Observation::AccessRefused { code: RefusalCode::AccessDenied, claimed: Some(claimed) },
            Observation::SessionEnded {
                session,
                reason: EndReason::ClientClosed,
                bytes_up: 1,
                bytes_down: 2,
            },
        ];
        let at = rap_control::now();
        let spooled =
            (1..).zip(told).map(|(sequence, observation)| Spooled { sequence, at, observation });
        let told = message(self.world, host, 2, NodeBody::Observations(spooled.collect()));
        say(self.world, host, &told, &host.key).await;
        self.wait("session.ended", &first).await;
        third
    }

    /// Whatever ran ends with it, and begins anew by itself never.
    async fn suspended(&self, session: &str) {
        let (root, path) = (self.root, self.within(""));
        self.change(root, Method::POST, &path, "/suspend", json!({"reason": "canary"})).await;
        self.wait("session.terminated", session).await;
        self.change(root, Method::POST, &path, "/resume", Value::Null).await;
    }

    async fn join_token(&self) -> Reply {
        let organization = self.organization();
        let body = json!({
            "organization": organization, "ttlSeconds": 600, "pools": [self.tenant().pool],
            "roles": [
                {"role": "entry-node", "organizations": [organization]},
                {"role": "stream-worker", "organizations": [organization]},
            ],
        });
        self.make(self.api(), "/join-tokens", body).await
    }

    fn tenant(&self) -> &Tenant {
        self.target.tenant
    }

    fn api(&self) -> &Api {
        &self.tenant().api
    }

    fn organization(&self) -> &str {
        &self.tenant().organization
    }

    fn within(&self, path: &str) -> String {
        format!("/organizations/{}{path}", self.organization())
    }

    async fn make(&self, by: &Api, path: &str, body: Value) -> Reply {
        let made = by.post(path, body).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text);
        made
    }

    /// Changes what is there, over the revision that all events of the log have given it.
    async fn change(
        &self,
        by: &Api,
        method: Method,
        path: &str,
        action: &str,
        body: Value,
    ) -> Reply {
        let known = format!("{path}?min_position={}", self.world.head().await);
        let revision = by.get(&known).await.revision();
        let body = (!body.is_null()).then_some(body);
        let changed = by.change(method, &format!("{path}{action}"), body, revision).await;
        assert!(changed.status.is_success(), "{action} of {path}: {}", changed.text);
        changed
    }

    async fn removed(&self, by: &Api, path: &str, revision: u64) {
        let removed = by.change(Method::DELETE, path, None, revision).await;
        assert_eq!(removed.status, 204, "{path}: {}", removed.text);
    }

    /// Makes something, changes it, and removes it again.
    async fn brief(
        &self,
        path: &str,
        body: Value,
        changes: impl IntoIterator<Item = (Method, &str, Value)>,
    ) {
        let place = format!("{path}/{}", self.make(self.api(), path, body).await.id());
        for (method, action, body) in changes {
            self.change(self.api(), method, &place, action, body).await;
        }
        self.change(self.api(), Method::DELETE, &place, "", Value::Null).await;
    }

    /// Waits until an event of that type is about this thing.
    async fn wait(&self, event_type: &str, id: &str) {
        let mut after = 0;
        loop {
            let page = self.world.log.read(after, MAX_READ_EVENTS).await.unwrap();
            let found = |event: &rap_events::Envelope| {
                event.event_type == event_type && event.stream.id.to_string() == id
            };
            if page.iter().any(found) {
                return;
            }
            after = page.last().map_or(after, |event| event.position);
            let more = timeout(PATIENCE, self.world.log.wait_beyond(after)).await;
            more.unwrap_or_else(|_| panic!("no {event_type} of {id}")).unwrap();
        }
    }

    async fn written(&self, mut after: u64) -> BTreeSet<String> {
        let mut types = BTreeSet::new();
        loop {
            let page = self.world.log.read(after, MAX_READ_EVENTS).await.unwrap();
            let Some(last) = page.last() else { return types };
            after = last.position;
            types.extend(page.into_iter().map(|event| event.event_type));
        }
    }
}
