//! What the role of a server may do, and what it may not.

use std::collections::BTreeSet;

use rap_events::log::{Append, Log as _, StreamWrite};
use rap_log_postgres::{ConnectError, PRIVILEGES, PostgresLog, migrate, private::Durability};
use rap_proto::OrganizationId;
use tokio_postgres::{Client, NoTls};

use crate::support::{Server, append, append_to, execute};

/// The server's answer to what a role may not do.
const NOT_PERMITTED: &str = "42501";
const ACME: OrganizationId = OrganizationId::from_u128(7);
const ZULU: OrganizationId = OrganizationId::from_u128(8);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn append_of(command: u128, organization: Option<OrganizationId>) -> Append {
    let mut append = append(command);
    let of_organization = |write: &mut StreamWrite| {
        write.events.iter_mut().for_each(|event| event.organization = organization);
    };
    append.writes.iter_mut().for_each(of_organization);
    append
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_cannot_change_what_is_stored() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.create_log("rap").await.unwrap();
    let log = PostgresLog::connect(&url).await.unwrap();
    log.append(append(1)).await.unwrap();
    let client = connect(&url).await;
    for statement in [
        "UPDATE events SET recorded_at = 7",
        "UPDATE events SET leaf = leaf",
        "DELETE FROM events",
        "TRUNCATE events",
        "DROP TABLE events",
        "ALTER TABLE events DISABLE ROW LEVEL SECURITY",
        "DROP POLICY events_of_organization ON events",
        "CREATE RULE quiet AS ON INSERT TO events DO INSTEAD NOTHING",
        "SELECT position FROM events FOR UPDATE",
        "UPDATE commands SET reply = ''",
        "DELETE FROM commands",
        "UPDATE tile_roots SET root = root",
        "DELETE FROM tile_roots",
        "UPDATE sealed_heads SET note = ''",
        "DELETE FROM leases",
        "DELETE FROM log_head",
        "DELETE FROM streams",
        "DELETE FROM _sqlx_migrations",
        "CREATE TABLE own (a int)",
        "SET ROLE rap",
    ] {
        let refused = client.batch_execute(statement).await.expect_err(statement);
        let code = refused.as_db_error().map(|error| error.code().code());
        assert_eq!(code, Some(NOT_PERMITTED), "{statement}: {refused}");
    }
    assert_eq!(log.head().await, Ok(1));
    assert_eq!(log.read(0, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_every_table_it_is_said_what_a_server_may() {
    let server = Server::start(Durability::Fast).await;
    server.postgres.create_log("rap").await.unwrap();
    let all = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    let all: BTreeSet<String> = execute(&server.postgres.url(), all).await.into_iter().collect();
    let said: BTreeSet<String> = PRIVILEGES.iter().map(|(table, _)| (*table).to_owned()).collect();
    assert_eq!(all, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_migrates_and_what_was_granted_before_is_taken_back() {
    let server = Server::start(Durability::Fast).await;
    let owner = server.postgres.url();
    let url = owner.replace("rap@", "rap_server@");
    let error = PostgresLog::connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTheOwner(_)), "{error}");
    assert!(error.to_string().contains("rap-control migrate"), "{error}");

    migrate(&owner, &url).await.unwrap();
    execute(&owner, "GRANT UPDATE ON events TO rap_server").await;
    let client = connect(&url).await;
    client.batch_execute("UPDATE events SET leaf = leaf").await.unwrap();
    migrate(&owner, &url).await.unwrap();
    client.batch_execute("UPDATE events SET leaf = leaf").await.unwrap_err();

    // The tree of a log from before it is the owner's to complete.
    let log = PostgresLog::connect(&url).await.unwrap();
    log.append(append(1)).await.unwrap();
    log.close().await;
    let forget = "UPDATE log_head SET leaves = 0, frontier = ''; UPDATE events SET leaf = NULL";
    execute(&owner, forget).await;
    let error = PostgresLog::connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTheOwner(_)), "{error}");
    migrate(&owner, &url).await.unwrap();
    drop(PostgresLog::connect(&url).await.unwrap());

    let error = migrate(&owner, &owner.replace("rap@", "nobody@")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Schema(_)), "{error}");
    // One role for both: nothing to grant.
    migrate(&owner, &owner).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_one_organization_sees_no_row_of_another() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.create_log("rap").await.unwrap();
    let log = PostgresLog::connect(&url).await.unwrap();
    for (command, owner) in [(1, Some(ACME)), (2, Some(ZULU)), (3, None), (4, Some(ACME))] {
        log.append(append_of(command, owner)).await.unwrap();
    }
    let client = connect(&url).await;
    let seen = async |organization: &str| -> Vec<i64> {
        let set = format!("BEGIN; SELECT set_config('rap.organization', '{organization}', true)");
        client.batch_execute(&set).await.unwrap();
        // A statement that forgot whom it is for.
        let rows = client.query("SELECT position FROM events ORDER BY position", &[]).await;
        client.batch_execute("ROLLBACK").await.unwrap();
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(seen(&ACME.uuid().to_string()).await, [1, 4]);
    assert_eq!(seen(&ZULU.uuid().to_string()).await, [2]);
    assert_eq!(seen("nobody").await, [0_i64; 0]);
    assert_eq!(seen("").await, [1, 2, 3, 4], "the fold's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_log_costs_a_server_no_look_at_the_whole_table() {
    let server = Server::start(Durability::Fast).await;
    let url = server.postgres.create_log("rap").await.unwrap();
    let log = PostgresLog::connect(&url).await.unwrap();
    for stream in 0..100 {
        log.append(append_to(stream, stream, 0, 250)).await.unwrap();
    }
    execute(&server.postgres.url(), "ANALYZE events").await;
    let page = "EXPLAIN SELECT * FROM events WHERE position > 50 ORDER BY position LIMIT 1000";
    let plan = execute(&url, page).await.join("\n");
    assert!(plan.contains("Index Scan using events_position_key"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_noticed_that_a_role_could_rewrite_the_log_or_become_one_that_can() {
    let server = Server::start(Durability::Fast).await;
    let owner = server.postgres.url();
    let url = server.postgres.create_log("rap").await.unwrap();
    let may_rewrite = async |url: &str| {
        let log = PostgresLog::connect(url).await.unwrap();
        let may_rewrite = log.may_rewrite();
        log.close().await;
        may_rewrite
    };
    assert!(!may_rewrite(&url).await);
    execute(&owner, "ALTER ROLE rap_server NOINHERIT; GRANT rap TO rap_server").await;
    assert!(may_rewrite(&url).await);
    execute(&owner, "REVOKE rap FROM rap_server").await;
    assert!(!may_rewrite(&url).await);
    execute(&owner, "GRANT TRUNCATE ON events TO rap_server").await;
    assert!(may_rewrite(&url).await);
}
