//! The unique keys that commands claim: names that only one thing may have at a time.

use rap_proto::{ClusterId, Digest, Name, OrganizationId, UserId};
use uuid::Uuid;

const SUBJECT_KEY: &str = "subject-key/";

/// Whoever bootstraps the log takes this key, so that a log belongs to one cluster.
pub fn cluster(_: ClusterId) -> String {
    "cluster".to_owned()
}

pub fn organization_name(name: &Name) -> String {
    format!("organization-name/{name}")
}

pub fn user_name(name: &Name) -> String {
    format!("user-name/{name}")
}

/// Whoever gives a key to a person whose account has none takes this one: of two at once, the
/// second finds the key of the first.
pub fn subject_key(user: UserId) -> String {
    format!("{SUBJECT_KEY}{user}")
}

pub fn is_subject_key(key: &str) -> bool {
    key.starts_with(SUBJECT_KEY)
}

pub fn node_name(name: &Name) -> String {
    format!("node-name/{name}")
}

/// Two enrollments with one key would be one identity in two places.
pub fn node_key(key: &rap_proto::KeyId) -> String {
    format!("node-key/{key}")
}

pub fn pool_name(organization: OrganizationId, name: &Name) -> String {
    format!("pool-name/{organization}/{name}")
}

pub fn resource_name(organization: OrganizationId, name: &Name) -> String {
    format!("resource-name/{organization}/{name}")
}

pub fn policy_name(organization: OrganizationId, name: &Name) -> String {
    format!("policy-name/{organization}/{name}")
}

pub fn vpn_connection_name(organization: OrganizationId, name: &Name) -> String {
    format!("vpn-connection-name/{organization}/{name}")
}

/// The id of the one leadership stream of a duty.
pub fn leadership_id(duty: rap_proto::Duty) -> Uuid {
    hashed_id(&[b"leadership", duty.as_str().as_bytes()])
}

/// The id of the one membership stream that a user has in an organization: a UUID of version 8
/// (RFC 9562) made from the hash of both.
pub fn membership_id(organization: OrganizationId, user: UserId) -> Uuid {
    hashed_id(&[b"membership", organization.uuid().as_bytes(), user.uuid().as_bytes()])
}

/// The command under which a node's observation is recorded: the same observation sent twice is
/// the same command.
pub fn observation_command(node: rap_proto::NodeId, sequence: u64) -> rap_proto::CommandId {
    let id = hashed_id(&[b"observation", node.uuid().as_bytes(), &sequence.to_be_bytes()]);
    rap_proto::CommandId::from_uuid(id)
}

fn hashed_id(parts: &[&[u8]]) -> Uuid {
    let digest = Digest::of_parts(parts);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
