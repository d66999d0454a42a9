//! Every route of the API, once: the router and the OpenAPI document are both made from this.

use std::{rc::Rc, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderValue},
    },
    web::{self, Payload, ServiceConfig},
};
use rap_proto::api::{Problem, ProblemCode};

use super::{
    account, api_tokens, audit, bandwidth, carriers, decisions,
    dispatch::{self, problem_response},
    endpoint::{
        AnswerDoc, Answered, Endpoint, Form, LIMIT, Parameter, after, command, get, list, raw,
    },
    events,
    failure::{Failure, not_found},
    join_tokens, leases, members, mesh, nodes, openapi, organizations, paths, platform, policies,
    pools, quotas, rebuild, resources, sessions, snapshots, stale, tree, users, vpn_connections,
    why,
};
use crate::app::App;

const SESSION_QUERY: &[Parameter] = &[
    after(Form::Id),
    LIMIT,
    Parameter {
        name: "organization",
        form: Form::Reference,
        description: "Only sessions of this organization, by id or name.",
    },
];

/// Every route under `/api/v1`.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    [accounts(), tenancy(), access(), connections(), shaping(), fleet(), log()].concat()
}

fn accounts() -> Vec<Endpoint> {
    let (post, put, delete) = (Method::POST, Method::PUT, Method::DELETE);
    vec![
        command(post.clone(), "/api/v1/setup", "Become the first platform owner", account::set_up)
            .public(),
        command(post.clone(), "/api/v1/logins", "Log in", account::log_in).public(),
        command(delete.clone(), "/api/v1/logins/current", "Log out", account::log_out)
            .while_frozen(),
        command(
            post.clone(),
            "/api/v1/invitations/accept",
            "Choose the first password",
            account::accept_invitation,
        )
        .public(),
        get("/api/v1/me", "Who the caller is", account::me),
        list("/api/v1/me/logins", "Where the caller is logged in", account::my_logins),
        command(
            put.clone(),
            "/api/v1/me/password",
            "Change the caller's password",
            account::change_password,
        ),
        get("/api/v1/cluster", "What everybody may know of the cluster", account::cluster),
        list("/api/v1/users", "List accounts", users::list),
        command(post.clone(), "/api/v1/users", "Create an account", users::create),
        get("/api/v1/users/{user}", "Show an account", users::get),
        command(
            post.clone(),
            "/api/v1/users/{user}/invite",
            "Hand out a new invitation",
            users::invite,
        )
        .conditional(),
        command(post.clone(), "/api/v1/users/{user}/disable", "Disable an account", users::disable)
            .conditional()
            .while_frozen(),
        command(post.clone(), "/api/v1/users/{user}/erase", "Erase a person", users::erase)
            .conditional(),
        command(post.clone(), "/api/v1/users/{user}/enable", "Enable an account", users::enable)
            .conditional(),
        command(
            put,
            "/api/v1/users/{user}/platform-roles/{role}",
            "Grant a platform role",
            users::grant_role,
        )
        .conditional(),
        command(
            delete.clone(),
            "/api/v1/users/{user}/platform-roles/{role}",
            "Revoke a platform role",
            users::revoke_role,
        )
        .conditional()
        .while_frozen(),
        list("/api/v1/api-tokens", "List API tokens", api_tokens::list),
        command(post, "/api/v1/api-tokens", "Create an API token", api_tokens::create),
        command(delete, "/api/v1/api-tokens/{token}", "Revoke an API token", api_tokens::revoke)
            .conditional()
            .while_frozen(),
    ]
}

