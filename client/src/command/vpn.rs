//! `rap vpn`.

use rap_proto::api::{
    AcceptLoss, Changed, Leases, NewVpnConnection, Reference, SetVpnConnectionNodes, VpnConnection,
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{
    api::Api,
    args::{ConnectionCommand, VpnCommand},
    failure::Failure,
    output::Row,
};

const LEASES: &str = "/leases";

impl Row for VpnConnection {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "CLASS", "WANTED", "CARRIED", "WHY", "GENERATION"];

    fn cells(&self) -> Vec<String> {
        let carried = match (self.held, self.node) {
            (false, _) => "no".to_owned(),
            (true, Some(node)) => node.to_string(),
            (true, None) => "yes".to_owned(),
        };
        vec![
            self.name.to_string(),
            self.class.to_string(),
            if self.enabled { "yes" } else { "no" }.to_owned(),
            carried,
            self.reason.clone().unwrap_or_default().replace('_', " "),
            self.generation.to_string(),
        ]
    }
}

impl Row for Leases {
    const COLUMNS: &'static [&'static str] = &["TIMELINE", "ACCEPTED", "HELD UP"];

    fn cells(&self) -> Vec<String> {
        let accepted = self.loss_accepted.map(|timeline| timeline.to_string());
        vec![self.timeline.to_string(), accepted.unwrap_or_default(), self.held_up.to_string()]
    }
}

pub(super) async fn run(context: &Context, command: VpnCommand) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        VpnCommand::Loss => context.one(&api.get::<Leases>(LEASES).await?),
        VpnCommand::AcceptLoss { timeline } => {
            let found: Leases = api.get(LEASES).await?;
            let (path, body) = (format!("{LEASES}/accept-loss"), AcceptLoss { timeline });
            let _: Changed =
                api.change(Method::POST, &path, Some(found.revision), Some(&body)).await?;
            context.did(&format!("what was lost before timeline {timeline} is given up"))
        }
        VpnCommand::Of(command) => run_in(context, &api, command).await,
    }
}

/// What is about the connections of one organization.
async fn run_in(context: &Context, api: &Api, command: ConnectionCommand) -> Result<(), Failure> {
    let base = format!("{}/vpn-connections", context.organization_path(api).await?);
    match command {
        ConnectionCommand::Ls => context.list(&api.list::<VpnConnection>(&base, &[]).await?),
        ConnectionCommand::Get { connection } => {
            context.one(&api.get::<VpnConnection>(&format!("{base}/{connection}")).await?)
        }
        ConnectionCommand::Create { name, class, nodes, enable } => {
            let body = NewVpnConnection { name, class, nodes, enabled: enable };
            context.one(&api.post::<_, VpnConnection>(&base, &body).await?)
        }
        ConnectionCommand::Nodes { connection, nodes } => {
            let body = SetVpnConnectionNodes { nodes };
            act(api, &base, Method::PUT, (&connection, "nodes"), Some(&body)).await?;
            context.did(&format!("{connection} is carried by the nodes as given"))
        }
        ConnectionCommand::Enable { connection } => {
            post(api, &base, &connection, "enable").await?;
            context.did(&format!("{connection} is wanted"))
        }
        ConnectionCommand::Disable { connection } => {
            post(api, &base, &connection, "disable").await?;
            context.did(&format!("{connection} is wanted no more"))
        }
        ConnectionCommand::Drain { connection } => {
            post(api, &base, &connection, "drain").await?;
            context.did(&format!("who carries {connection} is asked to hand over"))
        }
        ConnectionCommand::Rm { connection } => {
            let path = format!("{base}/{connection}");
            let found: VpnConnection = api.get(&path).await?;
            api.delete(&path, Some(found.revision)).await?;
            context.did(&format!("{connection} is removed"))
        }
    }
}

async fn post(api: &Api, base: &str, connection: &Reference, action: &str) -> Result<(), Failure> {
    act(api, base, Method::POST, (connection, action), None::<&SetVpnConnectionNodes>).await
}

async fn act<B: Serialize>(
    api: &Api,
    base: &str,
    method: Method,
    (connection, action): (&Reference, &str),
    body: Option<&B>,
) -> Result<(), Failure> {
    let found: VpnConnection = api.get(&format!("{base}/{connection}")).await?;
    let path = format!("{base}/{}/{action}", found.id);
    let _: Changed = api.change(method, &path, Some(found.revision), body).await?;
    Ok(())
}
