//! Enrollment: a host becomes a node, once.

use std::{iter, sync::Arc, time::Duration};

use rap_agent_core::{capability::capabilities, record::Enrollment, servers::HeldServers};
use rap_proto::{
    ControlUrl, Digest, NodeId, Timestamp,
    bus::Heartbeat,
    wire::node_api::{Credentials, EnrollReply, EnrollRequest, MAX_ADDRESSES, MAX_SERVERS},
};
use tokio::time::{Instant, sleep};

use crate::{
    JoinOptions, Joined,
    control::{CallError, ControlClient, Enrolling, Reach},
    ground::ThisMachine,
    host, random,
    servers::SharedServers,
    state::{self, CredentialsError, State, StateError},
};

/// How often control is asked whether somebody approved.
const POLL: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("this host already is node {node}; remove the state directory to join anew")]
    AlreadyJoined { node: NodeId },
    #[error(
        "this host's enrollment at {control} waits for approval; remove the state directory to join elsewhere"
    )]
    PendingElsewhere { control: String },
    #[error("no address that other nodes could reach was found; name one with --advertise")]
    NoAddress,
    #[error("more than {MAX_ADDRESSES} addresses")]
    TooManyAddresses,
    #[error("more than {MAX_SERVERS} servers of control beside the first one")]
    TooManyServers,
    #[error(transparent)]
    Control(#[from] CallError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// An approver said no, or the node was revoked. Final for this state directory.
    #[error("the enrollment was rejected")]
    Rejected,
}

/// Enrolls this host as a node, and waits for approval as long as the options say.
///
/// `on_pending` is told the node's id and the fingerprint that an approver compares. It may be
/// called again after an interruption: with keys and the pending enrollment on disk, joining the
/// same control plane goes on waiting and uses no second token.
pub async fn join(
    options: JoinOptions,
    mut on_pending: impl FnMut(NodeId, Digest),
) -> Result<Joined, JoinError> {
    let mut state = State::open(&options.state_dir)?;
    if let Some(held) = state.credentials()? {
        return Err(JoinError::AlreadyJoined { node: held.credentials.node });
    }
    if options.others.len() > MAX_SERVERS {
        return Err(JoinError::TooManyServers);
    }
    let servers = named(&state, &options);
    let seed = u64::from_le_bytes(random::bytes());
    let shared = SharedServers::at(options.control.clone(), &servers, seed);
    let reach = Reach { servers: shared, ground: Arc::new(ThisMachine) };
    let mut client = ControlClient::pinned(reach, options.ca);
    let node = match pending(&state, &options)? {
        Some(node) => {
            keep_servers(&mut state, &servers)?;
            node
        }
        None => match enroll(&mut state, &mut client, &options, &servers).await? {
            Asked::Enrolled(node) => return Ok(Joined::Enrolled { node }),
            Asked::Pending(node) => node,
        },
    };
    let fingerprint = state.fingerprint();
    on_pending(node, fingerprint);
    let deadline = Instant::now() + options.wait;
    loop {
        match ask(&mut state, &mut client, node, options.ca).await {
            Ok(true) => return Ok(Joined::Enrolled { node }),
            Ok(false) => {}
            Err(JoinError::Control(error)) if error.code().is_none() => {
                tracing::warn!(%error, "control could not be asked for the approval");
            }
            Err(error) => return Err(error),
        }
        if Instant::now() + POLL > deadline {
            return Ok(Joined::Pending { node, fingerprint });
        }
        sleep(POLL).await;
    }
}

/// Waits, without end, until the pending enrollment is decided.
pub(crate) async fn await_approval(
    state: &mut State,
    enrollment: &Enrollment,
    control: Reach,
    node: NodeId,
) -> Result<(), JoinError> {
    let mut client = ControlClient::pinned(control, enrollment.ca);
    loop {
        match ask(state, &mut client, node, enrollment.ca).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(JoinError::Control(error)) => {
                tracing::warn!(%error, "control could not be asked for the approval");
            }
            Err(error) => return Err(error),
        }
        sleep(POLL).await;
    }
}

enum Asked {
    Enrolled(NodeId),
    Pending(NodeId),
}

/// The node that waits for approval at this control plane, from an earlier attempt.
fn pending(state: &State, options: &JoinOptions) -> Result<Option<NodeId>, JoinError> {
    let Some(Enrollment { control, ca, node: Some(node), .. }) = state.enrollment()? else {
        return Ok(None);
    };
    let mut asked = iter::once(&options.control).chain(&options.others);
    if !asked.any(|server| server.to_string() == control) || ca != options.ca {
        return Err(JoinError::PendingElsewhere { control });
    }
    Ok(Some(node))
}

