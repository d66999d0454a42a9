//! The adapter worker dies: its sessions end and say why, and new ones work at once.

use std::{fs, time::Duration};

use rap_e2e::{Fabric, Space, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::{ssh, ssh_words, step};

const PATIENCE: Duration = Duration::from_secs(20);
/// By when new sessions work.
const RECOVERY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_killed_worker_ends_its_sessions_and_is_back_within_two_seconds() {
    let test = "worker::a_killed_worker_ends_its_sessions_and_is_back_within_two_seconds";
    let Some(fabric) = super::fabric(test).await else { return };
    let mut words = ssh_words(&fabric);
    words.push("cat".to_owned());
    let mut talk = fabric.alice.talk("rap", &words);
    talk.type_line("one").await;
    assert_eq!(talk.line(PATIENCE).await.as_deref(), Some("one"));

    step("the worker is killed");
    let killed = Instant::now();
    kill_process(worker(&fabric), Signal::KILL).unwrap();
    assert_eq!(talk.line(PATIENCE).await, None);
    let said = talk.finish(PATIENCE).await.fails(255);
    assert!(said.contains("worker"), "{said}");

    let mut tries = 0;
    loop {
        tries += 1;
        let run = ssh(&fabric, &fabric.alice, "echo again").await;
        if run.code == 0 {
            break;
        }
        assert!(killed.elapsed() < RECOVERY, "no session {:?} later: {run}", killed.elapsed());
    }
    step(&format!("a new session works {:?} later, try {tries}", killed.elapsed()));
    assert!(killed.elapsed() < RECOVERY, "{:?}", killed.elapsed());

    fabric.event("the session's end says why", says_worker_died).await;
    fabric
        .event("the worker's death is on record", |event| {
            event["type"] == "node_report.worker_exited"
        })
        .await;
}

/// What a stopping worker cuts off is not taken for what the target had to say.
#[tokio::test]
async fn a_worker_that_is_told_to_stop_at_once_ends_its_sessions_and_says_why() {
    let test = "worker::a_worker_that_is_told_to_stop_at_once_ends_its_sessions_and_says_why";
    let Some(fabric) = super::fabric(test).await else { return };
    let mut words = ssh_words(&fabric);
    words.push("cat".to_owned());
    let mut talk = fabric.alice.talk("rap", &words);
    talk.type_line("one").await;
    assert_eq!(talk.line(PATIENCE).await.as_deref(), Some("one"));

    step("the worker is told to stop, and then at once");
    let worker = worker(&fabric);
    until("the worker stops", PATIENCE, async || kill_process(worker, Signal::TERM).err()).await;
    assert_eq!(talk.line(PATIENCE).await, None);
    let said = talk.finish(PATIENCE).await.fails(255);
    assert!(said.contains("worker"), "{said}");
    fabric.event("the session's end says why", says_worker_died).await;
}

fn says_worker_died(event: &serde_json::Value) -> bool {
    event["type"] == "session.ended" && event["payload"].to_string().contains("worker_died")
}

fn worker(fabric: &Fabric) -> Pid {
    let workers = fabric.lab().processes(Space::Egress).into_iter().filter(|id| {
        let program = fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
        program.ends_with("rap-stream-worker")
    });
    let workers: Vec<_> = workers.collect();
    assert_eq!(workers.len(), 1, "one worker runs: {workers:?}");
    Pid::from_raw(workers[0].cast_signed()).unwrap()
}
