//! What people with authority do while everything else goes on.

use rap_control_core::state::NodeStanding;
use rap_events::{
    cluster::{Cluster, ClusterCommand},
    keys::membership_id,
    membership::{Membership, MembershipCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand},
    resource::{Resource, ResourceCommand},
    session::{Session, SessionCommand, TerminationCause},
    user::{User, UserCommand},
    vpn_connection::{VpnConnection, VpnConnectionCommand},
};
use rap_proto::{NodeId, ResourceKind, SessionId};

use super::{Control, setup};
use crate::{cast, turn::Turn};

/// One deed. Each picks whom it concerns by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    ChangePolicy,
    TakeMembership,
    GiveMembership,
    MoveResource,
    Suspend,
    Resume,
    Disable,
    Enable,
    Drain,
    Undrain,
    Terminate,
    Renew,
    Approve,
    Revoke,
    /// Asks whoever carries the connection to hand over.
    MoveConnection,
    DisableConnection,
    EnableConnection,
}

impl Act {
    /// Those that happen again and again; a revocation is for ever and comes apart from them.
    pub const USUAL: &'static [Self] = &[
        Self::ChangePolicy,
        Self::ChangePolicy,
        Self::TakeMembership,
        Self::GiveMembership,
        Self::GiveMembership,
        Self::GiveMembership,
        Self::MoveResource,
        Self::Suspend,
        Self::Resume,
        Self::Resume,
        Self::Resume,
        Self::Disable,
        Self::Enable,
        Self::Enable,
        Self::Enable,
        Self::Drain,
        Self::Undrain,
        Self::Undrain,
        Self::Undrain,
        Self::Terminate,
        Self::Terminate,
        Self::Renew,
    ];

    /// What also happens where there are connections.
    pub const CONNECTED: &'static [Self] = &[
        Self::MoveConnection,
        Self::MoveConnection,
        Self::DisableConnection,
        Self::EnableConnection,
        Self::EnableConnection,
    ];

    /// What is done also where nothing may be granted.
    const fn takes_away(self) -> bool {
        matches!(
            self,
            Self::TakeMembership
                | Self::Suspend
                | Self::Disable
                | Self::Drain
                | Self::Terminate
                | Self::Revoke
                | Self::MoveConnection
                | Self::DisableConnection
        )
    }
}

impl Control {
    /// Does it, unless control is down or the rules say no.
    pub fn act(&mut self, turn: &mut Turn<'_>, act: Act) {
        if self.running.is_none() {
            return;
        }
        if self.frozen(turn) && !act.takes_away() {
            turn.coverage.count("replicas", "frozen");
            return self.settle(turn);
        }
        let outcome = match act {
            Act::Approve | Act::Revoke | Act::Drain | Act::Undrain => self.act_on_node(turn, act),
            Act::Terminate => self.terminate(turn),
            Act::MoveConnection | Act::DisableConnection | Act::EnableConnection => {
                self.act_on_connection(turn, act)
            }
            Act::Renew => {
                let command = ClusterCommand::RenewSnapshots;
                self.run::<Cluster>(turn.now, cast::CLUSTER.uuid(), command).map_err(text)
            }
            other => self.act_on_tenant(turn, other),
        };
        match outcome {
            Ok(()) => turn.note(format_args!("admin: {act:?}")),
            Err(reason) => turn.note(format_args!("admin: {act:?}: {reason}")),
        }
        self.settle(turn);
    }

    /// Revokes this node, unless control is down or the rules say no.
    pub fn revoke(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        if self.running.is_some() {
            let revoke = NodeCommand::Revoke { note: String::new() };
            let outcome = self.run::<Node>(turn.now, node.uuid(), revoke).map_err(text);
            turn.note(format_args!("admin: revokes {node}: {outcome:?}"));
            self.settle(turn);
        }
    }

