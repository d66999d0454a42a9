//! Policy documents: written, tested, asked, and explained as of then and now.

use rap_proto::Signer as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node,
    world::{Api, PASSWORD, Tenant, World, tenant},
};

const POLICIES: &str = "/organizations/acme/policies";

async fn member(world: &World, acme: &Tenant, name: &str) -> Api {
    let body = json!({"name": name, "organization": "acme", "password": PASSWORD});
    let created = acme.api.post("/users", body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    world.log_in(name).await
}

fn access(resource: &str) -> Value {
    json!({"resource": resource, "clientKey": node::fresh_key().public_key()})
}

fn document(text: &str, tests: Value) -> Value {
    json!({"name": "rules", "document": {"text": text, "tests": tests}})
}

#[tokio::test]
async fn a_document_decides_and_every_decision_says_what_it_rests_on() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    node::enroll(&world, &acme.join_secret, "edge").await;
    let bob = member(&world, &acme, "bob").await;
    let before = world.head().await;
    assert_eq!(bob.post("/sessions", access("acme-ssh")).await.problem(), "access_denied");

    let text = "@id(\"people\")\npermit(principal in Role::\"organization_user\", \
                action == Action::\"reach\", resource) when { resource.kind == \"ssh\" };\n";
    let tests = json!([{
        "name": "bob works", "user": "bob", "action": "reach", "resource": "acme-ssh",
        "expect": "permit",
    }]);
    let created = acme.api.post(POLICIES, document(text, tests.clone())).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let shown = acme.api.get(&format!("{POLICIES}/rules")).await;
    assert_eq!(shown.json["document"], json!({"text": text, "tests": tests}));
    assert_eq!(shown.json["roles"], json!([]));
    let granted = bob.post("/sessions", access("acme-ssh")).await;
    assert_eq!(granted.status, 201, "{}", granted.text);
    assert_eq!(bob.get("/resources").await.json["items"][0]["name"], "acme-ssh");

    let rule = format!("{}/people", created.id());
    let path = "/organizations/acme/members/bob/reach/acme-ssh";
    let now = acme.api.get(path).await;
    assert_eq!((now.status.as_u16(), &now.json["verdict"]), (200, &json!("permit")));
    assert_eq!(now.json["rules"], json!([{"rule": rule, "policy": "rules"}]));
    let then = acme.api.get(&format!("{path}?as_of={before}")).await;
    assert_eq!(then.json["verdict"], "forbid", "{}", then.text);
    assert_eq!(then.json["reason"], "no policy permits it; 1 permit it to others");
    assert_eq!((&then.json["rules"], &then.json["position"]), (&json!([]), &json!(before)));
    assert_ne!(then.json["policyHash"], now.json["policyHash"]);

    // The log says of both decisions what the explanation says.
    let audit = acme.api.get("/audit?organization=acme&limit=500").await;
    let events = audit.json["items"].as_array().unwrap();
    let basis = |event_type: &str| {
        let event = events.iter().rfind(|event| event["type"] == event_type).unwrap();
        event["payload"]["basis"].clone()
    };
    let authorized = basis("session.authorized");
    assert_eq!(authorized["rules"], json!([rule]));
    assert_eq!(authorized["policy_hash"], now.json["policyHash"]);
    assert_eq!(authorized["entity_version"], now.json["entityVersion"]);
    assert_eq!(basis("session.denied")["rules"], json!([]));
    assert_eq!(basis("session.denied")["policy_hash"], then.json["policyHash"]);

    // What is forbidden ends.
    let closed = json!({"document": {"text": "forbid(principal, action, resource);"}});
    let path = format!("{POLICIES}/rules");
    let changed = acme.api.change(Method::PUT, &path, Some(closed), 1).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let session = format!("/sessions/{}", granted.json["session"].as_str().unwrap());
    let mut position = changed.position();
    while acme.api.get(&session).await.json["state"] != "terminated" {
        position += 1;
        let waited = acme.api.get(&format!("{session}?min_position={position}")).await;
        assert_eq!(waited.status, 200, "{}", waited.text);
    }
    world.stop().await;
}

