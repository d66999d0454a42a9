//! The program itself: its words, its exit codes, its signals.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::control::{Control, PATIENCE, free_port, token};

fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap-node-agent"));
    command.env_clear().current_dir(directory);
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_host_joins_and_runs_by_the_program() {
    multi().block_on(async {
        let control = Control::start().await;
        let options = control.join_options();
        let (address, state_dir) = (control.address(), control.state_dir());
        let directory = state_dir.parent().unwrap().to_owned();
        let listen = free_port();
        let join = {
            let (directory, state_dir) = (directory.clone(), state_dir.clone());
            tokio::task::spawn_blocking(move || {
                let mut join = program(&directory);
                join.args(["join", "--control", &format!("https://{address}")]);
                join.args(["--ca", &format!("sha256:{}", options.ca)]);
                join.args(["--name", "edge-1", "--listen", &listen.to_string()]);
                join.arg("--state-dir").arg(&state_dir);
                join.env("RAP_NODE_TOKEN", token().reveal());
                output(&mut join)
            })
        };
        let joined = join.await.unwrap();
        assert!(joined.status.success(), "{}", text(&joined.stderr));
        let said = text(&joined.stdout) + &text(&joined.stderr);
        assert!(said.contains(&control.node().to_string()) && !said.contains("rapj_"), "{said}");

        let manager = UnixDatagram::bind(directory.join("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        // As under a shell with a lower soft limit than the hard one.
        let mut run = Command::new("/bin/sh");
        run.env_clear().current_dir(&directory);
        run.args(["-c", "ulimit -Sn 64 && exec \"$0\" \"$@\""]);
        run.arg(env!("CARGO_BIN_EXE_rap-node-agent"));
        run.args(["run", "--listen", &listen.to_string(), "--state-dir"]).arg(&state_dir);
        run.env("NOTIFY_SOCKET", directory.join("notify")).env("WATCHDOG_USEC", "400000");
        let mut agent = run.stderr(Stdio::null()).spawn().unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let mut heard = String::new();
            let id = agent.id();
            while !(heard.contains("READY=1") && heard.contains("WATCHDOG=1")) {
                heard += &receive(&manager);
            }
            let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
            let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
            let [soft, hard] = [3, 4].map(|column| line.split_whitespace().nth(column).unwrap());
            assert!(soft == hard && soft != "64", "{line}");
            let ask = |arguments: &[&str]| {
                let mut ask = program(&directory);
                output(ask.args(arguments).arg("--state-dir").arg(&state_dir))
            };
            let shown = ask(&["status", "-o", "json"]);
            assert!(shown.status.success(), "{}", text(&shown.stderr));
            let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
            assert_eq!(shown["name"], "edge-1");
            assert!(text(&ask(&["status"]).stdout).contains("edge-1"));
            let check = ask(&["status", "--check"]);
            assert_eq!(check.status.code(), Some(1), "it has no snapshot yet");
            assert!(check.stdout.is_empty() && check.stderr.is_empty());
            let id = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
            rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
            while !heard.contains("STOPPING=1") {
                heard += &receive(&manager);
            }
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(status) = agent.try_wait().unwrap() {
                    break assert!(status.success(), "{status}");
                }
                assert!(Instant::now() < deadline, "it did not end");
                // The end of a child has no event that the standard library waits for with a limit.
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        heard.await.unwrap();
    });
}

fn receive(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).unwrap();
    text(&buffer[..length])
}

#[test]
fn what_is_nearer_wins_and_mistakes_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let file = root.join("agent.toml");
    fs::write(&file, "state_dir = \"/from/file\"\nlisten = \"10.0.0.1:1\"\nlog = \"warn\"")
        .unwrap();
    let mut check = program(root);
    check.arg("check-config").arg("--config").arg(&file).arg("--listen").arg("10.0.0.3:3");
    check.env("RAP_NODE_LISTEN", "10.0.0.2:2").env("RAP_NODE_STATE_DIR", "/from/environment");
    check.arg("--worker").arg(env!("CARGO_BIN_EXE_rap-node-agent"));
    let checked = output(&mut check);
    let shown = text(&checked.stdout);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    for value in ["10.0.0.3:3", "/from/environment", "warn"] {
        assert!(shown.contains(value), "{shown}");
    }
    fs::write(&file, "state_dir = \"/x; rm -rf /\"").unwrap();
    let wrong = output(program(root).arg("check-config").arg("--config").arg(&file));
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("state_dir"), "{}", text(&wrong.stderr));
    let missing = output(program(root).args(["check-config", "--config", "/nonexistent.toml"]));
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn join_lines_keep_to_their_alphabets() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let digits = "ab".repeat(32);
    let try_with = |control: &str, ca: &str, token: &str, name: &str| {
        let mut join = program(root);
        join.args(["join", "--control", control, "--ca", ca, "--token", token, "--name", name]);
        join.arg("--state-dir").arg(root.join("node"));
        output(&mut join)
    };
    let (control, ca, secret) =
        ("https://127.0.0.1:9", format!("sha256:{digits}"), token().reveal());
    let wrong = [
        try_with("https://host/$(id)", &ca, &secret, "edge"),
        try_with("http://host", &ca, &secret, "edge"),
        try_with(control, &digits, &secret, "edge"),
        try_with(control, &ca, &format!("{secret};id"), "edge"),
        try_with(control, &ca, "rapa_x", "edge"),
        try_with(control, &ca, &secret, "edge\r\nx"),
        try_with(control, &ca, &secret, "Edge_1"),
    ];
    for output in wrong {
        assert!(!output.status.success());
        assert!(!text(&output.stderr).contains(&secret), "a secret is not repeated");
    }
    assert!(!root.join("node").exists(), "nothing was made");
}
