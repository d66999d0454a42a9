//! What the program says when there is nobody to speak to.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use crate::program::Person;

const CA: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn without_a_login_the_way_to_one_is_shown() {
    let said = Person::new().rap(&["ls"]).fails(3);
    assert_eq!(
        said,
        "rap: you are not logged in\n     log in: rap login --control URL --ca sha256:… --user NAME\n"
    );
    Person::new().rap(&["ssh", "build-1"]).fails(3);
    Person::new().rap(&["proxy", "build-1.rap"]).fails(3);
}

#[test]
fn status_check_is_silent() {
    let run = Person::new().rap(&["status", "--check"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (1, "", ""));
}

#[test]
fn a_login_needs_a_control_plane_and_its_ca() {
    let person = Person::new().with("RAP_PASSWORD", "x");
    let said = person.rap(&["login", "--user", "alice"]).fails(2);
    assert!(said.contains("--control"), "{said}");
    let words = ["login", "--user", "alice", "--control", "https://control.example"];
    let said = person.rap(&words).fails(2);
    assert!(said.contains("--ca"), "{said}");
}

#[test]
fn a_control_plane_that_is_away_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let person = Person::new().with("RAP_PASSWORD", "canary-password");
    let words = ["login", "--user", "alice", "--control", &url, "--ca", CA];
    let said = person.rap(&words).fails(7);
    assert!(said.contains("control plane") && said.contains("refused"), "{said}");
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_files() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let person = Person::new().with("RAP_PASSWORD", "x");
    fs::create_dir_all(person.home()).unwrap();
    let file = format!("control = 'https://127.0.0.1:1'\nca = '{CA}'\n");
    fs::write(person.home().join("config.toml"), file).unwrap();
    let said = person.rap(&["login", "--user", "alice"]).fails(7);
    assert!(said.contains("https://127.0.0.1:1 "), "{said}");
    let person = person.with("RAP_CONTROL", "https://127.0.0.1:2");
    let said = person.rap(&["login", "--user", "alice"]).fails(7);
    assert!(said.contains("https://127.0.0.1:2 "), "{said}");
    let said = person.rap(&["login", "--user", "alice", "--control", &closed]).fails(7);
    assert!(said.contains(&closed), "{said}");
}

#[test]
fn a_wrong_configuration_file_is_named() {
    let person = Person::new();
    fs::create_dir_all(person.home()).unwrap();
    fs::write(person.home().join("config.toml"), "contrl = 'x'\n").unwrap();
    let said = person.rap(&["ls"]).fails(2);
    assert!(said.contains("config.toml") && said.contains("contrl"), "{said}");
}

#[test]
fn a_login_that_others_can_read_is_refused() {
    let person = Person::new();
    let profiles = person.home().join("profiles");
    fs::create_dir_all(&profiles).unwrap();
    let path = profiles.join("default.json");
    fs::write(&path, "{}").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let said = person.rap(&["ls"]).fails(2);
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn the_ssh_block_can_be_made_without_a_login() {
    let person = Person::new();
    fs::create_dir_all(person.home()).unwrap();
    let file = "[ssh.build-1]\nuser = 'root'\nidentity = '/keys/a b'\n";
    fs::write(person.home().join("config.toml"), file).unwrap();
    let block = person.rap(&["ssh-config", "--offline"]).ok();
    for line in [
        "Host build-1.rap build-1.bulk.rap",
        "    User root",
        "    IdentityFile \"/keys/a b\"",
        "Host *.bulk.rap",
        "Host *.rap",
        "    StrictHostKeyChecking accept-new",
    ] {
        assert!(block.lines().any(|found| found == line), "no {line:?} in\n{block}");
    }
    // ssh takes the first that matches, and what ends in .bulk.rap ends in .rap too.
    let proxies: Vec<&str> = block.lines().filter(|line| line.contains("ProxyCommand")).collect();
    let ends = [" proxy --lane bulk %h", " proxy %h"];
    assert_eq!(proxies.len(), ends.len(), "{block}");
    for (proxy, end) in proxies.iter().zip(ends) {
        assert!(proxy.ends_with(end) && proxy.contains("RAP_HOME="), "{proxy}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let person = Person::new();
    for words in [&["connect"][..], &["ls", "--nonsense"], &["login", "--control", "ftp://x"]] {
        let said = person.rap(words).fails(2);
        assert!(said.contains("--help"), "{said}");
    }
}
