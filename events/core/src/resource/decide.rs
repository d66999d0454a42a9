use std::net::IpAddr;

use rap_proto::{OrganizationId, Timestamp, snapshot::Target};

use super::{
    Created, MAX_HOST_BYTES, MAX_LABELS, Resource, ResourceCarried, ResourceChanged,
    ResourceCommand, ResourceCreated, ResourceEvent, ResourceLabelled, ResourceRejection,
    ResourceRemoved,
};
use crate::Aggregate;

impl Aggregate for Resource {
    const CATEGORY: &'static str = "resource";
    type Command = ResourceCommand;
    type Event = ResourceEvent;
    type Rejection = ResourceRejection;

    fn decide(
        &self,
        command: ResourceCommand,
        _: Timestamp,
    ) -> Result<Vec<ResourceEvent>, ResourceRejection> {
        match (command, &self.created) {
            (ResourceCommand::Create { organization, name, kind, target, pool }, None) => {
                check_target(&target)?;
                Ok(vec![ResourceCreated { organization, name, kind, target, pool }.into()])
            }
            (ResourceCommand::Create { .. }, Some(_)) => Err(ResourceRejection::AlreadyExists),
            (_, None) => Err(ResourceRejection::NotFound),
            (
                ResourceCommand::Change { .. }
                | ResourceCommand::Label { .. }
                | ResourceCommand::Carry { .. },
                Some(_),
            ) if self.removed => Err(ResourceRejection::NotFound),
            (ResourceCommand::Change { kind, target, pool }, Some(old)) => {
                check_target(&target)?;
                if (kind, &target, pool) == (old.kind, &old.target, old.pool) {
                    return Ok(Vec::new());
                }
                Ok(vec![ResourceChanged { kind, target, pool }.into()])
            }
            (ResourceCommand::Label { labels }, Some(_)) if labels.len() > MAX_LABELS => {
                Err(ResourceRejection::TooManyLabels)
            }
            (ResourceCommand::Label { labels }, Some(_)) if labels == self.labels => Ok(Vec::new()),
            (ResourceCommand::Label { labels }, Some(_)) => {
                Ok(vec![ResourceLabelled { labels }.into()])
            }
            (ResourceCommand::Carry { connection }, Some(_)) if connection == self.carried => {
                Ok(Vec::new())
            }
            (ResourceCommand::Carry { connection }, Some(_)) => {
                Ok(vec![ResourceCarried { connection }.into()])
            }
            (ResourceCommand::Remove, Some(_)) if self.removed => Ok(Vec::new()),
            (ResourceCommand::Remove, Some(_)) => Ok(vec![ResourceRemoved {}.into()]),
        }
    }

    fn evolve(&mut self, event: &ResourceEvent) {
        match event {
            ResourceEvent::Created(created) => {
                let ResourceCreated { organization, name, kind, target, pool } = created.clone();
                self.created = Some(Created { organization, name, kind, target, pool });
            }
            ResourceEvent::Changed(changed) => {
                if let Some(created) = &mut self.created {
                    created.kind = changed.kind;
                    created.target.clone_from(&changed.target);
                    created.pool = changed.pool;
                }
            }
            ResourceEvent::Removed(_) => self.removed = true,
            ResourceEvent::Carried(carried) => self.carried = carried.connection,
            ResourceEvent::Labelled(labelled) => self.labels.clone_from(&labelled.labels),
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.created.as_ref().map(|created| created.organization)
    }
}

fn check_target(target: &Target) -> Result<(), ResourceRejection> {
    if target.port == 0 {
        return Err(ResourceRejection::PortInvalid);
    }
    if target.host.parse::<IpAddr>().is_ok() || is_dns_name(&target.host) {
        return Ok(());
    }
    Err(ResourceRejection::HostInvalid)
}

/// Host names as in RFC 1123, with the underscore that private zones use, and no trailing dot.
/// A last label of digits only would be an address in a form that resolvers disagree about.
fn is_dns_name(host: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric =
        last.bytes().all(|c| c.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x");
    host.len() <= MAX_HOST_BYTES && host.split('.').all(label) && !numeric
}
