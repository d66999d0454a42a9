//! Structure rules of the workspace, as tests.
