#![allow(clippy::unwrap_used)]

use rap_proto::{ResourceKind, VpnConnectionId, snapshot::Target};

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::given,
        samples::{ACME, POOL, name, resource_created, target},
    },
};

fn created() -> ResourceEvent {
    resource_created().into()
}

fn create(target: Target) -> ResourceCommand {
    ResourceCommand::Create {
        organization: ACME,
        name: name("demo-ssh"),
        kind: ResourceKind::Ssh,
        target,
        pool: POOL,
    }
}

fn change(kind: ResourceKind, target: Target) -> ResourceCommand {
    ResourceCommand::Change { kind, target, pool: POOL }
}

fn at(host: &str, port: u16) -> Target {
    Target { host: host.to_owned(), port, allow_local: false }
}

#[test]
fn a_resource_is_created_once() {
    let state = given::<Resource>([]).when(create(target())).then([created()]);
    assert_eq!(state.organization(), Some(ACME));
    for events in [vec![created()], vec![created(), ResourceRemoved {}.into()]] {
        given::<Resource>(events).when(create(target())).rejected(ResourceRejection::AlreadyExists);
    }
}

#[test]
fn a_host_is_a_dns_name_or_an_address() {
    let longest = format!("{}.{}", vec!["a".repeat(62); 4].join("."), "b");
    assert_eq!(longest.len(), MAX_HOST_BYTES);
    for host in ["web", "a.b-c.example", "_db.zone", "192.0.2.1", "2001:db8::1", &longest] {
        let expected = ResourceCreated { target: at(host, 22), ..resource_created() };
        given::<Resource>([]).when(create(at(host, 22))).then([expected.into()]);
    }
    let too_long = format!("{longest}b");
    for host in [
        "",
        ".",
        "a..b",
        "a.",
        "-a",
        "a-",
        "a b",
        "a/b",
        "a\nb",
        "a\"b",
        "ü.example",
        "[::1]",
        "192.0.2.1:22",
        "2130706433",
        "0x7f000001",
        "127.1",
        &too_long,
        &"a".repeat(64),
    ] {
        given::<Resource>([]).when(create(at(host, 22))).rejected(ResourceRejection::HostInvalid);
    }
    given::<Resource>([]).when(create(at("web", 0))).rejected(ResourceRejection::PortInvalid);
}

#[test]
fn a_resource_is_changed() {
    let (ssh, tcp) = (ResourceKind::Ssh, ResourceKind::Tcp);
    let changed = ResourceChanged { kind: tcp, target: at("db", 5432), pool: POOL };
    let state =
        given::<Resource>([created()]).when(change(tcp, at("db", 5432))).then([changed.into()]);
    assert_eq!(state.created.unwrap().target, at("db", 5432));
    given::<Resource>([created()]).when(change(ssh, target())).nothing();
    given::<Resource>([created()])
        .when(change(ssh, at("a b", 22)))
        .rejected(ResourceRejection::HostInvalid);
    for events in [vec![], vec![created(), ResourceRemoved {}.into()]] {
        given::<Resource>(events).when(change(ssh, target())).rejected(ResourceRejection::NotFound);
    }
}

#[test]
fn a_resource_is_removed_once() {
    let removed: ResourceEvent = ResourceRemoved {}.into();
    let remove = ResourceCommand::Remove;
    given::<Resource>([]).when(remove.clone()).rejected(ResourceRejection::NotFound);
    given::<Resource>([created()]).when(remove.clone()).then([removed.clone()]);
    given::<Resource>([created(), removed]).when(remove).nothing();
}

#[test]
fn labels_are_replaced_as_a_whole_and_bounded() {
    let labels = |count: usize| {
        let label = |n: usize| (name(&format!("key-{n}")), name("value"));
        (0..count).map(label).collect::<std::collections::BTreeMap<_, _>>()
    };
    let label = |count| ResourceCommand::Label { labels: labels(count) };
    let labelled = |count| ResourceEvent::from(ResourceLabelled { labels: labels(count) });
    given::<Resource>([created()]).when(label(0)).nothing();
    let state = given::<Resource>([created()]).when(label(MAX_LABELS)).then([labelled(MAX_LABELS)]);
    assert_eq!(state.labels.len(), MAX_LABELS);
    given::<Resource>([created(), labelled(2)]).when(label(2)).nothing();
    given::<Resource>([created(), labelled(2)]).when(label(1)).then([labelled(1)]);
    let over = label(MAX_LABELS + 1);
    given::<Resource>([created()]).when(over).rejected(ResourceRejection::TooManyLabels);
    for events in [vec![], vec![created(), ResourceRemoved {}.into()]] {
        given::<Resource>(events).when(label(1)).rejected(ResourceRejection::NotFound);
    }
}

#[test]
fn a_resource_is_carried_by_one_connection_or_by_none() {
    let connection = |id| Some(VpnConnectionId::from_u128(id));
    let carry = |connection| ResourceCommand::Carry { connection };
    let carried = |connection| ResourceEvent::from(ResourceCarried { connection });
    given::<Resource>([created()]).when(carry(None)).nothing();
    let state =
        given::<Resource>([created()]).when(carry(connection(1))).then([carried(connection(1))]);
    assert_eq!(state.carried, connection(1));
    let on_one = || given::<Resource>([created(), carried(connection(1))]);
    on_one().when(carry(connection(1))).nothing();
    on_one().when(carry(connection(2))).then([carried(connection(2))]);
    assert_eq!(on_one().when(carry(None)).then([carried(None)]).carried, None);
    for events in [vec![], vec![created(), ResourceRemoved {}.into()]] {
        let rejected = ResourceRejection::NotFound;
        given::<Resource>(events).when(carry(connection(1))).rejected(rejected);
    }
}
