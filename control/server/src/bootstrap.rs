//! From the log and the state directory to a cluster that can be served.

use std::path::Path;

use bytes::Bytes;
use rap_events::{
    Actor, Log,
    cluster::{self, ClusterCommand},
    keys,
};
use rap_proto::{
    CommandId, Digest, Signer as _,
    secret::{Secret, SetupCode},
};

use crate::{
    actors::projection::resume,
    clock,
    custody::Custody,
    fold_cache::{self, Folded, WORTH_EVENTS},
    http::failure::Failure,
    server::ServeError,
    work::{Identity, Work},
};

/// Folds the log; makes the cluster's first event when there is none, and a new setup code as
/// long as nobody used one. The code is known to nobody but the caller.
pub(crate) async fn bootstrap(
    log: std::sync::Arc<dyn Log>,
    custody: &Custody,
    dir: &Path,
) -> Result<(Folded, Option<Secret<SetupCode>>), ServeError> {
    let kept = fold_cache::load(dir, custody.cluster, log.as_ref()).await.unwrap_or_default();
    let before = kept.state.position();
    let Folded { state, source } = fold(log.as_ref(), kept).await?;
    if state.position() >= before + WORTH_EVENTS
        && let Err(reason) = fold_cache::store(dir, custody.cluster, &state, source.frontier())
    {
        tracing::warn!(%reason, "the fold cache could not be written");
    }
    match state.cluster().id {
        Some(id) if id != custody.cluster => return Err(ServeError::OtherCluster),
        Some(_) if !state.cluster().control_keys.contains(&custody.control.public_key()) => {
            return Err(ServeError::OtherKeys);
        }
        Some(_) if state.cluster().is_set_up() => {
            return Ok((Folded { state, source }, None));
        }
        Some(_) | None => {}
    }
    let code = Secret::<SetupCode>::from_random(clock::random());
    let command = match state.cluster().id {
        None => ClusterCommand::Bootstrap {
            cluster: custody.cluster,
            ca_certificate: custody.authority.certificate_der().to_vec(),
            control_keys: vec![custody.control.public_key()],
            setup_code: code.digest().into(),
        },
        Some(_) => ClusterCommand::ReplaceSetupCode { setup_code: code.digest().into() },
    };
    let first = state.cluster().id.is_none();
    append(log.clone(), custody, command, first).await.map_err(|failure| match failure {
        Failure::Problem(problem) => ServeError::Bootstrap(problem.detail.into()),
        Failure::Conflict | Failure::KeyGiven | Failure::LeaseLost => {
            ServeError::Bootstrap("another server started at once".to_owned())
        }
    })?;
    let folded = fold(log.as_ref(), Folded { state, source }).await?;
    Ok((folded, Some(code)))
}

async fn append(
    log: std::sync::Arc<dyn Log>,
    custody: &Custody,
    command: ClusterCommand,
    first: bool,
) -> Result<(), Failure> {
    let now = clock::now();
    let mut work = Work::new(log, now);
    let mut cluster = work.load::<cluster::Cluster>(custody.cluster.uuid()).await?;
    work.decide(&mut cluster, command)?;
    if first {
        work.claim(keys::cluster(custody.cluster));
    }
    let id = CommandId::new(now, clock::random());
    let identity = Identity {
        command: id,
        request_hash: Digest::of(id.uuid().as_bytes()),
        actor: Actor::Setup,
        allowed: None,
        causation: None,
    };
    work.commit(identity, Bytes::new()).await.map(|_| ())
}

/// Goes on from what is folded to the log's end.
async fn fold(log: &dyn Log, folded: Folded) -> Result<Folded, ServeError> {
    let head = log.head().await.map_err(|error| ServeError::Log(error.to_string()))?;
    resume(log, head, folded).await.map_err(|error| ServeError::Log(error.to_string()))
}
