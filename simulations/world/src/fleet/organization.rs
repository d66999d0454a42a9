//! One organization of the fleet, as control sees it: the real state, and the real words of what an
//! organization is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::FutureExt as _;
use rap_control_core::{
    State,
    access::{Known, LIVENESS_MS, Live, Outlook},
};
use rap_events::{
    Actor, Aggregate, Log, MemoryLog,
    handler::{self, Request},
    log::MAX_READ_EVENTS,
    node::{Node, NodeCommand, Offer},
    organization::{Organization, OrganizationCommand},
    pool::{Pool, PoolCommand},
    resource::{Resource, ResourceCommand},
};
use rap_proto::{
    CommandId, Digest, JoinTokenId, Moment, Name, NodeId, NodeRole, OrganizationId, PoolId,
    ResourceId, ResourceKind, Timestamp,
    api::Availability,
    snapshot::{RoleScope, Target},
};
use uuid::Uuid;

use crate::kit::keys;

use super::{
    mutation::Mutation,
    node::{calendar, id_of},
    scope::ORGANIZATIONS,
};

/// The most nodes of each role that control knows of, the first ones; more of them show nothing
/// that these do not.
pub const MAX_OF_A_ROLE: usize = 8;
/// The one that is shown what an organization is shown.
const ORGANIZATION: OrganizationId = ORGANIZATIONS[0];
const POOL: PoolId = PoolId::from_u128(2);
const RESOURCE: ResourceId = ResourceId::from_u128(3);

pub struct Shown {
    log: Arc<dyn Log>,
    state: State,
    commands: u64,
    heard: BTreeMap<NodeId, Live>,
    relays: BTreeSet<NodeId>,
    mutation: Option<Mutation>,
}

impl Shown {
    /// With one resource, which each worker of `nodes` reaches.
    pub fn new(nodes: &[(usize, NodeRole)], mutation: Option<Mutation>) -> Self {
        let of_role =
            |role| move |(index, its): &(usize, NodeRole)| (*its == role).then_some(*index);
        let relays = nodes.iter().filter_map(of_role(NodeRole::RelayNode)).map(id_of).collect();
        let mut shown = Self {
            log: Arc::new(MemoryLog::new()),
            state: State::default(),
            commands: 0,
            heard: BTreeMap::new(),
            relays,
            mutation,
        };
        shown.found();
        for (index, role) in nodes {
            shown.let_in(*index, *role);
        }
        shown.fold();
        shown
    }

    /// Control hears that a node lives.
    pub fn hears(&mut self, now: Moment, index: usize) {
        let live = Live { seen_at: calendar(now), snapshot_version: 1, draining: false };
        self.heard.insert(id_of(index), live);
    }

    /// A node is taken out of the cluster.
    pub fn revokes(&mut self, now: Moment, index: usize) {
        if self.state.nodes().get(id_of(index)).is_some() {
            let note = "withdrawn".to_owned();
            self.give::<Node>(now, id_of(index).uuid(), NodeCommand::Revoke { note });
            self.fold();
        }
    }

    /// All that the organization is shown of its resource.
    pub fn view(&self, now: Moment) -> String {
        let known = Known {
            state: &self.state,
            live: Box::new(|node| self.heard.get(&node).copied()),
            listening_since: Timestamp::default(),
            now: calendar(now),
            frozen: false,
        };
        let found = self.state.within(ORGANIZATION).resources().get(RESOURCE);
        let mut word = found.map_or(Availability::Unavailable, |resource| {
            Outlook::new(known, ORGANIZATION).of(resource)
        });
        if self.mutation == Some(Mutation::RelayLossIsShown)
            && word == Availability::Available
            && self.relays.iter().any(|relay| self.is_silent(now, *relay))
        {
            word = Availability::Degraded;
        }
        if self.mutation == Some(Mutation::NodesAreCounted) {
            return format!("{word}, {} nodes", self.heard.len());
        }
        word.to_string()
    }

    fn is_silent(&self, now: Moment, node: NodeId) -> bool {
        let seen_at = self.heard.get(&node).map_or_else(Timestamp::default, |live| live.seen_at);
        calendar(now).since(seen_at).as_millis() > u128::from(LIVENESS_MS)
    }

    fn found(&mut self) {
        let (now, organization) = (Moment::default(), ORGANIZATION);
        let create = OrganizationCommand::Create { organization, name: name("acme") };
        self.give::<Organization>(now, organization.uuid(), create);
        let create = PoolCommand::Create { organization, name: name("office") };
        self.give::<Pool>(now, POOL.uuid(), create);
        let create = ResourceCommand::Create {
            organization,
            name: name("desk"),
            kind: ResourceKind::Ssh,
            target: Target { host: "desk.internal".to_owned(), port: 22, allow_local: false },
            pool: POOL,
        };
        self.give::<Resource>(now, RESOURCE.uuid(), create);
    }

    fn let_in(&mut self, index: usize, role: NodeRole) {
        let pools = (role == NodeRole::StreamWorker).then_some(POOL).into_iter().collect();
        let roles = vec![RoleScope { role, organizations: None }];
        let request = NodeCommand::Request {
            name: name(&format!("node-{index}")),
            key: keys::node(index),
            addresses: vec![([192, 0, 2, 1], 4433).into()],
            capabilities: BTreeSet::new(),
            bus_key: format!("U{index}"),
            agent_version: "0.1.0".to_owned(),
            join_token: JoinTokenId::from_u128(1 + index as u128),
            offer: Offer { organization: None, roles, pools, auto_approve: true },
        };
        self.give::<Node>(Moment::default(), id_of(index).uuid(), request);
    }

    /// Nothing of it can be refused: a refusal is a mistake of the world.
    fn give<A: Aggregate>(&mut self, now: Moment, id: Uuid, command: A::Command) {
        self.commands += 1;
        let request = Request {
            command: CommandId::from_u128(u128::from(self.commands)),
            request_hash: Digest::of(&self.commands.to_be_bytes()),
            actor: Actor::Setup,
            causation: None,
            at: calendar(now),
        };
        let given = handler::run::<A>(&self.log, &request, id, command).now_or_never();
        let given = given.expect("the memory log answers at once");
        assert!(given.is_ok(), "the world gives commands that are accepted");
    }

    fn fold(&mut self) {
        loop {
            let after = self.state.position();
            let page = self.log.read(after, MAX_READ_EVENTS).now_or_never();
            let page = page.expect("the memory log answers at once").expect("in memory");
            if page.is_empty() {
                return;
            }
            for envelope in &page {
                self.state.fold(envelope).expect("what aggregates decide can be folded");
            }
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}
