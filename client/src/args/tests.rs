#![allow(clippy::unwrap_used)]

use std::time::Duration;

use clap::CommandFactory as _;
use rap_proto::{NodeRole, Timestamp};

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

fn parse(line: &str) -> Result<Cli, String> {
    let words = std::iter::once("rap").chain(line.split_whitespace());
    Cli::try_parse_from(words).map_err(|error| error.to_string())
}

#[test]
fn what_the_guide_says_parses() {
    let lines = [
        "login --control https://control.example --ca sha256:0000000000000000000000000000000000000000000000000000000000000000 --user alice",
        "logout",
        "setup --user owner --code rapsetup_x",
        "ls -o json",
        "ssh demo-ssh -- uname -a",
        "ssh root@demo-ssh -L 1:localhost:2 -t",
        "proxy demo-ssh.rap",
        "ssh-config --offline",
        "connect demo-web --listen 127.0.0.1:8088",
        "connect camera --lane media",
        "status --check",
        "sessions ls --all",
        "org create acme --owner alice",
        "org set-member acme alice organization_user",
        "user create alice --password-stdin",
        "node roles office-1 stream-worker@acme,beta entry-node",
        "node renew",
        "node drain office-1",
        "node revoke office-1 --reason lost",
        "pool create office --organization acme",
        "resource create wiki --kind web --target 10.1.2.3:80 --pool office",
        "resource set wiki --target [fd00::1]:80 --allow-local",
        "policy create builders --user alice --resource build-1",
        "policy write office-hours office-hours.yaml",
        "can alice reach build-1 --at sun-03 --as-of 120",
        "can alice do resource.change --on build-1",
        "org quota acme --nodes 5 --sessions 10 --events-per-second 20",
        "bandwidth ls",
        "bandwidth set --cap 20mbit",
        "bandwidth set --lane interactive --reserved 2mbit",
        "bandwidth set --lane media --cap 50mbit",
        "bandwidth set --each session --while-interactive --cap 1mbit",
        "bandwidth set --granted --cap 100mbit --organization acme",
        "bandwidth set --node edge-1 --cap 1gbit",
        "bandwidth rm --user alice --kind web",
        "carriers ls",
        "carriers set --lane bulk tcp-only",
        "carriers rm --lane bulk --organization acme",
        "carriers ls --platform",
        "carriers set --platform --lane bulk tcp-only",
        "carriers rm --platform --lane bulk",
        "paths get --platform",
        "paths set --platform --direct forbidden --audit",
        "paths set --platform --direct when_better",
        "paths set --platform --direct allowed",
        "stale get --platform",
        "stale set --platform --policy stop",
        "stale set --platform --policy keep_sessions",
        "mesh get --platform",
        "mesh set --platform --kind normal --active 4..8 --warm 12",
        "mesh set --platform --class bulk bandwidth=40 latency=2",
        "mesh rm --platform --kind normal",
        "mesh rm --platform --class bulk",
        "resource set wiki --label env=prod --label team=core",
        "resource set wiki --no-labels",
        "resource carry wiki --connection branch",
        "resource carry wiki --none",
        "token join create --role entry-node --ttl 10m --auto-approve",
        "token api create backup --scope connect --scope read --ttl 30d",
        "audit log --since 15m --follow",
        "completions bash",
    ];
    for line in lines {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lines = [
        "",
        "ssh",
        "ssh Build_1",
        "ssh -oProxyCommand=evil",
        "ssh @name",
        "login --control http://control.example",
        "login --control https://user@control.example",
        "login --control https://control.example/path",
        "login --ca sha256:12",
        "resource carry wiki",
        "resource carry wiki --connection branch --none",
        "bandwidth set --user alice",
        "bandwidth set --cap 20",
        "carriers set tcp",
        "carriers set --lane bulk udp",
        "paths set --platform --audit",
        "paths set --platform --direct never",
        "paths set --direct allowed",
        "stale set --platform",
        "stale set --policy stop",
        "stale set --platform --policy never",
        "paths get",
        "mesh get",
        "mesh set --platform",
        "mesh set --platform --active 4..8",
        "mesh set --platform --kind normal",
        "mesh set --platform --kind vast --active 4..8",
        "mesh set --platform --kind normal --active 4",
        "mesh set --platform --class bulk",
        "mesh set --platform --class bulk colour=4",
        "mesh set --platform --class bulk latency=-1",
        "mesh set --platform latency=4",
        "mesh set --platform --kind normal --class bulk latency=4",
        "mesh rm --platform",
        "mesh rm --platform --kind thin --class bulk",
        "mesh rm --kind thin",
        "bandwidth set --granted --user alice --cap 1mbit",
        "bandwidth set --node edge-1 --reserved 1mbit",
        "policy create p --user alice",
        "policy create p --resource r",
        "node roles office-1",
        "node roles office-1 stream-master",
        "resource create r --kind ssh --target host --pool p",
        "resource create r --kind ssh --target fd00::1:22 --pool p",
        "audit log --since yesterday",
        "audit log --until 1h --follow",
    ];
    for line in lines {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn control_urls_get_their_port() {
    let check = |text: &str, expected: &str| {
        assert_eq!(text.parse::<ControlUrl>().unwrap().to_string(), expected);
    };
    check("https://control.example", "https://control.example:8443");
    check("https://control.example/", "https://control.example:8443");
    check("https://control.example:443", "https://control.example:443");
    check("https://[::1]:9000", "https://[::1]:9000");
}

#[test]
fn times_and_spans() {
    assert_eq!("15m".parse(), Ok(Span(Duration::from_secs(900))));
    assert_eq!("2d".parse(), Ok(Span(Duration::from_secs(172_800))));
    for bad in ["", "m", "15", "1.5h", "-1s", "9999999999s", "1é"] {
        assert!(bad.parse::<Span>().is_err(), "{bad}");
    }
    let now = Timestamp::from_unix_millis(1_000_000);
    assert_eq!("10s".parse::<When>().unwrap().resolve(now), Timestamp::from_unix_millis(990_000));
    let at: Timestamp = "2026-11-23T08:30:00Z".parse().unwrap();
    assert_eq!("2026-11-23T08:30:00Z".parse::<When>().unwrap().resolve(now), at);
}

#[test]
fn roles_with_and_without_organizations() {
    let role: RoleArgument = "stream-worker@acme,beta".parse().unwrap();
    assert_eq!(role.role, NodeRole::StreamWorker);
    assert_eq!(role.organizations.len(), 2);
    assert!("entry-node".parse::<RoleArgument>().unwrap().organizations.is_empty());
    assert!("entry-node@".parse::<RoleArgument>().is_err());
}
