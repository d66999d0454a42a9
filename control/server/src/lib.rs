//! The control plane server: REST, SSE and its actors.
