//! `rap org`.

use rap_proto::api::{
    Because, Changed, Me, Member, NewOrganization, Organization, Quotas, Reference,
    RenameOrganization, SetMember, SetQuotas,
};
use reqwest::Method;

use super::Context;
use crate::{args::OrgCommand, failure::Failure, output::Row};

impl Row for Organization {
    const COLUMNS: &'static [&'static str] = &["NAME", "STATE", "CREATED", "ID"];

    fn cells(&self) -> Vec<String> {
        let state = if self.suspended { "suspended" } else { "active" };
        vec![
            self.name.to_string(),
            state.to_owned(),
            self.created_at.to_string(),
            self.id.to_string(),
        ]
    }
}

impl Row for Member {
    const COLUMNS: &'static [&'static str] = &["NAME", "ROLE", "USER"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.to_string(), self.role.to_string(), self.user.to_string()]
    }
}

pub(super) async fn run(context: &Context, command: OrgCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let revision = async |path: &str| -> Result<u64, Failure> {
        Ok(api.get::<Organization>(path).await?.revision)
    };
    match command {
        OrgCommand::Ls => context.list(&api.list::<Organization>("/organizations", &[]).await?),
        OrgCommand::Get { org } => {
            context.one(&api.get::<Organization>(&format!("/organizations/{org}")).await?)
        }
        OrgCommand::Create { name, owner } => {
            let owner = match owner {
                Some(owner) => owner,
                None => Reference::Id(api.get::<Me>("/me").await?.user.uuid()),
            };
            let body = NewOrganization { name, owner: Some(owner) };
            context.one(&api.post::<_, Organization>("/organizations", &body).await?)
        }
        OrgCommand::Rename { org, name } => {
            let path = format!("/organizations/{org}");
            let body = RenameOrganization { name };
            let revision = revision(&path).await?;
            let _: Changed = api.change(Method::PATCH, &path, Some(revision), Some(&body)).await?;
            context.did(&format!("{org} is now {}", body.name))
        }
        OrgCommand::Suspend { org, reason } => {
            let path = format!("/organizations/{org}");
            let revision = revision(&path).await?;
            let (path, body) = (format!("{path}/suspend"), Because { reason });
            let _: Changed = api.change(Method::POST, &path, Some(revision), Some(&body)).await?;
            context.did(&format!("{org} is suspended"))
        }
        OrgCommand::Resume { org } => {
            let path = format!("/organizations/{org}");
            let revision = revision(&path).await?;
            let path = format!("{path}/resume");
            let _: Changed =
                api.change(Method::POST, &path, Some(revision), None::<&Because>).await?;
            context.did(&format!("{org} is resumed"))
        }
        OrgCommand::Rm { org } => {
            let path = format!("/organizations/{org}");
            api.delete(&path, Some(revision(&path).await?)).await?;
            context.did(&format!("{org} is removed"))
        }
        OrgCommand::Members { org } => {
            let path = format!("/organizations/{org}/members");
            context.list(&api.list::<Member>(&path, &[]).await?)
        }
        OrgCommand::SetMember { org, user, role } => {
            let path = format!("/organizations/{org}/members/{user}");
            let known = match api.get::<Member>(&path).await {
                Ok(member) => Some(member.revision),
                Err(failure) if failure.exit == crate::failure::Exit::NotFound => None,
                Err(failure) => return Err(failure),
            };
            api.put(&path, known, Some(&SetMember { role })).await?;
            context.did(&format!("{user} is {role} of {org}"))
        }
        OrgCommand::Quota { org, nodes, sessions, events_per_second } => {
            quotas(context, &org, &SetQuotas { nodes, sessions, events_per_second }).await
        }
        OrgCommand::RmMember { org, user } => {
            let path = format!("/organizations/{org}/members/{user}");
            let member: Member = api.get(&path).await?;
            api.delete(&path, Some(member.revision)).await?;
            context.did(&format!("{user} is no member of {org} any more"))
        }
    }
}

/// Sets what is given, and shows the quotas.
async fn quotas(context: &Context, org: &Reference, wanted: &SetQuotas) -> Result<(), Failure> {
    let api = context.api()?;
    let path = format!("/organizations/{org}/quotas");
    let SetQuotas { nodes, sessions, events_per_second } = wanted;
    if nodes.is_some() || sessions.is_some() || events_per_second.is_some() {
        let found: Quotas = api.get(&path).await?;
        let revision = Some(found.revision);
        let _: Changed = api.change(Method::PUT, &path, revision, Some(wanted)).await?;
    }
    context.one(&api.get::<Quotas>(&path).await?)
}
