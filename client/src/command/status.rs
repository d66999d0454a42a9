//! `rap status`.

use std::{process::ExitCode, time::Instant};

use rap_proto::{
    ClusterId, ControlUrl, Name, PlatformRole, Timestamp,
    api::{AuthorityState, Cluster, Me, MyLogin, Reachable},
};
use serde::Serialize;

use super::{Context, now};
use crate::{
    api::Api,
    args::{CaFingerprint, Status},
    failure::{Exit, Failure},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// The server that answered.
    control: ControlUrl,
    /// How many there are to ask.
    servers: usize,
    ca: CaFingerprint,
    cluster: ClusterId,
    control_version: String,
    /// Whether more than half of the control plane's replicas agree.
    authority: AuthorityState,
    client_version: &'static str,
    /// How long the control plane took to answer, in milliseconds.
    answered_in_ms: u64,
    user: Name,
    platform_roles: Vec<PlatformRole>,
    organizations: Vec<String>,
    login_expires_at: Option<Timestamp>,
    /// The devices that the caller is logged in from, each with when it was.
    logins: Vec<String>,
    reachable_resources: usize,
    /// The control plane's clock is not asked; this is this machine's.
    now: Timestamp,
}

pub(super) async fn run(context: &Context, arguments: &Status) -> Result<ExitCode, Failure> {
    match report(context).await {
        Ok(_) if arguments.check => Ok(ExitCode::SUCCESS),
        Err(_) if arguments.check => Ok(ExitCode::FAILURE),
        Ok(report) => {
            context.one(&report)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Err(failure),
    }
}

async fn report(context: &Context) -> Result<Report, Failure> {
    let api = context.api()?;
    let asked = Instant::now();
    let cluster: Cluster = api.get("/cluster").await?;
    let answered_in_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let me: Me = api.get("/me").await?;
    let reachable: Vec<Reachable> = api.list("/resources", &[]).await?;
    let logins = logins(&api).await?;
    Ok(Report {
        control: api.servers().present(),
        servers: api.servers().count(),
        ca: api.ca(),
        cluster: cluster.id,
        control_version: cluster.version,
        authority: cluster.authority,
        client_version: env!("CARGO_PKG_VERSION"),
        answered_in_ms,
        user: me.name,
        platform_roles: me.platform_roles.into_iter().collect(),
        organizations: me
            .organizations
            .iter()
            .map(|organization| format!("{} ({})", organization.name, organization.role))
            .collect(),
        login_expires_at: me.expires_at,
        logins,
        reachable_resources: reachable.len(),
        now: now(),
    })
}

async fn logins(api: &Api) -> Result<Vec<String>, Failure> {
    let logins: Vec<MyLogin> = match api.list("/me/logins", &[]).await {
        // A control plane of the release before does not know the list.
        Err(failure) if failure.exit == Exit::NotFound => Vec::new(),
        answer => answer?,
    };
    Ok(logins.iter().map(line).collect())
}

fn line(login: &MyLogin) -> String {
    let device = match (login.sealed, login.device.as_str()) {
        (true, _) => "a device whose name is sealed",
        (false, "") => "a device without a name",
        (false, device) => device,
    };
    format!("{device} since {}", login.opened_at)
}

#[cfg(test)]
mod tests {
    use rap_proto::LoginId;

    use super::*;

    #[test]
    fn a_device_is_named_unnamed_or_sealed() {
        let shown = |device: &str, sealed: bool| {
            let at = Timestamp::from_unix_millis(0);
            let (id, device) = (LoginId::from_u128(7), device.to_owned());
            line(&MyLogin { id, device, sealed, opened_at: at, expires_at: at })
        };
        assert!(shown("laptop", false).starts_with("laptop since "));
        assert!(shown("", false).starts_with("a device without a name since "));
        assert!(shown("sealed", true).starts_with("a device whose name is sealed since "));
    }
}
