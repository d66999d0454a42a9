//! The node agent: an actor system around the agent machines.