/// The servers that somebody named, now or in an earlier attempt.
fn named(state: &State, options: &JoinOptions) -> Vec<ControlUrl> {
    // What cannot be read is written anew.
    let before = state.servers().ok().flatten().unwrap_or_default().servers;
    let before = before.iter().filter_map(|server| server.parse().ok());
    let mut servers = vec![options.control.clone()];
    for server in options.others.iter().cloned().chain(before) {
        if servers.len() <= MAX_SERVERS && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// The one that the node joined at is known anyway.
fn keep_servers(state: &mut State, servers: &[ControlUrl]) -> Result<(), StateError> {
    if servers.len() > 1 {
        let servers = servers.iter().map(ToString::to_string).collect();
        state.keep_servers(&HeldServers { servers })?;
    }
    Ok(())
}

async fn enroll(
    state: &mut State,
    client: &mut ControlClient,
    options: &JoinOptions,
    servers: &[ControlUrl],
) -> Result<Asked, JoinError> {
    let addresses = host::advertised(options.listen, &options.advertise);
    if addresses.is_empty() {
        return Err(JoinError::NoAddress);
    }
    if addresses.len() > MAX_ADDRESSES {
        return Err(JoinError::TooManyAddresses);
    }
    let facts = host::facts(&options.state_dir, None, host::can_bind(options.listen), &addresses);
    let request = EnrollRequest {
        csr: Vec::new(),
        binding: [0; 64],
        name: options.name.clone(),
        addresses: addresses.clone(),
        capabilities: capabilities(&facts),
        bus_key: state.bus_key.public(),
        agent_version: crate::VERSION.to_owned(),
    };
    let key = state.key.clone();
    let enrolling = Enrolling { key: &key, token: &options.token, request };
    let (reply, server) = client.enroll(enrolling).await?;
    let (node, cluster) = match &reply {
        EnrollReply::Pending { node, cluster, .. } => (*node, *cluster),
        EnrollReply::Enrolled(credentials) => (credentials.node, credentials.cluster),
        EnrollReply::Rejected => return Err(JoinError::Rejected),
    };
    // The token is spent: from here on the node must be able to come back without it.
    state.keep_enrollment(&Enrollment {
        control: server.to_string(),
        ca: options.ca,
        name: options.name.clone(),
        addresses,
        node: Some(node),
        cluster: Some(cluster),
    })?;
    keep_servers(state, servers)?;
    match reply {
        EnrollReply::Enrolled(credentials) => {
            keep(state, *credentials, client.now(), (node, options.ca))?;
            Ok(Asked::Enrolled(node))
        }
        EnrollReply::Pending { .. } | EnrollReply::Rejected => Ok(Asked::Pending(node)),
    }
}

async fn ask(
    state: &mut State,
    client: &mut ControlClient,
    node: NodeId,
    ca: Digest,
) -> Result<bool, JoinError> {
    let now = client.now();
    match client.poll(node, now, &state.key).await {
        Ok(EnrollReply::Enrolled(credentials)) => {
            keep(state, *credentials, client.now(), (node, ca))?;
            Ok(true)
        }
        Ok(EnrollReply::Pending { .. }) => Ok(false),
        Ok(EnrollReply::Rejected) => Err(JoinError::Rejected),
        Err(error) if error.means_revoked() => Err(JoinError::Rejected),
        Err(error) => Err(error.into()),
    }
}

fn keep(
    state: &mut State,
    credentials: Credentials,
    obtained_at: Timestamp,
    (node, ca): (NodeId, Digest),
) -> Result<(), JoinError> {
    state::check_credentials(&credentials, node, &state.key, ca)?;
    Ok(state.keep_first_credentials(&state::held(credentials, obtained_at))?)
}

/// The heartbeat's content, from the report.
pub(crate) fn heartbeat(report: &crate::StatusReport) -> Heartbeat {
    Heartbeat {
        agent_version: report.agent_version.clone(),
        snapshot_version: report.snapshot.as_ref().map_or(0, |snapshot| snapshot.version),
        snapshot_digest: report.snapshot.as_ref().map(|snapshot| snapshot.digest),
        capabilities: report.capabilities.clone(),
        open_sessions: u32::try_from(report.mesh.entry_sessions + report.mesh.egress_sessions)
            .unwrap_or(u32::MAX),
        draining: report.state == crate::AgentState::Draining
            || report.snapshot.as_ref().is_some_and(|snapshot| snapshot.draining),
    }
}
