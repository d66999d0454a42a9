//! The three nodes: enrolled with join tokens, each agent on a thread of its own.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use rap_node_agent::{JoinOptions, Joined, RunOptions, RunningAgent};
use rap_proto::{
    NodeRole,
    api::{JoinTokenCreated, NewJoinToken, Reference},
    secret::Secret,
    snapshot::RoleScope,
};

use super::{
    control::Control,
    people::{People, name},
    place::{Place, Ports},
};
use crate::failure::Failure;

const JOIN_TOKEN_SECONDS: u64 = 300;
/// How long one enrollment, and one agent's start, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long open sessions may go on after Ctrl-C.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Nodes {
    running: Vec<RunningAgent>,
}

struct Plan {
    name: &'static str,
    role: NodeRole,
    port: u16,
}

fn plans(ports: &Ports) -> [Plan; 3] {
    [
        Plan { name: "entry", role: NodeRole::EntryNode, port: ports.entry },
        Plan { name: "relay", role: NodeRole::RelayNode, port: ports.relay },
        Plan { name: "egress", role: NodeRole::StreamWorker, port: ports.egress },
    ]
}

impl Plan {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Egress nodes belong to the organization whose network they stand in; the others serve all.
    fn token(&self, people: &People) -> NewJoinToken {
        let egress = self.role == NodeRole::StreamWorker;
        let organization = people.organization.id;
        NewJoinToken {
            organization: egress.then_some(Reference::Id(organization.uuid())),
            roles: vec![RoleScope {
                role: self.role,
                organizations: egress.then(|| BTreeSet::from([organization])),
            }],
            pools: if egress { BTreeSet::from([people.pool.id]) } else { BTreeSet::new() },
            host: Some(name(self.name)),
            ttl_seconds: JOIN_TOKEN_SECONDS,
            auto_approve: true,
        }
    }
}

impl Nodes {
    /// Enrolls the nodes that are not yet; returns how many those were.
    pub(super) async fn join(
        &self,
        place: &Place,
        control: &Control,
        people: &People,
        ports: &Ports,
    ) -> Result<usize, Failure> {
        let mut joined = 0;
        for plan in plans(ports) {
            if is_enrolled(people, plan.name).await? {
                continue;
            }
            let token: JoinTokenCreated =
                people.owner.post("/join-tokens", &plan.token(people)).await?;
            enroll(place, control, &plan, &token).await?;
            joined += 1;
        }
        Ok(joined)
    }

    pub(super) async fn start(
        &mut self,
        place: &Place,
        control: &Control,
        ports: &Ports,
    ) -> Result<(), Failure> {
        let worker = place.worker()?;
        let failed = |name: &str, error: rap_node_agent::RunError| {
            Failure::unavailable(format!("the node {name} does not run: {error}"))
        };
        let first = self.running.len();
        for plan in plans(ports) {
            let options = RunOptions {
                state_dir: place.folder(plan.name),
                listen: plan.address(),
                advertise: vec![plan.address()],
                worker: worker.clone(),
                bus: control.agent_bus.clone(),
                carrier: None,
                peers: None,
                drain_limit: DRAIN_LIMIT,
                driver: rap_node_agent::DriverChoice::None,
                metrics: None,
            };
            let agent = rap_node_agent::start(options).map_err(|error| failed(plan.name, error))?;
            self.running.push(agent);
        }
        for (agent, plan) in self.running[first..].iter_mut().zip(plans(ports)) {
            let ready = tokio::time::timeout(PATIENCE, agent.ready()).await;
            ready
                .map_err(|_| {
                    Failure::unavailable(format!("the node {} is not ready", plan.name))
                        .hint("start it with --log info to see why")
                })?
                .map_err(|error| failed(plan.name, error))?;
        }
        Ok(())
    }

    pub(super) async fn stop(&mut self) {
        let stops = self.running.drain(..).map(RunningAgent::stop);
        for result in futures_util::future::join_all(stops).await {
            if let Err(error) = result {
                tracing::warn!(%error, "a node did not stop in order");
            }
        }
    }
}

async fn is_enrolled(people: &People, node: &str) -> Result<bool, Failure> {
    use rap_proto::api::{Node, NodeState};
    let nodes: Vec<Node> = people.owner.list("/nodes", &[]).await?;
    Ok(nodes.iter().any(|found| found.name == name(node) && found.state == NodeState::Approved))
}

async fn enroll(
    place: &Place,
    control: &Control,
    plan: &Plan,
    token: &JoinTokenCreated,
) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::unavailable(format!("the node {} did not enroll: {why}", plan.name))
    };
    let options = JoinOptions {
        control: control.url.clone(),
        others: Vec::new(),
        ca: token.ca_fingerprint,
        token: Secret::parse(token.secret.reveal()).map_err(|error| failed(&error))?,
        name: name(plan.name),
        listen: plan.address(),
        advertise: vec![plan.address()],
        state_dir: place.folder(plan.name),
        wait: PATIENCE,
    };
    match rap_node_agent::join(options, |_, _| {}).await {
        Ok(Joined::Enrolled { .. }) => Ok(()),
        Ok(Joined::Pending { .. }) => Err(failed(&"it still waits to be approved")),
        Err(error) => Err(failed(&error)),
    }
}
