//! The demo's organization, people, resources and policy, made through the API as an
//! administrator would. Doing it again finds what is there.

use std::{fs, net::SocketAddr, time::Duration};

use rap_proto::{
    Name, OrganizationRole, ResourceKind,
    api::{
        LoggedIn, Member, NewLogin, NewOrganization, NewPolicy, NewPool, NewResource, NewUser,
        Organization, PolicyRules, Pool, Reference, Resource, SecretText, SetMember, Setup,
        TargetSpec, User, UserCreated,
    },
    key::LocalKey,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    control::Control,
    place::{Place, Remembered},
    targets::{self, Targets},
    web::PAGE,
};
use crate::{
    api::{Api, KnownServers},
    failure::{Exit, Failure},
    link::{self, Link},
    profile::Profile,
    random,
};

pub(super) const OWNER: &str = "admin";
pub(super) const USER: &str = "alice";
pub(super) const ORGANIZATION: &str = "demo";
const POOL: &str = "office";
const POLICY: &str = "alice-demo";
/// How long the first request may take, with all that nodes must learn before.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);
const TRY_PAUSE: Duration = Duration::from_millis(200);
/// More than the answer to the first request can be.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

pub(super) struct People {
    pub(super) owner: Api,
    owner_login: LoggedIn,
    user_login: LoggedIn,
    user_key: LocalKey,
    pub(super) organization: Organization,
    pub(super) pool: Pool,
}

impl People {
    pub(super) async fn set_up(
        control: &Control,
        remembered: &Remembered,
    ) -> Result<Self, Failure> {
        let anonymous = Api::new(KnownServers::one(control.url.clone()), control.ca, None)?;
        let owner_login = owner(&anonymous, control, &remembered.owner_password).await?;
        let owner = Api::new(
            KnownServers::one(control.url.clone()),
            control.ca,
            Some(owner_login.secret.clone()),
        )?;
        let organization: Organization = ensure(
            &owner,
            "/organizations",
            &name(ORGANIZATION),
            &NewOrganization { name: name(ORGANIZATION), owner: Some(name(OWNER).into()) },
        )
        .await?;
        user(&owner, &remembered.user_password).await?;
        let base = format!("/organizations/{}", organization.id);
        let new_pool = NewPool { name: name(POOL) };
        let pool: Pool = ensure(&owner, &format!("{base}/pools"), &name(POOL), &new_pool).await?;
        let user_login = log_in(&anonymous, USER, &remembered.user_password).await?;
        let (user_key, _) = random::key();
        Ok(Self { owner, owner_login, user_login, user_key, organization, pool })
    }

    pub(super) async fn create_resources(&self, targets: &Targets) -> Result<(), Failure> {
        let base = format!("/organizations/{}", self.organization.id);
        let mut resources = vec![(targets::WEB, ResourceKind::Web, targets.web_address)];
        resources.extend(targets.ssh().map(|ssh| (targets::SSH, ResourceKind::Ssh, ssh.address)));
        for (resource, kind, address) in &resources {
            let body = NewResource {
                name: name(resource),
                kind: *kind,
                target: local_target(*address),
                pool: Reference::Id(self.pool.id.uuid()),
                labels: std::collections::BTreeMap::new(),
            };
            let path = format!("{base}/resources");
            let _: Resource = ensure(&self.owner, &path, &name(resource), &body).await?;
        }
        let rules = PolicyRules {
            users: vec![name(USER).into()],
            roles: vec![],
            resources: resources.iter().map(|(resource, ..)| name(resource).into()).collect(),
            kinds: vec![],
        };
        let body = NewPolicy { name: name(POLICY), rules: Some(rules), document: None };
        let path = format!("{base}/policies");
        let _: rap_proto::api::Policy = ensure(&self.owner, &path, &name(POLICY), &body).await?;
        Ok(())
    }

    /// Leaves alice logged in, the owner as the profile `admin`, and a configuration file.
    pub(super) fn keep_logins(
        &self,
        place: &Place,
        control: &Control,
        targets: &Targets,
    ) -> Result<(), Failure> {
        let (owner_key, _) = random::key();
        for (profile, login, key) in
            [("default", &self.user_login, &self.user_key), (OWNER, &self.owner_login, &owner_key)]
        {
            Profile::new(control.url.clone(), control.ca, login.clone(), key)
                .save(&place.home(), &name(profile))?;
        }
        let mut text = format!(
            "control = \"{}\"\nca = \"{}\"\norganization = \"{ORGANIZATION}\"\n",
            control.url, control.ca
        );
        if let Some(ssh) = targets.ssh() {
            // JSON's strings are strings of TOML too.
            let identity = serde_json::Value::from(ssh.identity.display().to_string());
            text.push_str(&format!(
                "\n[ssh.{}]\nuser = \"{}\"\nidentity = {identity}\n",
                targets::SSH,
                ssh.user
            ));
        }
        let path = place.home().join("config.toml");
        fs::write(&path, text)
            .map_err(|error| Failure::io(format!("cannot write {}", path.display()), &error))
    }

