//! Row-level security that shows a transaction without an organization nothing: whoever reads for one
//! and does not say so is seen to miss its events. What a command reads to answer, of what it has just
//! written, is not asked here: each command is in a form that is refused.

use std::sync::Arc;

use rap_bus::LocalBus;
use rap_control::{BusChoice, Limits, LogChoice, Rates};
use rap_events::Log as _;
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};

use crate::{
    differ::observe,
    sealer::execute,
    tenancy::target,
    world::{World, tenant},
};

/// What is there by now, a transaction that names no organization sees no more. What follows it sees,
/// with the last event before: the fold of all goes on from there.
fn policy_from(head: u64) -> String {
    format!(
        "ALTER POLICY events_of_organization ON events USING (position >= {head} \
         OR organization::text = current_setting('rap.organization', true))"
    )
}

/// Nobody hears of the nodes, and what they serve is unavailable after a while.
fn timeless(answer: &str) -> String {
    answer.replace("\"availability\":\"available\"", "\"availability\":\"unavailable\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_audit_log_names_its_organization_to_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("postgres");
    let postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
    let database = postgres.create_log("control").await.unwrap();
    let bus = BusChoice::Local(Arc::new(LocalBus::new()));
    // Every route four times, as one user: more than a person does in a second.
    let rates = Rates { user: "10000/10000".parse().unwrap(), ..Rates::default() };
    let limits = Limits { rates, ..Limits::default() };
    let world = World::start_as(dir, LogChoice::Postgres(database.clone()), bus, limits).await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let targets = [target(&world, &acme).await, target(&world, &zulu).await];
    let document = world.anonymous().get("/openapi.json").await.json;
    let mut before = Vec::new();
    for own in &targets {
        before.push(observe(&document, own).await);
    }

    let log = PostgresLog::connect(&database).await.unwrap();
    let head = log.head().await.unwrap();
    execute(&folder.join("run"), &policy_from(head)).await;
    // What sets nothing is found out: it sees a log that has lost its beginning.
    assert!(log.read(0, 10).await.is_err());
    for (own, before) in targets.iter().zip(&before) {
        let audit = own.tenant.api.get("/audit?limit=500").await;
        let shown = audit.json["items"].as_array().map_or(0, Vec::len);
        assert!(shown > 5, "{}: {}", own.tenant.name, audit.text);
        let after = observe(&document, own).await;
        assert!(before.answers.len() > 120, "only {} answers", before.answers.len());
        for (asked, answer) in &before.answers {
            let after = after.answers.get(asked).map(String::as_str);
            assert_eq!(after.map(timeless), Some(timeless(answer)), "{asked}");
        }
    }
    log.close().await;
    let (_dir, _) = world.stop().await;
    postgres.stop().await;
}
