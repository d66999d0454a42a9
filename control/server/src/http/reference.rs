//! Finding what a path or a body names, by id or by name. What is not there, and what the caller
//! may not see, look the same because whoever asks for it is then refused in the same words.

use rap_control_core::{
    State,
    state::{Node, Organization, Policy, Pool, Resource, User, VpnConnection},
};
use rap_proto::{
    Name, NodeId, OrganizationId, PolicyId, PoolId, ResourceId, UserId, VpnConnectionId,
    api::Reference,
};

use super::{
    call::Call,
    failure::{Failure, invalid, not_found},
};

/// Something that has an id and, within its scope, a name.
pub(crate) fn organization<'a>(
    state: &'a State,
    reference: &Reference,
) -> Option<&'a Organization> {
    match reference {
        Reference::Id(id) => state.organizations().get(OrganizationId::from_uuid(*id)),
        Reference::Name(name) => state.organizations().named(name),
    }
}

pub(crate) fn user<'a>(state: &'a State, reference: &Reference) -> Option<&'a User> {
    match reference {
        Reference::Id(id) => state.users().get(UserId::from_uuid(*id)),
        Reference::Name(name) => state.users().named(name),
    }
}

pub(crate) fn node<'a>(state: &'a State, reference: &Reference) -> Option<&'a Node> {
    match reference {
        Reference::Id(id) => state.nodes().get(NodeId::from_uuid(*id)),
        Reference::Name(name) => state.nodes().named(name),
    }
}

pub(crate) fn pool<'a>(
    state: &'a State,
    organization: OrganizationId,
    reference: &Reference,
) -> Option<&'a Pool> {
    let own = state.within(organization).pools();
    match reference {
        Reference::Id(id) => own.get(PoolId::from_uuid(*id)),
        Reference::Name(name) => own.named(name),
    }
}

pub(crate) fn resource<'a>(
    state: &'a State,
    organization: OrganizationId,
    reference: &Reference,
) -> Option<&'a Resource> {
    let own = state.within(organization).resources();
    match reference {
        Reference::Id(id) => own.get(ResourceId::from_uuid(*id)),
        Reference::Name(name) => own.named(name),
    }
}

pub(crate) fn policy<'a>(
    state: &'a State,
    organization: OrganizationId,
    reference: &Reference,
) -> Option<&'a Policy> {
    let own = state.within(organization).policies();
    match reference {
        Reference::Id(id) => own.get(PolicyId::from_uuid(*id)),
        Reference::Name(name) => own.named(name),
    }
}

pub(crate) fn vpn_connection<'a>(
    state: &'a State,
    organization: OrganizationId,
    reference: &Reference,
) -> Option<&'a VpnConnection> {
    let own = state.within(organization).vpn_connections();
    match reference {
        Reference::Id(id) => own.get(VpnConnectionId::from_uuid(*id)),
        Reference::Name(name) => own.named(name),
    }
}

/// The organization of the path.
pub(crate) fn organization_of(call: &Call) -> Result<OrganizationId, Failure> {
    let reference = call.reference("organization")?;
    organization(&call.state, &reference).map(|found| found.id).ok_or_else(|| not_found().into())
}

/// A name in the form of an id would be taken for one.
pub(crate) fn check_name(name: &Name) -> Result<(), Failure> {
    match name.as_str().parse::<Reference>() {
        Ok(Reference::Name(_)) => Ok(()),
        _ => Err(invalid("name", "name_like_an_id", "a name must not have the form of an id")),
    }
}
