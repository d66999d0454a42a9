//! A fabric set up as an administrator does it, by typing commands.
pub struct Fabric;
pub struct Node;
