//! The message bus port with its in-process and NATS implementations.