/// The newest event of a type, as the organization's auditor reads it.
async fn newest(acme: &Tenant, event_type: &str) -> Value {
    let audit = acme.api.get("/audit?organization=acme&limit=500").await;
    let events = audit.json["items"].as_array().unwrap();
    events.iter().rfind(|event| event["type"] == event_type).unwrap().clone()
}

#[tokio::test]
async fn what_a_command_rests_on_is_recorded_as_it_is_explained() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let bob = member(&world, &acme, "bob").await;
    let text = "@id(\"changes\")\npermit(principal in Role::\"organization_user\", \
                action in [Action::\"resource.change\", Action::\"resource.read\"], resource);\n";
    let created = acme.api.post(POLICIES, document(text, json!([]))).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let path = "/organizations/acme/resources/acme-ssh";
    for (api, user, rule) in [
        (&bob, "bob", format!("{}/changes", created.id())),
        (&acme.api, "acme-owner", "builtin/organization_owner".to_owned()),
    ] {
        let revision = api.get(path).await.revision();
        let labels = json!({"labels": {"by": user}});
        let changed = api.change(Method::PATCH, path, Some(labels), revision).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let event = newest(&acme, "resource.labelled").await;
        let allowed = &event["allowed"];
        assert_eq!(allowed["actions"], json!(["resource.change"]), "{event}");
        assert!(allowed["rules"].as_array().unwrap().contains(&json!(rule)), "{event}");

        // A replay of the log up to there gives the same.
        let before = event["position"].as_u64().unwrap() - 1;
        let asked = format!("members/{user}/may/resource.change?resource=acme-ssh");
        let asked = format!("/organizations/acme/{asked}&as_of={before}");
        let explained = acme.api.get(&asked).await.json;
        let rules = explained["rules"].as_array().unwrap().iter().map(|rule| rule["rule"].clone());
        assert_eq!(allowed["rules"], rules.collect::<Value>(), "{explained}");
        assert_eq!(allowed["policyHash"], explained["policyHash"]);
        assert_eq!(allowed["entityVersion"], explained["entityVersion"]);
    }
    assert_eq!(root.get("/audit/replay").await.json["equal"], true);
    // Whoever began it all was asked by no rule.
    let all = root.get("/audit?limit=500").await.json;
    let first = &all["items"].as_array().unwrap()[0];
    assert_eq!(first["allowed"], Value::Null, "{first}");
    world.stop().await;
}

