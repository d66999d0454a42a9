//! The QUIC endpoint that drives the mesh machines.
