//! API tokens: a program's access in the name of a user, never more than the user has.

use std::time::Duration;

use rap_control_core::{Action, Target, state::ApiToken as Found};
use rap_events::api_token::{self, ApiTokenCommand, ApiTokenRejection};
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
    page,
    personal::{self, Shown},
    reference,
};

pub(super) async fn list(call: Call) -> Result<Page<ApiToken>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let seen = call.state.api_tokens().iter();
    let seen = seen.filter(|token| call.may(Action::ReadApiToken, Target::ApiToken(token.id)));
    let page = page::of(&call, seen, |token| token.id, Found::clone)?;
    let labels = personal::labels(&call, &page.items).await?;
    let shown = page.items.iter().zip(labels).map(|(token, label)| show(token, label));
    Ok(Page { items: shown.collect(), next: page.next })
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
    let (place, refused) = ((user, api_token::LABEL), ApiTokenRejection::TextNotPlain);
    let label =
        personal::seal::<api_token::ApiToken>(&call, &mut work, place, &body.label, refused)
            .await?;
    let command = ApiTokenCommand::Create {
        user,
        secret: call.secret::<ApiSecret>().digest().into(),
        label,
        scopes: body.scopes.clone(),
        organization,
        expires_at,
    };
    work.decide(&mut loaded, command)?;
    let answer = ApiTokenCreated {
        token: ApiToken {
            id,
            // Put in from the event: a stored reply stays when the person is erased.
            label: String::new(),
            sealed: false,
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

fn show(token: &Found, label: Shown) -> ApiToken {
    ApiToken {
        id: token.id,
        label: label.text,
        sealed: label.sealed,
        organization: token.organization,
        user: token.user,
        scopes: token.scopes.clone(),
        created_at: token.stamp.created_at,
        expires_at: token.expires_at,
        revoked: token.revoked,
        revision: token.stamp.revision,
    }
}
