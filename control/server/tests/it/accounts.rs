use rap_events::Log as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{PASSWORD, With, World};

#[tokio::test]
async fn the_setup_code_makes_one_owner_and_is_worthless_then() {
    let world = World::start().await;
    let anonymous = world.anonymous();
    let wrong = json!({"setupCode": "rapsetup_no", "name": "root", "password": PASSWORD});
    assert_eq!(anonymous.post("/setup", wrong).await.problem(), "wrong_credentials");
    let code = world.running.setup_code.as_ref().unwrap().reveal();
    let short = json!({"setupCode": code, "name": "root", "password": "short"});
    let refused = anonymous.post("/setup", short).await;
    assert_eq!(refused.problem(), "validation_failed");
    assert_eq!(
        (refused.json["field"].as_str(), refused.json["rule"].as_str()),
        (Some("password"), Some("password_too_short"))
    );

    let root = world.set_up().await;
    let me = root.get("/me").await;
    assert_eq!(me.json["name"], "root");
    assert_eq!(me.json["platformRoles"], json!(["platform_owner"]));
    let again = json!({"setupCode": code, "name": "second", "password": PASSWORD});
    assert_eq!(anonymous.post("/setup", again).await.problem(), "already_set_up");
    world.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_everything_and_prints_no_code_once_set_up() {
    let world = World::start().await;
    let first_code = world.running.setup_code.as_ref().unwrap().reveal();
    let fingerprint = world.running.ca_fingerprint;
    let (dir, log) = world.stop().await;
    let world = World::start_over(dir, log).await;
    assert_eq!(world.running.ca_fingerprint, fingerprint);
    let old = json!({"setupCode": first_code, "name": "root", "password": PASSWORD});
    assert_eq!(world.anonymous().post("/setup", old).await.problem(), "wrong_credentials");
    let root = world.set_up().await;
    let (dir, log) = world.stop().await;
    let world = World::start_over(dir, log).await;
    assert!(world.running.setup_code.is_none());
    let root = world.anonymous().with_token(root.token.as_ref().unwrap());
    assert_eq!(root.get("/me").await.json["name"], "root");
    world.stop().await;
}

#[tokio::test]
async fn logins_open_close_and_slow_down_guessing() {
    let world = World::start().await;
    let root = world.set_up().await;
    let login = world.log_in("root").await;
    assert_eq!(login.get("/me").await.status, 200);
    let gone = login.change(Method::DELETE, "/logins/current", None, 0).await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(login.get("/me").await.problem(), "unauthenticated");
    assert_eq!(root.get("/me").await.status, 200);
    for token in ["", "raps_x", "rapa_x", "Basic"] {
        let reply = world.anonymous().with_token(token).get("/me").await;
        assert_eq!(reply.problem(), "unauthenticated");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
    let guess = json!({"name": "nobody", "password": "a wrong password"});
    for _ in 0..5 {
        let refused = world.anonymous().post("/logins", guess.clone()).await;
        assert_eq!(refused.problem(), "wrong_credentials");
    }
    // The first pause is short on a busy machine, and each one is twice as long.
    let mut slowed = world.anonymous().post("/logins", guess.clone()).await;
    for _ in 0..4 {
        if slowed.problem() != "rate_limited" {
            slowed = world.anonymous().post("/logins", guess.clone()).await;
        }
    }
    assert_eq!(slowed.problem(), "rate_limited");
    assert_eq!(slowed.json["rule"], "login_attempts");
    world.stop().await;
}

/// What a guesser and an auditor see of six wrong passwords for an account.
struct Guessed {
    answers: Vec<Value>,
    /// How many events the log has more.
    events: u64,
    noticed: Value,
    root: String,
}

async fn guessed(name: &str) -> Guessed {
    let world = World::start().await;
    let root = world.set_up().await;
    let account = root.get("/users/root").await;
    let before = account.position();
    let mut answers = Vec::new();
    let guess = json!({"name": name, "password": "canary wrong password"});
    for _ in 0..6 {
        let mut answer = world.anonymous().post("/logins", guess.clone()).await.json;
        answer.as_object_mut().unwrap().remove("requestId");
        answers.push(answer);
    }
    let after = world.log.wait_beyond(before).await.unwrap();
    // Whatever else is guessed within the interval makes no further event.
    for other in ["one", "two"] {
        let guess = json!({"name": other, "password": "canary wrong password"});
        for _ in 0..5 {
            world.anonymous().post("/logins", guess.clone()).await;
        }
    }
    let last = root.post("/organizations", json!({"name": "acme"})).await.position();
    let audit = root.get(&format!("/audit?limit=500&min_position={last}")).await;
    let events = audit.json["items"].as_array().unwrap();
    let noticed: Vec<_> = events.iter().filter(|e| e["type"] == "guessing.noticed").collect();
    assert_eq!(noticed.len(), 1, "{}", audit.text);
    assert!(!audit.text.contains("canary"));
    let same = root.get("/users/root").await;
    assert_eq!(same.headers["etag"], account.headers["etag"], "a stranger changes no account");
    let root = account.json["id"].as_str().unwrap().to_owned();
    let guessed = Guessed { answers, events: after - before, noticed: noticed[0].clone(), root };
    world.stop().await;
    guessed
}

#[tokio::test]
async fn guessing_is_on_record_and_tells_nobody_who_exists() {
    let known = guessed("root").await;
    let unknown = guessed("nobody").await;
    assert_eq!(known.answers, unknown.answers);
    assert_eq!((known.events, unknown.events), (1, 1));
    let wrong = |guessed: &Guessed| {
        let payload = &guessed.noticed["payload"];
        (payload["accounts"].clone(), payload["unnamed"].clone())
    };
    assert_eq!(wrong(&known), (json!({&known.root: 5}), json!(0)));
    assert_eq!(wrong(&unknown), (json!({}), json!(5)));
    assert_eq!(known.noticed["actor"]["process"], "logins");
}

#[tokio::test]
async fn guesses_sent_together_learn_no_more_than_one_after_another() {
    let world = World::start().await;
    let guess = json!({"name": "nobody", "password": "a wrong password"});
    let guesses = (0..20).map(|_| {
        let anonymous = world.anonymous();
        let guess = guess.clone();
        async move { anonymous.post("/logins", guess).await.problem().to_owned() }
    });
    let answers = futures_util::future::join_all(guesses).await;
    let answered = answers.iter().filter(|problem| *problem == "wrong_credentials").count();
    // As many as are free, and those that were verified at the same time as the last of these.
    assert!(answered <= 5 + 2, "{answered} guesses were answered");
    world.stop().await;
}

#[tokio::test]
async fn an_invitation_is_a_first_password_once() {
    let world = World::start().await;
    let root = world.set_up().await;
    let created = root.post("/users", json!({"name": "ann", "displayName": "Ann"})).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json["user"]["active"], false);
    let invitation = created.json["invitation"].as_str().unwrap().to_owned();
    let body = json!({"invitation": invitation, "password": PASSWORD});
    let accepted = world.anonymous().post("/invitations/accept", body.clone()).await;
    assert_eq!(accepted.status, 201, "{}", accepted.text);
    assert!(accepted.json["secret"].as_str().unwrap().starts_with("raps_"));
    let again = world.anonymous().post("/invitations/accept", body).await;
    assert_eq!(again.problem(), "wrong_credentials");
    world.stop().await;
}

#[tokio::test]
async fn a_changed_password_ends_the_other_logins() {
    let world = World::start().await;
    let root = world.set_up().await;
    let other = world.log_in("root").await;
    let wrong = json!({"current": "not this password", "new": "another password"});
    let refused = root.change(Method::PUT, "/me/password", Some(wrong), 0).await;
    assert_eq!(refused.problem(), "wrong_credentials");
    let right = json!({"current": PASSWORD, "new": "another password"});
    let changed = root.change(Method::PUT, "/me/password", Some(right), 0).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    // A process closes the other logins; its event is awaited by position.
    let mut position = changed.position();
    while other.get("/me").await.status == 200 {
        position += 1;
        let with = With::default();
        root.send(Method::GET, &format!("/me?min_position={position}"), with).await;
    }
    assert_eq!(root.get("/me").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_disabled_user_is_nobody_and_the_last_owner_stays() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (ann, id) = world.user(&root, "ann").await;
    let shown = root.get("/users/ann").await;
    let path = format!("/users/{id}/disable");
    let body = Some(json!({"reason": "left"}));
    let disabled = root.change(Method::POST, &path, body, shown.revision()).await;
    assert_eq!(disabled.status, 200, "{}", disabled.text);
    assert_eq!(ann.get("/me").await.problem(), "unauthenticated");
    let me = root.get("/users/root").await;
    let refused = root
        .change(Method::DELETE, "/users/root/platform-roles/platform_owner", None, me.revision())
        .await;
    assert_eq!(refused.problem(), "forbidden");
    assert_eq!(refused.json["rule"], "platform_keeps_an_owner");
    world.stop().await;
}

#[tokio::test]
async fn an_api_token_does_no_more_than_its_scopes() {
    let world = World::start().await;
    let root = world.set_up().await;
    let body = json!({"label": "ci", "scopes": ["read"], "ttlSeconds": 600});
    let created = root.post("/api-tokens", body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let program = world.anonymous().with_token(created.json["secret"].as_str().unwrap());
    assert_eq!(program.get("/users").await.status, 200);
    let refused = program.post("/users", json!({"name": "eve", "password": PASSWORD})).await;
    assert_eq!(refused.problem(), "forbidden");
    assert_eq!(refused.json["rule"], "user.create/token_scope");
    let id = created.json["token"]["id"].as_str().unwrap();
    let gone = root.change(Method::DELETE, &format!("/api-tokens/{id}"), None, 1).await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(program.get("/users").await.problem(), "unauthenticated");
    world.stop().await;
}
