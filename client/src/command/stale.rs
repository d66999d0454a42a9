//! `rap stale`.

use rap_proto::{
    api::{Changed, PlatformStale, SetPlatformStale},
    snapshot::StalePolicy,
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{args::StaleCommand, failure::Failure, output::Row};

const PATH: &str = "/platform/stale";

#[derive(Debug, Serialize)]
struct Line {
    policy: StalePolicy,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["POLICY"];

    fn cells(&self) -> Vec<String> {
        vec![self.policy.to_string()]
    }
}

pub(super) async fn run(context: &Context, command: StaleCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let found: PlatformStale = api.get(PATH).await?;
    let StaleCommand::Set { policy, .. } = command else {
        return context.list(&[Line { policy: found.policy }]);
    };
    let body = SetPlatformStale { policy };
    let _: Changed = api.change(Method::PUT, PATH, Some(found.revision), Some(&body)).await?;
    let found: PlatformStale = api.get(PATH).await?;
    context.list(&[Line { policy: found.policy }])
}
