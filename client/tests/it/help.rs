//! The help texts, frozen. `RAP_UPDATE_GOLDEN=1 cargo test -p rap help` writes them anew.

use std::{fs, path::PathBuf};

use crate::program::Person;

fn check(name: &str, words: &[&str]) {
    let text = Person::new().rap(words).ok();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; RAP_UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[test]
fn the_programs_help_lists_commands_exit_codes_and_configuration() {
    check("help.txt", &["--help"]);
}

#[test]
fn commands_teach_with_examples() {
    for command in ["login", "ssh", "connect", "ssh-config"] {
        check(&format!("{command}.txt"), &[command, "--help"]);
    }
    check("policy-create.txt", &["policy", "create", "--help"]);
    check("token-join-create.txt", &["token", "join", "create", "--help"]);
}

#[test]
fn every_command_has_help() {
    let nouns =
        ["org", "user", "node", "pool", "resource", "policy", "vpn", "token", "audit", "sessions"];
    for noun in nouns {
        let text = Person::new().rap(&[noun, "--help"]).ok();
        assert!(text.contains("Usage: rap"), "{noun}: {text}");
        let verb = if ["token", "audit"].contains(&noun) { continue } else { "ls" };
        assert!(text.contains(&format!("\n  {verb} ")), "{noun}: {text}");
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for (shell, sign) in
        [("bash", "complete -F _rap"), ("zsh", "#compdef rap"), ("fish", "complete -c rap")]
    {
        let text = Person::new().rap(&["completions", shell]).ok();
        assert!(text.contains(sign), "{shell}");
    }
}
