//! X.509 for the fabric: the cluster CA, node certificates and the TLS verifiers built on them.
