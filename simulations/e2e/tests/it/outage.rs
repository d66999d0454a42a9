//! Control, NATS and PostgreSQL die together; people go on working.

use std::time::Duration;

use rap_e2e::{PAGE, until};

use super::{everyday::forward, ssh, ssh_words, step};

const PATIENCE: Duration = Duration::from_secs(20);
/// What an echo may take while nothing is wrong with the realtime plane.
const ECHO: Duration = Duration::from_secs(2);

#[tokio::test]
async fn sessions_outlive_the_authority_plane_and_the_log_misses_nothing() {
    let test = "outage::sessions_outlive_the_authority_plane_and_the_log_misses_nothing";
    let Some(mut fabric) = super::fabric(test).await else { return };
    let mut words = ssh_words(&fabric);
    words.push("while read line; do echo \"heard $line\"; done".to_owned());
    let mut talk = fabric.alice.talk("rap", &words);
    talk.type_line("one").await;
    assert_eq!(talk.line(PATIENCE).await.as_deref(), Some("heard one"));
    // Authorized, though nothing has gone through it yet.
    let (mut web, url) = forward(&fabric, "demo-web").await;
    fabric.event("the ssh session has started", |event| event["type"] == "session.started").await;

    step("control, NATS and PostgreSQL are killed");
    fabric.kill_authority().await;
    for number in 0..5 {
        talk.type_line(&number.to_string()).await;
        assert_eq!(talk.line(ECHO).await, Some(format!("heard {number}")));
    }
    let page = ["-sS", "--max-time", "20", &format!("{url}/")];
    assert_eq!(fabric.alice.run("curl", &page).await.ok(), PAGE);
    let refused = fabric.alice.rap(&["connect", "demo-web"]).await.fails(7);
    assert!(refused.contains("control"), "{refused}");
    talk.type_line("last").await;
    assert_eq!(talk.line(ECHO).await.as_deref(), Some("heard last"));
    talk.finish(PATIENCE).await.ok();

    step("they return");
    fabric.restart_authority().await;
    assert_eq!(ssh(&fabric, &fabric.alice, "echo back").await.ok(), "back\n");
    assert_eq!(fabric.alice.run("curl", &page).await.ok(), PAGE);
    web.stop(PATIENCE).await;

    step("the log has what happened meanwhile");
    let (ssh_id, web_id) =
        (fabric.id("resource", "demo-ssh").await, fabric.id("resource", "demo-web").await);
    until("three sessions have ended", PATIENCE, async || {
        let words = ["sessions", "ls", "--all", "-o", "json"];
        let sessions = rap_e2e::items(&fabric.alice.rap(&words).await.json());
        let ended = |resource: &str| {
            let ended = sessions.iter().filter(|session| {
                session["resource"] == resource
                    && session["state"] == "ended"
                    && session["endReason"] == "client_closed"
                    && session["bytesDown"].as_u64() > Some(0)
            });
            ended.count()
        };
        (ended(&ssh_id) == 2 && ended(&web_id) == 1).then_some(())
    })
    .await;
    // Several people's parts of it are read one after the other, while it grows.
    until("the log has no gap", PATIENCE, async || {
        let log = fabric.audit().await;
        let positions = log.iter().filter_map(|event| event["position"].as_u64());
        positions.eq(1..=log.len() as u64).then_some(())
    })
    .await;
    let replay = fabric.owner.rap(&["audit", "replay", "-o", "json"]).await.json();
    assert_eq!(replay["equal"], true, "{replay}");
}
