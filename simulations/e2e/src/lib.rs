//! End-to-end tests with real processes, clients and network namespaces.