fn tenancy() -> Vec<Endpoint> {
    let (post, put, delete) = (Method::POST, Method::PUT, Method::DELETE);
    let organization = "/api/v1/organizations/{organization}";
    let member = "/api/v1/organizations/{organization}/members/{user}";
    let quotas_path = "/api/v1/organizations/{organization}/quotas";
    vec![
        list("/api/v1/organizations", "List organizations", organizations::list),
        command(
            post.clone(),
            "/api/v1/organizations",
            "Create an organization",
            organizations::create,
        ),
        get(organization, "Show an organization", organizations::get),
        command(Method::PATCH, organization, "Rename an organization", organizations::rename)
            .conditional(),
        command(delete.clone(), organization, "Remove an organization", organizations::remove)
            .conditional(),
        command(
            post.clone(),
            "/api/v1/organizations/{organization}/suspend",
            "Suspend an organization",
            organizations::suspend,
        )
        .conditional()
        .while_frozen(),
        command(
            post,
            "/api/v1/organizations/{organization}/resume",
            "Resume an organization",
            organizations::resume,
        )
        .conditional(),
        list(
            "/api/v1/organizations/{organization}/members",
            "List an organization's members",
            members::list,
        ),
        get(member, "Show a member", members::get),
        command(put, member, "Make somebody a member, or change the role", members::set)
            .maybe_conditional(),
        command(delete, member, "Revoke a membership", members::remove)
            .conditional()
            .while_frozen(),
        get(quotas_path, "Show an organization's quotas", quotas::get),
        command(Method::PUT, quotas_path, "Set an organization's quotas", quotas::set)
            .conditional(),
        get(
            "/api/v1/organizations/{organization}/members/{user}/reach/{resource}",
            "Say whether a member may reach a resource, and why",
            decisions::reach,
        )
        .query(decisions::REACH_QUERY),
        get(
            "/api/v1/organizations/{organization}/members/{user}/may/{action}",
            "Say whether a member may do something, and why",
            decisions::may,
        )
        .query(decisions::MAY_QUERY),
    ]
}

fn access() -> Vec<Endpoint> {
    let (post, delete) = (Method::POST, Method::DELETE);
    let pools_path = "/api/v1/organizations/{organization}/pools";
    let pool = "/api/v1/organizations/{organization}/pools/{pool}";
    let resources_path = "/api/v1/organizations/{organization}/resources";
    let resource = "/api/v1/organizations/{organization}/resources/{resource}";
    let policies_path = "/api/v1/organizations/{organization}/policies";
    let policy = "/api/v1/organizations/{organization}/policies/{policy}";
    vec![
        list(pools_path, "List egress pools", pools::list).by_name(),
        command(post.clone(), pools_path, "Create an egress pool", pools::create),
        get(pool, "Show an egress pool", pools::get),
        command(delete.clone(), pool, "Remove an egress pool", pools::remove).conditional(),
        list(resources_path, "List an organization's resources", resources::list).by_name(),
        command(post.clone(), resources_path, "Create a resource", resources::create),
        get(resource, "Show a resource", resources::get),
        command(Method::PATCH, resource, "Change a resource", resources::change).conditional(),
        command(delete.clone(), resource, "Remove a resource", resources::remove).conditional(),
        command(
            Method::PUT,
            "/api/v1/organizations/{organization}/resources/{resource}/connection",
            "Say which connection carries a resource",
            resources::carry,
        )
        .conditional(),
        list(policies_path, "List access policies", policies::list).by_name(),
        command(post.clone(), policies_path, "Create an access policy", policies::create),
        get(policy, "Show an access policy", policies::get),
        command(Method::PUT, policy, "Change an access policy", policies::change).conditional(),
        command(delete.clone(), policy, "Remove an access policy", policies::remove).conditional(),
        list("/api/v1/resources", "List what the caller may connect to", resources::reachable),
        list("/api/v1/sessions", "List sessions", sessions::list).query(SESSION_QUERY),
        command(post, "/api/v1/sessions", "Ask for access to a resource", sessions::request),
        get("/api/v1/sessions/{session}", "Show a session", sessions::get),
        command(delete, "/api/v1/sessions/{session}", "End a session", sessions::terminate)
            .while_frozen(),
    ]
}