    /// Fetches the demo's page through the fabric, as alice.
    pub(super) async fn try_out(&self, control: &Control) -> Result<(), Failure> {
        let attempts = async {
            loop {
                match self.fetch(control).await {
                    Ok(()) => return Ok(()),
                    Err(failure) if failure.exit == Exit::Unavailable => {
                        tracing::info!(%failure, "not ready yet");
                        tokio::time::sleep(TRY_PAUSE).await;
                    }
                    Err(failure) => return Err(failure),
                }
            }
        };
        tokio::time::timeout(TRY_TIMEOUT, attempts).await.unwrap_or_else(|_| {
            Err(Failure::unavailable("no request came through the fabric")
                .hint("start it with --log info to see why"))
        })
    }

    async fn fetch(&self, control: &Control) -> Result<(), Failure> {
        let secret = self.user_login.secret.clone();
        let link = Link::open(link::Request {
            api: Api::new(KnownServers::one(control.url.clone()), control.ca, Some(secret))?,
            organization: Some(name(ORGANIZATION).into()),
            resource: name(targets::WEB).into(),
            key: self.user_key.clone(),
            carrier: None,
        })
        .await?;
        let mut channel = link.channel(None).await?;
        let lost = |error: std::io::Error| Failure::unavailable(format!("the request: {error}"));
        channel
            .write_all(b"GET / HTTP/1.1\r\nHost: demo-web\r\nConnection: close\r\n\r\n")
            .await
            .map_err(lost)?;
        channel.flush().await.map_err(lost)?;
        let mut answer = Vec::new();
        let limit = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX);
        channel.take(limit).read_to_end(&mut answer).await.map_err(lost)?;
        link.close().await;
        if String::from_utf8_lossy(&answer).ends_with(PAGE) {
            Ok(())
        } else {
            Err(Failure::unavailable("the demo's page came back changed"))
        }
    }
}

async fn owner(api: &Api, control: &Control, password: &SecretText) -> Result<LoggedIn, Failure> {
    match &control.setup_code {
        Some(code) => {
            let setup =
                Setup { setup_code: code.clone(), name: name(OWNER), password: password.clone() };
            api.post("/setup", &setup).await
        }
        None => log_in(api, OWNER, password).await,
    }
}

async fn log_in(api: &Api, who: &str, password: &SecretText) -> Result<LoggedIn, Failure> {
    let device = Some("rap dev".to_owned());
    api.post("/logins", &NewLogin { name: name(who), password: password.clone(), device }).await
}

async fn user(owner: &Api, password: &SecretText) -> Result<(), Failure> {
    let known: Result<User, Failure> = owner.get(&format!("/users/{USER}")).await;
    if is_missing(&known) {
        let body = NewUser {
            name: name(USER),
            display_name: "Alice".to_owned(),
            password: Some(password.clone()),
            organization: None,
            role: None,
        };
        let _: UserCreated = owner.post("/users", &body).await?;
    } else {
        known?;
    }
    let path = format!("/organizations/{ORGANIZATION}/members/{USER}");
    let known: Result<Member, Failure> = owner.get(&path).await;
    if is_missing(&known) {
        let body = SetMember { role: OrganizationRole::User };
        owner.put(&path, None, Some(&body)).await
    } else {
        known.map(drop)
    }
}

/// The thing of that name, created when it is missing.
async fn ensure<B: Serialize, T: DeserializeOwned>(
    api: &Api,
    list: &str,
    name: &Name,
    body: &B,
) -> Result<T, Failure> {
    let known = api.get(&format!("{list}/{name}")).await;
    if is_missing(&known) { api.post(list, body).await } else { known }
}

fn is_missing<T>(known: &Result<T, Failure>) -> bool {
    known.as_ref().is_err_and(|failure| failure.exit == Exit::NotFound)
}

fn local_target(address: SocketAddr) -> TargetSpec {
    TargetSpec { host: address.ip().to_string(), port: address.port(), allow_local: true }
}

/// # Panics
/// When `text` is no name; it is one of this module's.
pub(super) fn name(text: &str) -> Name {
    text.parse().expect("a name of ours")
}
