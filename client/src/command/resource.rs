//! `rap resource` and `rap pool`.

use std::collections::BTreeMap;

use rap_proto::Name;
use rap_proto::api::{
    ChangeResource, Changed, NewPool, NewResource, Pool, Resource, SetResourceConnection,
    TargetSpec,
};
use reqwest::Method;

use super::Context;
use crate::{
    args::{LabelArgument, PoolCommand, ResourceCommand, TargetArgument},
    failure::Failure,
    output::Row,
};

impl Row for Resource {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "KIND", "TARGET", "LOCAL", "POOL", "AVAILABILITY"];

    fn cells(&self) -> Vec<String> {
        let TargetSpec { host, port, allow_local } = &self.target;
        let target =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        vec![
            self.name.to_string(),
            self.kind.to_string(),
            target,
            if *allow_local { "allowed" } else { "refused" }.to_owned(),
            self.pool_name.to_string(),
            self.availability.map(|word| word.to_string()).unwrap_or_default(),
        ]
    }
}

impl Row for Pool {
    const COLUMNS: &'static [&'static str] = &["NAME", "NODES", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.to_string(), self.nodes.to_string(), self.id.to_string()]
    }
}

pub(super) async fn run(context: &Context, command: ResourceCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let base = format!("{}/resources", context.organization_path(&api).await?);
    match command {
        ResourceCommand::Ls => context.list(&api.list::<Resource>(&base, &[]).await?),
        ResourceCommand::Get { resource } => {
            context.one(&api.get::<Resource>(&format!("{base}/{resource}")).await?)
        }
        ResourceCommand::Create { name, kind, target, pool, allow_local, labels } => {
            let body = NewResource {
                name,
                kind,
                target: spec(target, allow_local),
                pool,
                labels: named(labels),
            };
            context.one(&api.post::<_, Resource>(&base, &body).await?)
        }
        ResourceCommand::Set { resource, kind, target, pool, allow_local, labels, no_labels } => {
            let path = format!("{base}/{resource}");
            let found: Resource = api.get(&path).await?;
            let target =
                target.map(|target| spec(target, allow_local.unwrap_or(found.target.allow_local)));
            let labels = (no_labels || !labels.is_empty()).then(|| named(labels));
            let body = ChangeResource { kind, target, pool, labels };
            let _: Changed =
                api.change(Method::PATCH, &path, Some(found.revision), Some(&body)).await?;
            context.one(&api.get::<Resource>(&path).await?)
        }
        ResourceCommand::Carry { resource, connection, none: _ } => {
            let path = format!("{base}/{resource}");
            let found: Resource = api.get(&path).await?;
            let path = format!("{base}/{}", found.id);
            let body = SetResourceConnection { connection };
            let put = format!("{path}/connection");
            let _: Changed =
                api.change(Method::PUT, &put, Some(found.revision), Some(&body)).await?;
            context.one(&api.get::<Resource>(&path).await?)
        }
        ResourceCommand::Rm { resource } => {
            let path = format!("{base}/{resource}");
            let found: Resource = api.get(&path).await?;
            api.delete(&path, Some(found.revision)).await?;
            context.did(&format!("{resource} is removed"))
        }
    }
}

pub(super) async fn pool(context: &Context, command: PoolCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let base = format!("{}/pools", context.organization_path(&api).await?);
    match command {
        PoolCommand::Ls => context.list(&api.list::<Pool>(&base, &[]).await?),
        PoolCommand::Get { pool } => {
            context.one(&api.get::<Pool>(&format!("{base}/{pool}")).await?)
        }
        PoolCommand::Create { name } => {
            context.one(&api.post::<_, Pool>(&base, &NewPool { name }).await?)
        }
        PoolCommand::Rm { pool } => {
            let path = format!("{base}/{pool}");
            let found: Pool = api.get(&path).await?;
            api.delete(&path, Some(found.revision)).await?;
            context.did(&format!("{pool} is removed"))
        }
    }
}

fn spec(target: TargetArgument, allow_local: bool) -> TargetSpec {
    TargetSpec { host: target.host, port: target.port, allow_local }
}

fn named(labels: Vec<LabelArgument>) -> BTreeMap<Name, Name> {
    labels.into_iter().map(|LabelArgument(key, value)| (key, value)).collect()
}