    fn act_on_tenant(&mut self, turn: &Turn<'_>, act: Act) -> Result<(), String> {
        let index = usize::from(self.chance.happens(500));
        let tenant = self.tenants[index].clone();
        let (organization, now) = (tenant.organization, turn.now);
        let user = *self.chance.pick(&tenant.users).expect("every tenant has users");
        let membership = membership_id(organization, user);
        match act {
            Act::ChangePolicy => {
                let users = 1 + usize::from(self.chance.happens(500));
                let spec = setup::policy_for(&tenant, users);
                let change = PolicyCommand::Change { spec };
                self.run::<Policy>(now, tenant.policy.uuid(), change).map_err(text)
            }
            Act::TakeMembership => {
                let revoke = MembershipCommand::Revoke;
                self.run::<Membership>(now, membership, revoke).map_err(text)
            }
            Act::GiveMembership => self.grant_membership(now, &tenant, user).map_err(text),
            Act::MoveResource => {
                let resource = *self.chance.pick(&tenant.resources).expect("not empty");
                let port = 1 + u16::try_from(self.chance.below(60_000)).unwrap_or(0);
                let change = ResourceCommand::Change {
                    kind: ResourceKind::Ssh,
                    target: setup::target(index, port),
                    pool: tenant.pool,
                };
                self.run::<Resource>(now, resource.uuid(), change).map_err(text)
            }
            Act::Suspend | Act::Resume => {
                let command = match act {
                    Act::Suspend => OrganizationCommand::Suspend { reason: String::new() },
                    _ => OrganizationCommand::Resume,
                };
                self.run::<Organization>(now, organization.uuid(), command).map_err(text)
            }
            _ => {
                let command = match act {
                    Act::Disable => UserCommand::Disable { reason: String::new() },
                    _ => UserCommand::Enable,
                };
                self.run::<User>(now, user.uuid(), command).map_err(text)
            }
        }
    }

    fn act_on_node(&mut self, turn: &Turn<'_>, act: Act) -> Result<(), String> {
        let Some(node) = self.pick_node(act) else { return Err("no such node".to_owned()) };
        let command = match act {
            Act::Approve => NodeCommand::Approve,
            Act::Revoke => NodeCommand::Revoke { note: String::new() },
            Act::Drain => NodeCommand::StartDraining,
            _ => NodeCommand::EndDraining,
        };
        self.run::<Node>(turn.now, node.uuid(), command).map_err(text)
    }

    fn act_on_connection(&mut self, turn: &Turn<'_>, act: Act) -> Result<(), String> {
        let command = match act {
            Act::MoveConnection => VpnConnectionCommand::RequestDrain,
            Act::DisableConnection => VpnConnectionCommand::Disable,
            _ => VpnConnectionCommand::Enable,
        };
        self.run::<VpnConnection>(turn.now, cast::CONNECTION.uuid(), command).map_err(text)
    }

    fn pick_node(&mut self, act: Act) -> Option<NodeId> {
        let wanted =
            if act == Act::Approve { NodeStanding::Pending } else { NodeStanding::Approved };
        let state = &self.running.as_ref()?.state;
        let nodes: Vec<NodeId> = state
            .nodes()
            .iter()
            .filter(|node| node.standing == wanted)
            .map(|node| node.id)
            .collect();
        self.chance.pick(&nodes).copied()
    }

    fn terminate(&mut self, turn: &Turn<'_>) -> Result<(), String> {
        let open: Vec<SessionId> = match &self.running {
            Some(running) => running.state.sessions().open().map(|session| session.id).collect(),
            None => Vec::new(),
        };
        let Some(session) = self.chance.pick(&open).copied() else {
            return Err("no session".to_owned());
        };
        let command = SessionCommand::Terminate { cause: TerminationCause::Requested };
        self.run::<Session>(turn.now, session.uuid(), command).map_err(text)
    }

    /// Ends what only people end, so that everything can work again. Revocations stay.
    pub fn make_peace(&mut self, turn: &mut Turn<'_>) {
        self.fold(turn);
        for tenant in self.tenants.clone() {
            let id = tenant.organization.uuid();
            // Resuming what goes on anyway is no news.
            let _ = self.run::<Organization>(turn.now, id, OrganizationCommand::Resume);
        }
        let approved: Vec<NodeId> = match self.state() {
            Some(state) => state.nodes().approved().map(|node| node.id).collect(),
            None => Vec::new(),
        };
        if self.shared {
            let _ = self.act_on_connection(turn, Act::EnableConnection);
            for node in approved {
                let _ = self.run::<Node>(turn.now, node.uuid(), NodeCommand::EndDraining);
            }
        }
        while let Some(node) = self.pick_node(Act::Approve) {
            if self.run::<Node>(turn.now, node.uuid(), NodeCommand::Approve).is_err() {
                break;
            }
            self.fold(turn);
        }
        self.settle(turn);
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
