//! Aggregates, the log's port and the in-memory log.
