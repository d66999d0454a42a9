//! What one organization sees, before and after a stranger was busy: nothing differs.

mod busy;

use std::collections::{BTreeMap, BTreeSet};

use busy::Stranger;
use rap_control::{Limits, Rates};
use serde_json::{Value, json};

use crate::{
    availability::lives,
    collisions::{Names, attempt},
    events::{messages, subscribe},
    lines,
    tenancy::{Target, target},
    world::{PASSWORD, Reply, Tenant, With, World, fresh_key, tenant},
};

/// What tells how far the log of all is, by design: positions are the cluster's.
const SHARED: &[&str] = &["position", "requestId", "live"];
/// The same in headers, and the time of day.
const SHARED_HEADERS: &[&str] = &["rap-position", "rap-request-id", "date"];

/// Status, headers and body of an answer, without what all share and what each time is `fresh`.
pub(crate) fn essence(reply: &Reply, fresh: &[&str]) -> String {
    let mut headers: Vec<String> = reply
        .headers
        .iter()
        .filter(|(name, _)| !SHARED_HEADERS.contains(&name.as_str()))
        .filter(|(name, _)| name.as_str() != "content-length")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let mut body = reply.json.clone();
    blank(&mut body, &[SHARED, fresh].concat());
    format!("{} {headers:?} {body}", reply.status)
}

fn blank(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(fields) => {
            names.iter().for_each(|name| drop(fields.remove(*name)));
            fields.values_mut().for_each(|value| blank(value, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| blank(value, names)),
        _ => {}
    }
}

/// What somebody was answered, by what was asked, and the ids of the requests.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) answers: BTreeMap<String, String>,
    requests: BTreeSet<String>,
}

/// Every read of the document with the tenant's own ids and names, and every command in a form that
/// is refused; nothing of it changes anything.
pub(crate) async fn observe(document: &Value, own: &Target<'_>) -> Seen {
    let mut seen = Seen::default();
    for (path, item) in document["paths"].as_object().unwrap() {
        if path == "/api/v1/events" {
            continue;
        }
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let is_command = method != "GET";
            for by_name in [false, true] {
                let filled = own.fill(path, by_name);
                // A body that no command can read, so that each is refused with an error.
                let body = is_command.then(|| json!("no command"));
                let key = is_command.then(fresh_key);
                let with = With { body, key, if_match: is_command.then_some(u64::from(u32::MAX)) };
                let reply = own.tenant.api.send(method.parse().unwrap(), &filled, with).await;
                if is_command {
                    assert!(reply.status.is_client_error() || reply.status == 204, "{filled}");
                }
                seen.answers.insert(format!("{method} {filled}"), essence(&reply, &[]));
                let request = reply.headers["rap-request-id"].to_str().unwrap();
                seen.requests.insert(request.to_owned());
            }
        }
    }
    seen
}

/// The series of the metrics, by name and labels: their numbers are those of all.
async fn series(world: &World) -> BTreeSet<String> {
    let text = world.anonymous().get("/metrics").await.text;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').expect("a number").0.to_owned()).collect()
}

/// By what somebody may be known: names, ids and secrets.
fn marks(stranger: &Target<'_>) -> Vec<String> {
    let Tenant { api, name, owner, organization, pool, resource, policy, connection, .. } =
        stranger.tenant;
    let Tenant { api_token, join_token, join_secret, .. } = stranger.tenant;
    let token = api.token.as_ref().unwrap();
    let all = [name, owner, organization, pool, resource, policy, connection, api_token];
    let more = [join_token, join_secret, token, &stranger.node, &stranger.session];
    let words = ["canary", "bob-of", PASSWORD].map(str::to_owned);
    [&all[..], &more].concat().into_iter().cloned().chain(words).collect()
}

/// What the requests of the one made the server write names nothing of the other.
fn check_lines(seen: &Seen, stranger: &Target<'_>) {
    let own = lines::of_requests(&seen.requests);
    assert!(own.len() >= seen.requests.len(), "each answer has a line: {}", own.len());
    let telling = lines::holding(&own, &marks(stranger));
    assert!(telling.is_empty(), "{telling:?}");
}

