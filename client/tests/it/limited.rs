//! `rap` against a control plane that lets nobody ask often.

use std::sync::Arc;

use rap_bus::LocalBus;
use rap_control::{BusChoice, ControlOptions, Limits, LogChoice, Rates, Running, serve};
use rap_events::MemoryLog;
use tokio::sync::oneshot;

use crate::program::Person;

async fn start(folder: &std::path::Path, rates: Rates) -> (Running, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let options = ControlOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics: Some("127.0.0.1:0".parse().unwrap()),
        state_dir: folder.join("control"),
        log: LogChoice::Local(Arc::new(MemoryLog::default())),
        bus: BusChoice::Local(Arc::new(LocalBus::new())),
        names: vec!["127.0.0.1".to_owned()],
        servers: Vec::new(),
        workers: 1,
        limits: Limits { rates, ..Limits::default() },
    };
    let shutdown = async move {
        let _ = stopped.await;
    };
    (serve(options, shutdown).await.unwrap(), stop)
}

/// What the metrics say of users who asked too often.
async fn limited(person: &Person, running: &Running) -> String {
    let url = format!("http://{}/metrics", running.metrics.unwrap());
    let curl = person.command("curl").args(["--silent", &url]).output();
    let text = String::from_utf8(curl.unwrap().stdout).unwrap();
    let counter = "rap_control_rate_limited_total{outcome=\"user\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(counter));
    line.unwrap_or("0").to_owned()
}

#[tokio::test]
async fn a_refusal_for_asking_too_often_is_waited_out_once() {
    let folder = tempfile::tempdir().unwrap();
    // `rap status` asks three times, and there is room for two.
    let rates = Rates { user: "1/2".parse().unwrap(), ..Rates::default() };
    let (running, stop) = start(folder.path(), rates).await;
    let url = format!("https://{}", running.address);
    let ca = format!("sha256:{}", running.ca_fingerprint);
    let code = running.setup_code.as_ref().unwrap().reveal();
    let person = Person::new().with("RAP_PASSWORD", "correct horse battery staple");
    let words = ["setup", "--control", &url, "--ca", &ca, "--user", "root", "--code", &code];
    person.rap(&words).ok();
    // Two in a row: however slow the first was, the second finds an empty bucket.
    let said = person.rap(&["status", "-o", "json"]).ok();
    assert!(said.contains("\"user\": \"root\""), "{said}");
    person.rap(&["status", "--check"]).ok();
    assert_ne!(limited(&person, &running).await, "0");
    drop(stop);
    running.stopped().await.unwrap();
}
