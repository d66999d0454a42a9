//! What rules a node out, whatever it is worth.

use crate::term::terms;

terms! {
    /// The eight, in the order in which they are asked.
    Constraint, "constraint":
    /// It belongs to another cluster, or to none yet.
    ClusterMembership = "cluster_membership",
    /// It is denied, known by another key, or known to nobody.
    IdentityTrust = "identity_trust",
    /// The certificate that it showed last is over.
    CertificateValidity = "certificate_validity",
    /// Its role is not for this organization.
    OrganizationScope = "organization_scope",
    /// It has not the role that is asked for.
    RoleAssignment = "role_assignment",
    /// It does not relay this lane.
    Lane = "lane",
    /// Policy puts the service elsewhere.
    Placement = "placement",
    /// It is of another authority epoch, or the asking node is isolated.
    AuthorityState = "authority_state",
}
