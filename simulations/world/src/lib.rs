//! The deterministic world, its scenarios and its checkers.
