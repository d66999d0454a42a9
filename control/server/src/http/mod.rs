//! The REST API: one list of routes, one way for every request, one file per kind of thing.

mod answer;
pub(crate) mod body;
mod call;
pub(crate) mod caller;
mod dispatch;
mod endpoint;
pub(crate) mod failure;
mod openapi;
mod page;
mod routes;

mod account;
mod api_tokens;
mod audit;
pub(crate) mod availability;
mod bandwidth;
mod carriers;
mod decisions;
pub(crate) mod events;
mod join_tokens;
mod leases;
mod members;
mod mesh;
mod node_roles;
mod nodes;
mod organizations;
mod paths;
mod personal;
mod platform;
mod policies;
mod pools;
pub(crate) mod quotas;
mod rebuild;
mod reference;
mod resources;
mod sessions;
mod snapshots;
mod stale;
pub(crate) mod tree;
mod users;
mod vpn_connections;
mod why;
mod words;

pub(crate) use routes::register;