fn connections() -> Vec<Endpoint> {
    let connections_path = "/api/v1/organizations/{organization}/vpn-connections";
    let connection = "/api/v1/organizations/{organization}/vpn-connections/{connection}";
    vec![
        list(connections_path, "List connections", vpn_connections::list).by_name(),
        command(Method::POST, connections_path, "Create a connection", vpn_connections::create),
        get(connection, "Show a connection", vpn_connections::get),
        command(
            Method::DELETE,
            connection,
            "Remove a connection that nobody carries",
            vpn_connections::remove,
        )
        .conditional(),
        command(
            Method::PUT,
            "/api/v1/organizations/{organization}/vpn-connections/{connection}/nodes",
            "Say which nodes may carry a connection",
            vpn_connections::set_nodes,
        )
        .conditional(),
        command(
            Method::POST,
            "/api/v1/organizations/{organization}/vpn-connections/{connection}/enable",
            "Want a connection",
            vpn_connections::enable,
        )
        .conditional(),
        command(
            Method::POST,
            "/api/v1/organizations/{organization}/vpn-connections/{connection}/disable",
            "Want a connection no more",
            vpn_connections::disable,
        )
        .conditional()
        .while_frozen(),
        command(
            Method::POST,
            "/api/v1/organizations/{organization}/vpn-connections/{connection}/drain",
            "Ask the node that carries a connection to hand over",
            vpn_connections::drain,
        )
        .conditional()
        .while_frozen(),
    ]
}

fn shaping() -> Vec<Endpoint> {
    let path = "/api/v1/organizations/{organization}/bandwidth";
    let carriers_path = "/api/v1/organizations/{organization}/carriers";
    let platform_path = "/api/v1/platform/carriers";
    let paths_path = "/api/v1/platform/paths";
    let mesh_path = "/api/v1/platform/mesh";
    let stale_path = "/api/v1/platform/stale";
    vec![
        get(path, "Show an organization's bandwidth rules", bandwidth::get),
        command(Method::PUT, path, "Set an organization's bandwidth rules", bandwidth::set)
            .conditional(),
        command(
            Method::PUT,
            "/api/v1/organizations/{organization}/bandwidth/grant",
            "Set what an organization may take of each node",
            bandwidth::grant,
        )
        .conditional(),
        command(
            Method::PUT,
            "/api/v1/nodes/{node}/bandwidth",
            "Set the most that passes through a node",
            bandwidth::cap_node,
        )
        .conditional(),
        get(carriers_path, "Show what carriers an organization's lanes take", carriers::get),
        command(
            Method::PUT,
            carriers_path,
            "Set what carriers an organization's lanes take",
            carriers::set,
        )
        .conditional(),
        get(platform_path, "Show what carriers everybody's lanes take", carriers::get_platform),
        command(
            Method::PUT,
            platform_path,
            "Set what carriers everybody's lanes take",
            carriers::set_platform,
        )
        .conditional(),
        get(paths_path, "Show what everybody's paths may be", paths::get),
        command(Method::PUT, paths_path, "Set what everybody's paths may be", paths::set)
            .conditional(),
        get(stale_path, "Show what becomes of sessions at nodes that are cut off", stale::get),
        command(
            Method::PUT,
            stale_path,
            "Set what becomes of sessions at nodes that are cut off",
            stale::set,
        )
        .conditional(),
        get(mesh_path, "Show how nodes keep peers and weigh paths", mesh::get),
        command(Method::PUT, mesh_path, "Set how nodes keep peers and weigh paths", mesh::set)
            .conditional(),
    ]
}