#[tokio::test]
async fn a_bad_document_changes_nothing_and_is_told_where_and_why() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let permit = "permit(principal, action, resource);";
    let test = |user: &str, expect: &str| {
        json!([{"name": "a test", "user": user, "action": "reach", "resource": "acme-ssh",
            "expect": expect}])
    };
    let head = world.head().await;
    for (body, rule, field, word) in [
        (document("permit(principal", json!([])), "policy.flaw", "document.text", "line 1, rule"),
        (
            document(
                "\n@id(\"x\") permit(principal, action == Action::\"fly\", resource);",
                json!([]),
            ),
            "policy.flaw",
            "document.text",
            "line 2, rule x: ",
        ),
        (
            document(permit, test("acme-owner", "forbid")),
            "policy.test_failed",
            "document.tests[0]",
            "\"a test\" expects forbid",
        ),
        (
            document(permit, test("root", "forbid")),
            "policy.test_unclear",
            "document.tests[0]",
            "no member",
        ),
        (json!({"name": "rules"}), "rules_or_document", "rules", "either"),
        (
            json!({"name": "rules", "rules": {"roles": [], "kinds": []},
                "document": {"text": permit}}),
            "rules_or_document",
            "rules",
            "either",
        ),
        (
            document(&format!("{permit}{}", " ".repeat(16 * 1024)), json!([])),
            "policy.document_invalid",
            "",
            "16384",
        ),
    ] {
        let refused = acme.api.post(POLICIES, body).await;
        assert_eq!(refused.problem(), "validation_failed", "{}", refused.text);
        assert_eq!(refused.json["rule"], rule, "{}", refused.text);
        assert_eq!(refused.json["field"].as_str().unwrap_or_default(), field);
        assert!(refused.json["detail"].as_str().unwrap().contains(word), "{}", refused.text);
    }
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test]
async fn only_who_keeps_an_organizations_record_asks_what_its_policies_say() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let bob = member(&world, &acme, "bob").await;
    let reach = "/organizations/acme/members/bob/reach/acme-ssh";
    let may = "/organizations/acme/members/bob/may/resource.create";
    for path in [reach, may] {
        assert_eq!(bob.get(path).await.problem(), "forbidden");
        for stranger in [&zulu.api, &root] {
            let refused = stranger.get(path).await;
            let expected = if stranger.token == root.token { "forbidden" } else { "not_found" };
            assert_eq!(refused.problem(), expected, "{}", refused.text);
        }
    }
    let asked = acme.api.get(may).await;
    assert_eq!(asked.json["verdict"], "forbid");
    assert_eq!(asked.json["reason"], "resource.create/not_held");
    let owner = acme.api.get("/organizations/acme/members/acme-owner/may/resource.create").await;
    assert_eq!(owner.json["rules"], json!([{"rule": "builtin/organization_owner"}]));
    let on = "/organizations/acme/members/bob/may/resource.change?resource=acme-ssh";
    assert_eq!(acme.api.get(on).await.json["verdict"], "forbid");
    // Another organization's people and things are not there, by id or by name.
    for absent in [
        "/organizations/acme/members/zulu-owner/reach/acme-ssh".to_owned(),
        format!("/organizations/acme/members/{}/reach/acme-ssh", zulu.owner),
        "/organizations/acme/members/bob/reach/zulu-ssh".to_owned(),
        format!("/organizations/acme/members/bob/reach/{}", zulu.resource),
        format!("/organizations/acme/members/bob/may/resource.change?resource={}", zulu.resource),
        "/organizations/acme/members/bob/may/no.such.action".to_owned(),
        format!("{reach}?as_of=1"),
    ] {
        assert_eq!(acme.api.get(&absent).await.problem(), "not_found", "{absent}");
    }
    let ahead = world.head().await + 1;
    let early = acme.api.get(&format!("{reach}?as_of={ahead}")).await;
    assert_eq!(
        (early.problem(), early.json["field"].as_str()),
        ("validation_failed", Some("as_of"))
    );
    for (scope, status) in [("audit", 200), ("read", 403)] {
        let token = json!({"label": scope, "scopes": [scope], "ttlSeconds": 600});
        let token = acme.api.post("/api-tokens", token).await;
        let auditor = acme.api.with_token(token.json["secret"].as_str().unwrap());
        assert_eq!(auditor.get(reach).await.status, status, "{scope}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_label_and_a_rule_let_a_member_tend_some_resources() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let bob = member(&world, &acme, "bob").await;
    let labelled = json!({
        "name": "lab", "kind": "web", "pool": acme.pool, "labels": {"team": "core"},
        "target": {"host": "lab.internal", "port": 80},
    });
    let lab = acme.api.post("/organizations/acme/resources", labelled).await;
    assert_eq!((lab.status.as_u16(), &lab.json["labels"]["team"]), (201, &json!("core")));
    let text = "permit(principal == User::\"bob\", \
        action in [Action::\"resource.read\", Action::\"resource.change\"], resource) \
        when { resource.hasTag(\"team\") && resource.getTag(\"team\") == \"core\" };";
    let created = acme.api.post(POLICIES, document(text, json!([]))).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let path = "/organizations/acme/resources/lab";
    let shown = bob.get(path).await;
    assert_eq!((shown.status.as_u16(), shown.revision()), (200, 2));
    let target = Some(json!({"target": {"host": "lab-2.internal", "port": 80}}));
    assert_eq!(bob.change(Method::PATCH, path, target.clone(), 2).await.status, 200);
    assert_eq!(bob.change(Method::DELETE, path, None, 3).await.problem(), "forbidden");
    let other = "/organizations/acme/resources/acme-ssh";
    assert_eq!(bob.get(other).await.problem(), "not_found");
    assert_eq!(bob.change(Method::PATCH, other, target, 1).await.problem(), "not_found");
    let without = Some(json!({"labels": {}}));
    assert_eq!(acme.api.change(Method::PATCH, path, without, 3).await.status, 200);
    assert_eq!(bob.get(path).await.problem(), "not_found", "the label is what he was let in by");
    world.stop().await;
}

#[tokio::test]
async fn what_a_test_relies_on_stays_until_the_test_is_mended_and_people_go_at_once() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let (bob, tender) = (member(&world, &acme, "bob").await, member(&world, &acme, "tender").await);
    let lists = json!({"name": "lists", "rules": {"users": ["bob"], "resources": ["acme-ssh"]}});
    assert_eq!(acme.api.post(POLICIES, lists).await.status, 201);
    let text = "permit(principal == User::\"tender\", \
        action in [Action::\"resource.read\", Action::\"resource.remove\"], resource);";
    let tests = json!([{
        "name": "bob works", "user": "bob", "action": "reach", "resource": "acme-ssh",
        "expect": "permit",
    }]);
    let rules = acme.api.post(POLICIES, document(text, tests)).await;
    assert_eq!(rules.status, 201, "{}", rules.text);
    let head = world.head().await;

    let (policy, resource) =
        (format!("{POLICIES}/lists"), "/organizations/acme/resources/acme-ssh");
    let narrow = Some(json!({"rules": {"users": ["tender"], "resources": ["acme-ssh"]}}));
    let narrowed = acme.api.change(Method::PUT, &policy, narrow.clone(), 1).await;
    assert_eq!(narrowed.problem(), "validation_failed", "{}", narrowed.text);
    let stale = acme.api.change(Method::DELETE, &policy, None, 7).await;
    assert_eq!(stale.problem(), "precondition_failed");
    let removed = acme.api.change(Method::DELETE, &policy, None, 1).await;
    assert_eq!(removed.problem(), "rejected", "{}", removed.text);
    for refused in [narrowed, removed] {
        assert_eq!(refused.json["rule"], "policy.other_test_failed");
        let detail = refused.json["detail"].as_str().unwrap();
        assert_eq!(
            detail,
            "the test \"bob works\" of the policy rules expects permit, and no rule says anything"
        );
    }
    // Which test it is, nobody is told who may not read it.
    let asks = "the test \"bob works\" of the policy rules asks about it";
    for (api, detail) in [(&acme.api, asks), (&tender, "a test of a policy asks about it")] {
        let refused = api.change(Method::DELETE, resource, None, 2).await;
        assert_eq!(refused.problem(), "precondition_failed");
        let refused = api.change(Method::DELETE, resource, None, 1).await;
        assert_eq!(refused.problem(), "rejected", "{}", refused.text);
        assert_eq!(refused.json["rule"], "resource.in_test");
        assert_eq!(refused.json["detail"], detail);
    }
    assert_eq!(world.head().await, head, "nothing was changed");

    // A person is not kept by what somebody expects of him.
    let member = "/organizations/acme/members/bob";
    assert_eq!(acme.api.change(Method::DELETE, member, None, 1).await.status, 204);
    assert_eq!(bob.get(resource).await.problem(), "not_found");
    let again = document(text, json!([]))["document"].clone();
    let mended = json!({"document": again});
    let path = format!("{POLICIES}/rules");
    let mended = acme.api.change(Method::PUT, &path, Some(mended), 1).await;
    assert_eq!(mended.status, 200, "{}", mended.text);
    assert_eq!(acme.api.change(Method::PUT, &policy, narrow, 1).await.status, 200);
    assert_eq!(acme.api.change(Method::DELETE, &policy, None, 2).await.status, 204);
    assert_eq!(tender.change(Method::DELETE, resource, None, 1).await.status, 204);
    world.stop().await;
}
