//! A node's snapshot, and its disk taken as a whole, hold its own scope and nothing else.

use rap_agent_core::{
    disk::{Disk as _, SimDisk, StateFile},
    snapshot::Snapshot,
};
use rap_proto::{NodeRole, OrganizationId};

use super::Violation;
use crate::cast::{self, Host, Tenant};

const NAME: &str = "scope";

#[derive(Debug, Default)]
pub struct Scope;

impl Scope {
    /// Compares a snapshot with what the host was admitted for. The cast is fixed: a host has one
    /// role for one tenant or for the platform, and nothing widens it.
    pub fn snapshot(
        &self,
        host: &Host,
        tenants: &[Tenant],
        snapshot: &Snapshot,
    ) -> Result<(), Violation> {
        let violated = |what: String| Err(Violation::new(NAME, format!("{} {what}", host.name)));
        let own: Option<OrganizationId> = host.tenant.map(|index| tenants[index].organization);
        for resource in &snapshot.resources.resources {
            if host.role != NodeRole::StreamWorker || Some(resource.organization) != own {
                return violated(format!("was told of resource {}", resource.id));
            }
            let users = host.tenant.map(|index| &tenants[index].users);
            if !users.is_some_and(|own| resource.users.iter().all(|user| own.contains(user))) {
                return violated(format!("was told of foreign users of {}", resource.id));
            }
        }
        for peer in &snapshot.peers.peers {
            let needed = |role| match host.role {
                NodeRole::EntryNode => {
                    matches!(role, NodeRole::RelayNode | NodeRole::StreamWorker)
                }
                NodeRole::RelayNode => {
                    matches!(
                        role,
                        NodeRole::EntryNode | NodeRole::StreamWorker | NodeRole::RelayNode
                    )
                }
                _ => matches!(role, NodeRole::EntryNode | NodeRole::RelayNode),
            };
            if !peer.roles.iter().all(|scope| needed(scope.role)) || peer.roles.is_empty() {
                return violated(format!("was told of node {} without need", peer.node));
            }
            let foreign = |scope: &rap_proto::snapshot::RoleScope| {
                own.is_some_and(|own| {
                    scope.organizations.as_ref().is_some_and(|set| set.iter().any(|id| *id != own))
                })
            };
            if peer.roles.iter().any(foreign) {
                return violated(format!("was told whom node {} serves otherwise", peer.node));
            }
        }
        Ok(())
    }

    /// Looks through every file for the words that only other tenants' resources hold.
    pub fn disk(&self, host: &Host, disk: &SimDisk) -> Result<(), Violation> {
        let foreign: Vec<String> = (0..cast::TENANTS)
            .filter(|tenant| host.tenant != Some(*tenant))
            .map(cast::canary)
            .collect();
        let sections = disk.sections().unwrap_or_default().into_iter().map(StateFile::Section);
        let whole = [StateFile::Manifest, StateFile::Spool, StateFile::Credentials];
        for file in sections.chain(whole) {
            let Ok(Some(bytes)) = disk.read(file) else { continue };
            for word in &foreign {
                if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                    let detail = format!("{} holds {word} in {}", host.name, file.path());
                    return Err(Violation::new(NAME, detail));
                }
            }
        }
        Ok(())
    }
}
