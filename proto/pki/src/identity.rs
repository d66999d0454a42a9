//! Who a node certificate says that a peer is.

use rap_proto::{ClusterId, KeyId, NodeId, PublicKey, Timestamp, beat::FIRST_AUTHORITY_EPOCH};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
    x509::AttributeTypeAndValue,
};

/// The zone of the names that node certificates carry; it exists in no DNS.
pub(crate) const NODE_ZONE: &str = ".node.rap.internal";
/// The object identifier of the subject's `serialNumber` (X.520), which holds the renewal counter.
pub(crate) const RENEWAL_OID: [u64; 4] = [2, 5, 4, 5];
/// The object identifier of the subject's `dnQualifier` (X.520), which holds the authority epoch: it is
/// there to tell apart what has one name and is of two sources (RFC 4519, 2.8).
pub(crate) const EPOCH_OID: [u64; 4] = [2, 5, 4, 46];

/// The identity in a node certificate: proven only when TLS verified the certificate against
/// the cluster's CA, and an identity only: no role follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    pub cluster: ClusterId,
    pub node: NodeId,
    /// The key that the certificate binds to the node.
    pub key: KeyId,
    /// How often the certificate was renewed; two holders of one identity diverge here.
    pub renewal: u64,
    /// That of the authority by which the certificate was issued; what says none is of the first.
    pub authority_epoch: u64,
    pub not_after: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("not a certificate in DER")]
    Malformed,
    #[error("the certificate belongs to no node")]
    NotANode,
    #[error("the certificate's key is not P-256")]
    UnsupportedKey,
}

impl PeerIdentity {
    /// Reads a leaf certificate (DER). It does not verify it: TLS did.
    pub fn from_leaf(der: &[u8]) -> Result<Self, IdentityError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| IdentityError::Malformed)?;
        if !rest.is_empty() {
            return Err(IdentityError::Malformed);
        }
        if certificate.is_ca() {
            return Err(IdentityError::NotANode);
        }
        let (cluster, node) = subject_of(&certificate).ok_or(IdentityError::NotANode)?;
        let key = PublicKey::from_spki(certificate.public_key().raw)
            .map_err(|_| IdentityError::UnsupportedKey)?;
        let seconds = certificate.validity().not_after.timestamp();
        Ok(Self {
            cluster,
            node,
            key: key.id(),
            renewal: renewal_of(&certificate).ok_or(IdentityError::NotANode)?,
            authority_epoch: epoch_of(&certificate).ok_or(IdentityError::NotANode)?,
            not_after: Timestamp::from_unix_millis(seconds.saturating_mul(1000)),
        })
    }
}

/// The name by which a node is called in TLS.
pub fn node_server_name(node: NodeId) -> String {
    format!("{node}{NODE_ZONE}")
}

pub(crate) fn node_uri(cluster: ClusterId, node: NodeId) -> String {
    format!("spiffe://{cluster}/node/{node}")
}

pub(crate) fn cluster_uri(cluster: ClusterId) -> String {
    format!("spiffe://{cluster}")
}

/// The cluster that a CA certificate stands for.
pub(crate) fn cluster_of(certificate: &X509Certificate<'_>) -> Option<ClusterId> {
    match names_of(certificate)?.as_slice() {
        [GeneralName::URI(uri)] => uri.strip_prefix("spiffe://")?.parse().ok(),
        _ => None,
    }
}

/// A node certificate has exactly its URI and its DNS name, and both name the same node.
fn subject_of(certificate: &X509Certificate<'_>) -> Option<(ClusterId, NodeId)> {
    let names = names_of(certificate)?;
    let [GeneralName::URI(uri), GeneralName::DNSName(name)] = names.as_slice() else {
        return None;
    };
    let (cluster, node) = uri.strip_prefix("spiffe://")?.split_once("/node/")?;
    let (cluster, node) = (cluster.parse().ok()?, node.parse().ok()?);
    (*name == node_server_name(node)).then_some((cluster, node))
}

fn names_of<'a>(certificate: &'a X509Certificate<'_>) -> Option<Vec<GeneralName<'a>>> {
    let extension = certificate.subject_alternative_name().ok()??;
    Some(extension.value.general_names.clone())
}

fn renewal_of(certificate: &X509Certificate<'_>) -> Option<u64> {
    attribute(certificate, RENEWAL_OID)?.as_str().ok()?.parse().ok()
}

fn epoch_of(certificate: &X509Certificate<'_>) -> Option<u64> {
    let Some(said) = attribute(certificate, EPOCH_OID) else { return Some(FIRST_AUTHORITY_EPOCH) };
    let epoch = said.as_str().ok()?.parse().ok()?;
    (epoch >= FIRST_AUTHORITY_EPOCH).then_some(epoch)
}

fn attribute<'a>(
    certificate: &'a X509Certificate<'_>,
    oid: [u64; 4],
) -> Option<&'a AttributeTypeAndValue<'a>> {
    let of = |attribute: &&AttributeTypeAndValue<'_>| {
        attribute.attr_type().iter().is_some_and(|arcs| arcs.eq(oid))
    };
    certificate.subject().iter_attributes().find(of)
}
