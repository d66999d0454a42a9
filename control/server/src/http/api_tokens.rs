//! API tokens: a program's access in the name of a user, never more than the user has.

use std::time::Duration;

use rap_control_core::{Action, Target, state::ApiToken as Found};
use rap_events::api_token::{self, ApiTokenCommand};
use rap_proto::{
    ApiTokenId,
    api::{ApiToken, ApiTokenCreated, NewApiToken, Page},
    secret::ApiSecret,
};

use super::{
    account::check_label,
    answer::{Done, blank},
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, not_found},
    page, reference,
};

pub(super) async fn list(call: Call) -> Result<Page<ApiToken>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let seen = call.state.api_tokens().iter();
    let seen = seen.filter(|token| call.may(Action::ReadApiToken, Target::ApiToken(token.id)));
    page::of(&call, seen, |token| token.id, show)
}

pub(super) async fn create(
    call: Call,
    body: NewApiToken,
) -> Result<Done<ApiTokenCreated>, Failure> {
    let user = call.principal()?.user().ok_or_else(not_found)?;
    call.allow(Action::CreateApiToken, Target::User(user))?;
    let organization = match &body.organization {
        None => None,
        Some(named) => {
            let found = reference::organization(&call.state, named).ok_or_else(not_found)?;
            call.allow(Action::ReadOrganization, Target::Organization(found.id))?;
            Some(found.id)
        }
    };
    check_label(&body.label, "label")?;
    let id = call.fresh(ApiTokenId::new);
    let expires_at = call.now + Duration::from_secs(body.ttl_seconds);
    let mut work = call.work();
    let mut loaded = work.load::<api_token::ApiToken>(id.uuid()).await?;
    let command = ApiTokenCommand::Create {
        user,
        secret: call.secret::<ApiSecret>().digest().into(),
        label: body.label.clone(),
        scopes: body.scopes.clone(),
        organization,
        expires_at,
    };
    work.decide(&mut loaded, command)?;
    let answer = ApiTokenCreated {
        token: ApiToken {
            id,
            label: body.label,
            organization,
            user,
            scopes: body.scopes,
            created_at: call.now,
            expires_at,
            revoked: false,
            revision: loaded.revision,
        },
        secret: blank(),
    };
    call.commit(work, answer).await
}

pub(super) async fn revoke(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let id: ApiTokenId = call.param("token")?;
    call.allow(Action::RevokeApiToken, Target::ApiToken(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<api_token::ApiToken>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, ApiTokenCommand::Revoke)?;
    call.commit(work, Gone {}).await
}

fn show(token: &Found) -> ApiToken {
    ApiToken {
        id: token.id,
        label: token.label.clone(),
        organization: token.organization,
        user: token.user,
        scopes: token.scopes.clone(),
        created_at: token.stamp.created_at,
        expires_at: token.expires_at,
        revoked: token.revoked,
        revision: token.stamp.revision,
    }
}
