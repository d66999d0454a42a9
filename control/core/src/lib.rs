//! Projections, authorization, the snapshot compiler and token issuance.
