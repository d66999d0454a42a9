//! X.509 for the fabric: the cluster CA, node certificates and the TLS verifiers built on them.
//!
//! One cluster has one [`ClusterAuthority`], and its certificate is the cluster's only trust
//! root. A certificate proves *who* a peer is ([`PeerIdentity`]) and nothing else: what the peer
//! may do is in signed snapshots. Life is short and there are no revocation lists; a revoked node
//! is on the deny list of every snapshot.
//!
//! Clock and randomness are arguments, except that a TLS handshake compares certificates with
//! this machine's clock.

mod authority;
pub mod csr;
mod identity;
pub mod pem;
mod signing;
pub mod tls;

pub use authority::{ClusterAuthority, InvalidServerName, LoadAuthorityError, NodeCertificate};
pub use identity::{IdentityError, PeerIdentity, node_server_name};
