//! `rap` where the server that somebody logged in at is lost.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
};

use rap_bus::LocalBus;
use rap_control::{BusChoice, ControlOptions, Limits, LogChoice, serve};
use rap_events::MemoryLog;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::program::Person;

/// Nobody listens there.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_login_goes_on_at_another_server_when_its_own_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (here, lost) = (free(), free());
    let [url, lost] = [here, lost].map(|address| format!("https://{address}"));
    let options = ControlOptions {
        listen: here,
        metrics: None,
        state_dir: folder.path().join("control"),
        log: LogChoice::Local(Arc::new(MemoryLog::default())),
        bus: BusChoice::Local(Arc::new(LocalBus::new())),
        names: vec!["127.0.0.1".to_owned()],
        servers: [&lost, &url].map(|url| url.parse().unwrap()).into(),
        workers: 1,
        limits: Limits::default(),
    };
    let shutdown = async move {
        let _ = stopped.await;
    };
    let running = serve(options, shutdown).await.unwrap();
    let ca = format!("sha256:{}", running.ca_fingerprint);
    let code = running.setup_code.as_ref().unwrap().reveal();
    let person = Person::new().with("RAP_PASSWORD", "correct horse battery staple");
    let words = ["setup", "--control", &url, "--ca", &ca, "--user", "root", "--code", &code];
    person.rap(&words).ok();

    // As if it had been made at the one that is lost.
    let path = person.home().join("profiles").join("default.json");
    let mut profile: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut told = [&lost, &url];
    told.sort();
    assert_eq!((&profile["control"], &profile["servers"]), (&json!(url), &json!(told)));
    profile["control"] = json!(lost);
    fs::write(&path, profile.to_string()).unwrap();
    let status: Value = serde_json::from_str(&person.rap(&["status", "-o", "json"]).ok()).unwrap();
    assert_eq!((&status["control"], &status["servers"]), (&json!(url), &json!(2)), "{status}");
    person.rap(&["org", "create", "acme", "--owner", "root"]).ok();
    let said = person.rap(&["org", "ls", "--control", &lost]).fails(7);
    assert!(said.contains(&lost), "who names one server means that one: {said}");
    person.rap(&["org", "ls", "--control", &url]).ok();
    let said = person.rap(&["org", "ls", "--control", "https://127.0.0.1:1"]).fails(3);
    assert!(said.contains("not at https://127.0.0.1:1"), "{said}");

    // A login of before knows the one that it was made at.
    let mut before = profile.clone();
    before.as_object_mut().unwrap().remove("servers");
    fs::write(&path, before.to_string()).unwrap();
    assert!(person.rap(&["org", "ls"]).fails(7).contains(&lost));

    // Whoever logs in again begins at the one that answers.
    fs::write(&path, profile.to_string()).unwrap();
    let said = person.rap(&["login"]).ok();
    let profile: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(profile["control"], json!(url), "{said}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(stop);
    running.stopped().await.unwrap();
}