#[tokio::test]
async fn nothing_that_a_stranger_does_changes_what_an_organization_sees() {
    // Every route twice and again, as one user: more than a person does in a second.
    lines::capture();
    let rates = Rates { user: "10000/10000".parse().unwrap(), ..Rates::default() };
    let world = World::start_within(Limits { rates, ..Limits::default() }).await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let acme_target = target(&world, &acme).await;
    let zulu_target = target(&world, &zulu).await;
    let document = world.anonymous().get("/openapi.json").await.json;
    let mut beat = 0;
    // Whatever takes its time: nobody falls silent meanwhile.
    let mut all_live = async || {
        beat += 1;
        for Target { tenant, host, .. } in [&acme_target, &zulu_target] {
            lives(&world, &tenant.api, host, beat, false).await;
        }
    };
    for (observer, stranger) in [(&acme_target, &zulu_target), (&zulu_target, &acme_target)] {
        all_live().await;
        let (name, theirs) = (observer.tenant.name.clone(), Names::of(stranger.tenant));
        let tried = attempt(observer.tenant, &theirs).await;
        let cluster = root.get("/cluster").await.json["id"].as_str().unwrap().to_owned();
        let from = format!("{cluster}:{}", world.head().await);
        let api = &observer.tenant.api;
        let stream = subscribe(&world, api, &format!("?organization={name}"), Some(&from)).await;
        let mut stream = messages(stream);
        let before = observe(&document, observer).await;
        assert!(before.answers.len() > 120, "only {} answers", before.answers.len());
        let path = format!("GET /api/v1/organizations/{}/resources", observer.tenant.name);
        let shown = &before.answers[&path];
        assert!(shown.contains("\"availability\":\"available\""), "{shown}");
        let measured = series(&world).await;
        all_live().await;
        Stranger::new(&world, &root, stranger).is_busy(observer.tenant).await;
        all_live().await;
        let after = observe(&document, observer).await;
        for (asked, answer) in &before.answers {
            assert_eq!(after.answers.get(asked), Some(answer), "{asked}");
        }
        assert_eq!(before.answers.len(), after.answers.len());
        check_lines(&before, stranger);
        check_lines(&after, stranger);
        // What the second one does was counted of the first one: no series is its own.
        let new: Vec<_> = series(&world).await.difference(&measured).cloned().collect();
        assert!(new.is_empty() || stranger.tenant.name == "zulu", "{new:?}");
        // The stream tells of the observer's own next change, and of nothing before it.
        let path = format!("/organizations/{name}/pools");
        let pool = json!({"name": "own-pool"});
        assert_eq!(api.post(&path, pool).await.status, 201);
        let next = loop {
            let message = stream.next().await.unwrap();
            if message.event != "bookmark" {
                break message;
            }
            assert_eq!(message.data, json!({}), "{message:?}");
        };
        assert_eq!(
            (&*next.event, &next.data["payload"]["name"]),
            ("pool.created", &json!("own-pool"))
        );
        // Names that the stranger has by now collide with nothing here.
        for (asked, answer) in attempt(observer.tenant, &theirs).await {
            assert_eq!(tried.get(&asked), Some(&answer), "{asked}");
        }
        let shown: Vec<String> = series(&world).await.into_iter().collect();
        let telling = lines::holding(&shown, &marks(stranger));
        assert!(telling.is_empty(), "{telling:?}");
    }
    // No secret is in any line, whoever's it is.
    let secrets = [&acme, &zulu].map(|tenant| {
        [tenant.join_secret.clone(), tenant.api.token.clone().unwrap(), PASSWORD.to_owned()]
    });
    let written = lines::all();
    let telling = lines::holding(&written, &secrets.concat());
    assert!(telling.is_empty(), "{telling:?}");
    world.stop().await;
}

#[test]
fn a_line_that_names_a_stranger_is_found_and_no_other() {
    lines::capture();
    let own = "5a17".to_owned();
    for (request, name) in [("5a17", "zulu-planted"), ("5a17", "own"), ("5a18", "zulu-planted")] {
        tracing::info_span!(target: "rap_control", "request", %request)
            .in_scope(|| tracing::debug!(target: "rap_control", name, "planted"));
    }
    let own = lines::of_requests(&[own].into());
    assert_eq!(own.len(), 2);
    assert_eq!(lines::holding(&own, &["zulu-planted".to_owned()]).len(), 1);
}
