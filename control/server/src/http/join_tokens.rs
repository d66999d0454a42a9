//! Join tokens: each lets one host ask for enrollment, once.

use std::time::Duration;

use rap_control_core::{Action, Target, state::JoinToken as Found};
use rap_events::join_token::{self, JoinTokenCommand};
use rap_proto::{
    JoinTokenId,
    api::{JoinToken, JoinTokenCreated, NewJoinToken, Page},
    secret::JoinSecret,
};

use super::{
    answer::{Done, blank},
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, not_found},
    node_roles, page, reference,
};

pub(super) async fn list(call: Call) -> Result<Page<JoinToken>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let seen = call.state.join_tokens().iter();
    let seen = seen.filter(|token| call.may(Action::ReadJoinToken, Target::JoinToken(token.id)));
    page::of(&call, seen, |token| token.id, show)
}

pub(super) async fn create(
    call: Call,
    body: NewJoinToken,
) -> Result<Done<JoinTokenCreated>, Failure> {
    let organization = match &body.organization {
        None => None,
        Some(named) => Some(reference::organization(&call.state, named).ok_or_else(not_found)?.id),
    };
    let target = organization.map_or(Target::Platform, Target::Organization);
    let action =
        if body.auto_approve { Action::CreateApprovingJoinToken } else { Action::CreateJoinToken };
    call.allow(action, target)?;
    node_roles::check_roles(&call, &body.roles)?;
    node_roles::check_pools(&call.state, organization, &body.pools)?;
    let id = call.fresh(JoinTokenId::new);
    let expires_at = call.now + Duration::from_secs(body.ttl_seconds);
    let mut work = call.work();
    let mut loaded = work.load::<join_token::JoinToken>(id.uuid()).await?;
    let command = JoinTokenCommand::Create {
        secret: call.secret::<JoinSecret>().digest().into(),
        roles: body.roles,
        pools: body.pools,
        organization,
        host_name: body.host,
        expires_at,
        auto_approve: body.auto_approve,
    };
    work.decide(&mut loaded, command)?;
    let created = loaded.state.created.as_ref().ok_or_else(not_found)?;
    let answer = JoinTokenCreated {
        token: JoinToken {
            id,
            organization,
            roles: created.offer.roles.clone(),
            pools: created.offer.pools.iter().copied().collect(),
            host: created.host_name.clone(),
            auto_approve: created.offer.auto_approve,
            expires_at,
            used_by: None,
            revoked: false,
            revision: loaded.revision,
        },
        secret: blank(),
        ca_fingerprint: call.app.custody.authority.fingerprint(),
    };
    call.commit(work, answer).await
}

pub(super) async fn revoke(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let id: JoinTokenId = call.param("token")?;
    call.allow(Action::RevokeJoinToken, Target::JoinToken(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<join_token::JoinToken>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, JoinTokenCommand::Revoke)?;
    call.commit(work, Gone {}).await
}

fn show(token: &Found) -> JoinToken {
    JoinToken {
        id: token.id,
        organization: token.organization,
        roles: token.roles.clone(),
        pools: token.pools.iter().copied().collect(),
        host: token.host_name.clone(),
        auto_approve: token.auto_approve,
        expires_at: token.expires_at,
        used_by: token.used_by,
        revoked: token.revoked,
        revision: token.stamp.revision,
    }
}
