#![allow(clippy::unwrap_used)]

use super::*;

fn check(addresses: &[&str], allow_local: bool, expected: bool) {
    for text in addresses {
        let result = check_address(text.parse().unwrap(), allow_local);
        let expected = if expected { Ok(()) } else { Err(RefusalCode::AddressNotAllowed) };
        assert_eq!(result, expected, "{text} with allow_local {allow_local}");
    }
}

const ORDINARY: &[&str] = &[
    "10.0.0.1",
    "192.168.1.20",
    "172.16.3.4",
    "100.64.0.9",
    "203.0.113.7",
    "223.255.255.255",
    "2001:db8::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:0a00:0001::1",
];

const LOCAL: &[&str] = &[
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "::1",
    "fe80::1",
    "febf::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "::ffff:169.254.7.7",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:101",
    "2002:7f00:1::",
    // Teredo of 127.0.0.1.
    "2001:0:0:0:0:0:80ff:fffe",
];

const NEVER: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "::",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:0.0.0.0",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::10.0.0.1",
    "2002:a9fe:a9fe::1",
    "::ffff:255.255.255.255",
];

#[test]
fn ordinary_addresses_are_dialled() {
    check(ORDINARY, false, true);
    check(ORDINARY, true, true);
}

#[test]
fn local_addresses_need_the_resources_leave() {
    check(LOCAL, false, false);
    check(LOCAL, true, true);
}

#[test]
fn some_addresses_are_never_dialled() {
    check(NEVER, false, false);
    check(NEVER, true, false);
}

#[test]
fn hosts_are_names_or_addresses_and_nothing_else() {
    for host in ["a", "db-1.internal", "_srv.example", "10.0.0.1", "::1", "fd00::5", "EXAMPLE.com"]
    {
        assert_eq!(check_host(host), Ok(()), "{host}");
    }
    let long = "a".repeat(MAX_HOST_BYTES + 1);
    let bad = [
        "",
        " ",
        "a b",
        "a\r\nb",
        "a/b",
        "user@host",
        "fe80::1%eth0",
        "host:22",
        "-a",
        ".a",
        "$(id)",
        "ü.example",
        "[::1]",
        "a\0",
        &long,
    ];
    for host in bad {
        assert_eq!(check_host(host), Err(RefusalCode::Malformed), "{host:?}");
    }
    assert_eq!(check_host(&"a".repeat(MAX_HOST_BYTES)), Ok(()));
}
