//! The protocol-neutral contract between the agent and adapter workers.
