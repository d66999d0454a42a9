//! `rap vpn`.

use rap_proto::api::{Changed, NewVpnConnection, Reference, SetVpnConnectionNodes, VpnConnection};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{api::Api, args::VpnCommand, failure::Failure, output::Row};

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

pub(super) async fn run(context: &Context, command: VpnCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let base = format!("{}/vpn-connections", context.organization_path(&api).await?);
    match command {
        VpnCommand::Ls => context.list(&api.list::<VpnConnection>(&base, &[]).await?),
        VpnCommand::Get { connection } => {
            context.one(&api.get::<VpnConnection>(&format!("{base}/{connection}")).await?)
        }
        VpnCommand::Create { name, class, nodes, enable } => {
            let body = NewVpnConnection { name, class, nodes, enabled: enable };
            context.one(&api.post::<_, VpnConnection>(&base, &body).await?)
        }
        VpnCommand::Nodes { connection, nodes } => {
            let body = SetVpnConnectionNodes { nodes };
            act(&api, &base, Method::PUT, (&connection, "nodes"), Some(&body)).await?;
            context.did(&format!("{connection} is carried by the nodes as given"))
        }
        VpnCommand::Enable { connection } => {
            post(&api, &base, &connection, "enable").await?;
            context.did(&format!("{connection} is wanted"))
        }
        VpnCommand::Disable { connection } => {
            post(&api, &base, &connection, "disable").await?;
            context.did(&format!("{connection} is wanted no more"))
        }
        VpnCommand::Drain { connection } => {
            post(&api, &base, &connection, "drain").await?;
            context.did(&format!("who carries {connection} is asked to hand over"))
        }
        VpnCommand::Rm { connection } => {
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