fn fleet() -> Vec<Endpoint> {
    let (post, put) = (Method::POST, Method::PUT);
    let accept_loss = "/api/v1/leases/accept-loss";
    let act = |path, summary| (post.clone(), path, summary);
    let (approve, reject) = (
        act("/api/v1/nodes/{node}/approve", "Approve a node"),
        act("/api/v1/nodes/{node}/reject", "Reject a node's request"),
    );
    let (revoke, drain, undrain) = (
        act("/api/v1/nodes/{node}/revoke", "Revoke a node for good"),
        act("/api/v1/nodes/{node}/drain", "Give a node nothing new"),
        act("/api/v1/nodes/{node}/undrain", "Use a node again"),
    );
    vec![
        list("/api/v1/nodes", "List nodes", nodes::list),
        get("/api/v1/nodes/{node}", "Show a node", nodes::get),
        get("/api/v1/nodes/{node}/why/{other}", "Ask a node what it makes of another", why::get)
            .query(why::WHY_QUERY),
        command(approve.0, approve.1, approve.2, nodes::approve).conditional(),
        command(reject.0, reject.1, reject.2, nodes::reject).conditional().while_frozen(),
        command(revoke.0, revoke.1, revoke.2, nodes::revoke).conditional().while_frozen(),
        command(drain.0, drain.1, drain.2, nodes::drain).conditional().while_frozen(),
        command(undrain.0, undrain.1, undrain.2, nodes::undrain).conditional(),
        command(
            put.clone(),
            "/api/v1/nodes/{node}/roles",
            "Replace a node's roles",
            nodes::set_roles,
        )
        .conditional(),
        command(put, "/api/v1/nodes/{node}/pools", "Replace a node's pools", nodes::set_pools)
            .conditional(),
        command(
            Method::PUT,
            "/api/v1/nodes/{node}/place",
            "Say where a node is, how gladly paths are led through it, and which lanes it relays",
            nodes::place,
        )
        .conditional(),
        command(
            post.clone(),
            "/api/v1/snapshots/renew",
            "Give every node a newer snapshot",
            snapshots::renew,
        ),
        get("/api/v1/leases", "Show whether the database lost leases", leases::get),
        command(post.clone(), accept_loss, "Give up what was lost", leases::accept_loss)
            .conditional(),
        list("/api/v1/join-tokens", "List join tokens", join_tokens::list),
        command(post.clone(), "/api/v1/join-tokens", "Create a join token", join_tokens::create),
        command(
            Method::DELETE,
            "/api/v1/join-tokens/{token}",
            "Revoke a join token",
            join_tokens::revoke,
        )
        .conditional()
        .while_frozen(),
    ]
}

fn log() -> Vec<Endpoint> {
    let subscribe = Rc::new(|call, _| {
        Box::pin(events::subscribe(call))
            as futures_util::future::LocalBoxFuture<'static, Result<Answered, Failure>>
    });
    let document = Rc::new(|_, _| {
        Box::pin(async {
            let text = openapi::document(&endpoints()).to_json().map_err(|_| not_found())?;
            Ok(Answered::Raw(HttpResponse::Ok().content_type("application/json").body(text)))
        }) as futures_util::future::LocalBoxFuture<'static, Result<Answered, Failure>>
    });
    vec![
        list("/api/v1/audit", "Read the audit log", audit::list).query(audit::QUERY),
        get("/api/v1/audit/replay", "Prove the projections by a replay", audit::compare)
            .query(audit::REPLAY_QUERY),
        get("/api/v1/projections/rebuild", "Show the last rebuild of the replica", rebuild::get),
        Endpoint {
            status: 202,
            ..command(
                Method::POST,
                "/api/v1/projections/rebuild",
                "Fold the replica's projections anew while it answers",
                rebuild::ask,
            )
        },
        get("/api/v1/log/keys", "What tree heads are checked with", tree::keys),
        get("/api/v1/log/proof/{position}", "Prove that an event is in the log", tree::prove),
        list("/api/v1/log/heads", "Tree heads of earlier moments, the newest first", tree::heads)
            .query(tree::HEADS_QUERY),
        Endpoint {
            answer: AnswerDoc::Other("text/plain"),
            ..raw(Method::GET, "/api/v1/log/checkpoint", "The signed tree head", {
                Rc::new(|call, _| Box::pin(tree::checkpoint(call)))
            })
        },
        Endpoint {
            answer: AnswerDoc::Other("application/octet-stream"),
            ..raw(Method::GET, "/api/v1/log/tile/{tile}", "A tile of the tree or of entries", {
                Rc::new(|call, _| Box::pin(tree::tile(call)))
            })
        },
        Endpoint {
            answer: AnswerDoc::Other("application/octet-stream"),
            ..raw(Method::GET, "/api/v1/log/payloads/{tile}", "The payloads of an entry tile", {
                Rc::new(|call, _| Box::pin(tree::payloads(call)))
            })
        },
        Endpoint {
            answer: AnswerDoc::Other("text/event-stream"),
            query: events::QUERY,
            headers: events::HEADERS,
            ..raw(Method::GET, "/api/v1/events", "Follow the audit log", subscribe)
        },
        Endpoint {
            answer: AnswerDoc::Other("application/json"),
            ..raw(Method::GET, "/api/v1/openapi.json", "This document", document)
        }
        .public(),
    ]
}

