//! `rap token`: join tokens and API tokens.

use rap_proto::{
    Timestamp,
    api::{ApiToken, ApiTokenCreated, JoinToken, JoinTokenCreated, NewApiToken, NewJoinToken},
};

use super::{Context, node, now};
use crate::{
    api::Api,
    args::{ApiTokenCommand, JoinTokenCommand, TokenCommand},
    failure::{Exit, Failure},
    output::{self, Row},
};

impl Row for JoinToken {
    const COLUMNS: &'static [&'static str] =
        &["ID", "STATE", "ROLES", "HOST", "APPROVAL", "EXPIRES"];

    fn cells(&self) -> Vec<String> {
        let state = match (self.used_by, self.revoked) {
            (Some(_), _) => "used",
            (None, true) => "revoked",
            (None, false) => open_or_expired(self.expires_at),
        };
        let roles: Vec<&str> = self.roles.iter().map(|scope| scope.role.as_str()).collect();
        vec![
            self.id.to_string(),
            state.to_owned(),
            roles.join(","),
            self.host.as_ref().map(ToString::to_string).unwrap_or_default(),
            if self.auto_approve { "automatic" } else { "needed" }.to_owned(),
            self.expires_at.to_string(),
        ]
    }
}

impl Row for ApiToken {
    const COLUMNS: &'static [&'static str] = &["ID", "LABEL", "STATE", "SCOPES", "EXPIRES"];

    fn cells(&self) -> Vec<String> {
        let state = if self.revoked { "revoked" } else { open_or_expired(self.expires_at) };
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        vec![
            self.id.to_string(),
            self.label.clone(),
            state.to_owned(),
            scopes.join(","),
            self.expires_at.to_string(),
        ]
    }
}

fn open_or_expired(expires_at: Timestamp) -> &'static str {
    if expires_at <= now() { "expired" } else { "open" }
}

pub(super) async fn run(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        TokenCommand::Join(command) => join(context, &api, command).await,
        TokenCommand::Api(command) => api_token(context, &api, command).await,
    }
}

async fn join(context: &Context, api: &Api, command: JoinTokenCommand) -> Result<(), Failure> {
    match command {
        JoinTokenCommand::Ls => context.list(&api.list::<JoinToken>("/join-tokens", &[]).await?),
        JoinTokenCommand::Create { roles, pools, host, ttl, auto_approve } => {
            // Pools are an organization's, so naming them means the usual one.
            let usual = || context.config.organization().filter(|_| !pools.is_empty());
            let organization = context.config.asked_organization().or_else(usual);
            let only = match &organization {
                Some(organization) => Some(node::organization_id(api, organization).await?),
                None => None,
            };
            let body = NewJoinToken {
                organization,
                roles: node::role_scopes(api, &roles, only).await?,
                pools: node::pool_ids(context, api, &pools).await?,
                host,
                ttl_seconds: ttl.0.as_secs(),
                auto_approve,
            };
            let created: JoinTokenCreated = api.post("/join-tokens", &body).await?;
            let sentence = format!(
                "until {} type on the host, once:\n  rap-node-agent join --control {} --ca \
                 sha256:{} --token {}",
                created.token.expires_at,
                api.servers().present(),
                created.ca_fingerprint,
                created.secret.reveal()
            );
            output::done(context.format(), &sentence, &created)
        }
        JoinTokenCommand::Rm { token } => {
            let all: Vec<JoinToken> = api.list("/join-tokens", &[]).await?;
            let found = all.iter().find(|found| found.id == token).ok_or_else(not_found)?;
            api.delete(&format!("/join-tokens/{token}"), Some(found.revision)).await?;
            context.did("the join token is revoked")
        }
    }
}

async fn api_token(context: &Context, api: &Api, command: ApiTokenCommand) -> Result<(), Failure> {
    match command {
        ApiTokenCommand::Ls => context.list(&api.list::<ApiToken>("/api-tokens", &[]).await?),
        ApiTokenCommand::Create { label, scopes, ttl } => {
            let body = NewApiToken {
                label,
                organization: context.config.asked_organization(),
                scopes: scopes.into_iter().collect(),
                ttl_seconds: ttl.0.as_secs(),
            };
            let created: ApiTokenCreated = api.post("/api-tokens", &body).await?;
            let sentence = format!(
                "until {}, shown this once; programs give it to rap as RAP_TOKEN:\n  {}",
                created.token.expires_at,
                created.secret.reveal()
            );
            output::done(context.format(), &sentence, &created)
        }
        ApiTokenCommand::Rm { token } => {
            let all: Vec<ApiToken> = api.list("/api-tokens", &[]).await?;
            let found = all.iter().find(|found| found.id == token).ok_or_else(not_found)?;
            api.delete(&format!("/api-tokens/{token}"), Some(found.revision)).await?;
            context.did("the API token is revoked")
        }
    }
}

fn not_found() -> Failure {
    Failure::new(Exit::NotFound, "there is no such token, or you may not see it")
}
