//! `rap node`.

use std::collections::BTreeSet;

use rap_proto::{
    Name, OrganizationId, PoolId,
    api::{
        ApproveNode, Because, Changed, Node, Organization, PlaceNode, Pool, Reference,
        SetNodePools, SetNodeRoles,
    },
    snapshot::RoleScope,
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{
    api::Api,
    args::{NodeCommand, RoleArgument},
    failure::Failure,
    output::Row,
};

impl Row for Node {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "STATE", "ROLES", "ADDRESSES", "SNAPSHOT", "SESSIONS", "SEEN", "AGENT"];

    fn cells(&self) -> Vec<String> {
        let state = if self.draining {
            format!("{}, draining", self.state)
        } else {
            self.state.to_string()
        };
        let roles: Vec<&str> = self.roles.iter().map(|scope| scope.role.as_str()).collect();
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let live = self.live.as_ref();
        let snapshot = match live {
            Some(live) => format!("{}/{}", live.snapshot_version, self.snapshot_version),
            None => format!("-/{}", self.snapshot_version),
        };
        vec![
            self.name.to_string(),
            state,
            roles.join(","),
            addresses.join(","),
            snapshot,
            live.map(|live| live.open_sessions.to_string()).unwrap_or_default(),
            live.map(|live| live.last_seen.to_string()).unwrap_or_default(),
            self.agent_version.clone(),
        ]
    }
}

pub(super) async fn run(context: &Context, command: NodeCommand) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        NodeCommand::Ls => context.list(&api.list::<Node>("/nodes", &[]).await?),
        NodeCommand::Get { node } => {
            context.one(&api.get::<Node>(&format!("/nodes/{node}")).await?)
        }
        NodeCommand::Approve { node, fingerprint } => {
            let body = ApproveNode { fingerprint };
            act(&api, Method::POST, &node, "approve", Some(&body)).await?;
            context.did(&format!("{node} is approved"))
        }
        NodeCommand::Reject { node, reason } => {
            act(&api, Method::POST, &node, "reject", Some(&Because { reason })).await?;
            context.did(&format!("{node} is rejected"))
        }
        NodeCommand::Roles { node, roles, none: _ } => {
            let roles = role_scopes(&api, &roles, None).await?;
            act(&api, Method::PUT, &node, "roles", Some(&SetNodeRoles { roles })).await?;
            context.did(&format!("{node} has the roles as given"))
        }
        NodeCommand::Pools { node, pools, none: _ } => {
            let pools = pool_ids(context, &api, &pools).await?;
            act(&api, Method::PUT, &node, "pools", Some(&SetNodePools { pools })).await?;
            context.did(&format!("{node} serves the pools as given"))
        }
        NodeCommand::Place { node, region, no_region, preference, lanes } => {
            let path = format!("/nodes/{node}");
            let found: Node = api.get(&path).await?;
            let body = PlaceNode {
                region: region.or(found.region.filter(|_| !no_region)),
                preference: preference.unwrap_or(found.preference),
                relayed_lanes: lanes.map(BTreeSet::from_iter),
            };
            let path = format!("{path}/place");
            let revision = Some(found.revision);
            let _: Changed = api.change(Method::PUT, &path, revision, Some(&body)).await?;
            let region = body.region.as_ref().map_or("no known region", Name::as_str);
            let lanes = match body.relayed_lanes.or(found.relayed_lanes) {
                Some(lanes) => {
                    lanes.iter().map(|lane| lane.as_str()).collect::<Vec<_>>().join(", ")
                }
                None => "every lane".to_owned(),
            };
            context.did(&format!("{node} is in {region}, {}, and relays {lanes}", body.preference))
        }
        NodeCommand::Renew => {
            let renew = api.change(Method::POST, "/snapshots/renew", None, None::<&Because>);
            let _: Changed = renew.await?;
            context.did("every node is given a newer snapshot")
        }
        NodeCommand::Drain { node } => {
            act(&api, Method::POST, &node, "drain", None::<&Because>).await?;
            context.did(&format!("{node} takes on nothing new"))
        }
        NodeCommand::Undrain { node } => {
            act(&api, Method::POST, &node, "undrain", None::<&Because>).await?;
            context.did(&format!("{node} takes on new work"))
        }
        NodeCommand::Revoke { node, reason } => {
            act(&api, Method::POST, &node, "revoke", Some(&Because { reason })).await?;
            context.did(&format!("{node} is trusted no longer"))
        }
    }
}

async fn act<B: Serialize>(
    api: &Api,
    method: Method,
    node: &Reference,
    action: &str,
    body: Option<&B>,
) -> Result<(), Failure> {
    let found: Node = api.get(&format!("/nodes/{node}")).await?;
    let path = format!("/nodes/{}/{action}", found.id);
    let _: Changed = api.change(method, &path, Some(found.revision), body).await?;
    Ok(())
}

/// Roles with their organizations as ids. A role without any is for `only`, or else for all.
pub(super) async fn role_scopes(
    api: &Api,
    roles: &[RoleArgument],
    only: Option<OrganizationId>,
) -> Result<Vec<RoleScope>, Failure> {
    let mut scopes = Vec::new();
    for argument in roles {
        let mut organizations = BTreeSet::new();
        for organization in &argument.organizations {
            organizations.insert(organization_id(api, organization).await?);
        }
        if organizations.is_empty() {
            organizations.extend(only);
        }
        let organizations = (!organizations.is_empty()).then_some(organizations);
        scopes.push(RoleScope { role: argument.role, organizations });
    }
    Ok(scopes)
}

pub(super) async fn organization_id(
    api: &Api,
    organization: &Reference,
) -> Result<OrganizationId, Failure> {
    let found: Organization = api.get(&format!("/organizations/{organization}")).await?;
    Ok(found.id)
}

/// Pools of the organization that the command works in, as ids.
pub(super) async fn pool_ids(
    context: &Context,
    api: &Api,
    pools: &[Reference],
) -> Result<BTreeSet<PoolId>, Failure> {
    if pools.is_empty() {
        return Ok(BTreeSet::new());
    }
    let organization = context.organization_path(api).await?;
    let mut ids = BTreeSet::new();
    for pool in pools {
        let found: Pool = api.get(&format!("{organization}/pools/{pool}")).await?;
        ids.insert(found.id);
    }
    Ok(ids)
}