/// Puts every route into the router, and problems where there is none.
pub(crate) fn register(config: &mut ServiceConfig, app: &Arc<App>) {
    let endpoints = endpoints();
    let mut paths: Vec<&'static str> = endpoints.iter().map(|endpoint| endpoint.path).collect();
    // Literal segments win over parameters: `/logins/current` before `/logins/{…}`.
    paths.sort_by_key(|path| (path.matches('{').count(), *path));
    paths.dedup();
    for path in paths {
        let mut resource = web::resource(pattern(path));
        let methods: Vec<&str> =
            endpoints.iter().filter(|e| e.path == path).map(|e| e.method.as_str()).collect();
        let allowed = methods.join(", ");
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.path == path) {
            let (app, served) = (Arc::clone(app), endpoint.clone());
            let handler = move |request: HttpRequest, payload: Payload| {
                dispatch::handle(Arc::clone(&app), served.clone(), request, payload)
            };
            resource = resource.route(web::method(endpoint.method.clone()).to(handler));
        }
        let refuse = move || std::future::ready(wrong_method(&allowed));
        config.service(resource.default_service(web::to(refuse)));
    }
    let ready = Arc::clone(app);
    config
        .route("/healthz", web::get().to(platform::healthz))
        .route("/readyz", web::get().to(move || platform::readyz(Arc::clone(&ready))))
        .default_service(web::to(nothing_here));
}

/// A tile's path has several segments.
fn pattern(path: &str) -> String {
    path.replace("{tile}", "{tile:.+}")
}

fn wrong_method(allowed: &str) -> HttpResponse {
    let detail = "the OpenAPI document lists the methods";
    let problem = Problem::new(ProblemCode::MethodNotAllowed, detail);
    let mut response = problem_response(problem.into(), "");
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

async fn nothing_here() -> HttpResponse {
    problem_response(not_found().into(), "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::{super::endpoint::doc, *};

    #[test]
    fn the_document_and_the_router_know_the_same_routes() {
        let routed: BTreeSet<(String, String)> = endpoints()
            .iter()
            .map(|e| (e.method.as_str().to_ascii_lowercase(), e.path.to_owned()))
            .collect();
        assert_eq!(routed.len(), endpoints().len(), "a route is declared twice");
        let json: serde_json::Value =
            serde_json::from_str(&openapi::document(&endpoints()).to_json().unwrap()).unwrap();
        assert_eq!(
            json["openapi"].as_str().unwrap().split('.').take(2).collect::<Vec<_>>(),
            ["3", "1"]
        );
        let mut documented = BTreeSet::new();
        for (path, item) in json["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                documented.insert((method.clone(), path.clone()));
            }
        }
        assert_eq!(routed, documented);
    }

    #[test]
    fn what_works_while_authority_is_frozen_only_takes_authority_away() {
        let frozen = endpoints().into_iter().filter(|endpoint| endpoint.while_frozen);
        let named: BTreeSet<_> = frozen.map(|endpoint| endpoint.summary).collect();
        let expected = [
            "Ask the node that carries a connection to hand over",
            "Disable an account",
            "End a session",
            "Give a node nothing new",
            "Log out",
            "Reject a node's request",
            "Revoke a join token",
            "Revoke a membership",
            "Revoke a node for good",
            "Revoke a platform role",
            "Revoke an API token",
            "Suspend an organization",
            "Want a connection no more",
        ];
        assert_eq!(named, expected.into());
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let text = openapi::document(&endpoints()).to_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(json["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    #[test]
    fn bodies_are_described_where_they_are_read() {
        let endpoint = endpoints().into_iter().find(|e| e.path == "/api/v1/setup").unwrap();
        let described = endpoint.request.unwrap();
        assert_eq!((described.name)(), (doc::<rap_proto::api::Setup>().name)());
    }
}
