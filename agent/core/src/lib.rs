//! The node agent's machines: snapshots, renewal, spool and workload supervision.
