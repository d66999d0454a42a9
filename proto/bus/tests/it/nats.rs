use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use rap_bus::{
    AccountUpdateError, Bus as _, BusError, BusKey, NatsAuthority, NatsBus, NatsCredentials,
    NatsOptions, conformance,
    nats_authority::{Revocations, ServerOptions, TlsFiles, node_inbox_prefix},
    private::PrivateNats,
    update_account,
};
use rap_pki::{ClusterAuthority, pem, tls};
use rap_proto::{Signer as _, Timestamp, bus, key::LocalKey};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::{CLUSTER, node, now};

const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn conforms() {
    let server = Server::start().await;
    let nodes =
        [(node(1), server.node(1).await as Arc<_>), (node(2), server.node(2).await as Arc<_>)];
    let control = server.control().await;
    conformance::check(&conformance::Parties { cluster: CLUSTER, control, nodes }).await;
}

#[tokio::test]
async fn a_node_reaches_no_foreign_subject() {
    let server = Server::start().await;
    let (control, own, other) =
        (server.control().await, server.node(1).await, server.node(2).await);
    let mut up = control.subscribe(bus::all_up_subjects(CLUSTER)).await.unwrap();
    let mut down = other.subscribe(bus::down_subject(CLUSTER, node(2))).await.unwrap();

    let foreign = [bus::up_subject(CLUSTER, node(2)), bus::down_subject(CLUSTER, node(2))];
    for subject in foreign.clone() {
        own.publish(subject, Bytes::from_static(b"forged")).await.unwrap();
    }
    let mut overheard = Vec::new();
    let wildcards = [bus::all_up_subjects(CLUSTER), ">".to_owned(), "_INBOX.>".to_owned()];
    for subject in foreign.into_iter().chain(wildcards) {
        overheard.push(own.subscribe(subject).await.unwrap());
    }
    other.publish(bus::up_subject(CLUSTER, node(2)), Bytes::from_static(b"genuine")).await.unwrap();
    control
        .publish(bus::down_subject(CLUSTER, node(2)), Bytes::from_static(b"genuine"))
        .await
        .unwrap();

    for subscription in [&mut up, &mut down] {
        assert_eq!(next(subscription).await, "genuine");
    }
    // The server deals with one connection's messages in order, so that whatever it would let
    // through to `own` would have come before this.
    let mut last = own.subscribe(bus::down_subject(CLUSTER, node(1))).await.unwrap();
    control.publish(bus::down_subject(CLUSTER, node(1)), Bytes::from_static(b"end")).await.unwrap();
    assert_eq!(next(&mut last).await, "end");
    for subscription in &mut overheard {
        let heard = timeout(Duration::from_millis(50), subscription.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
    assert_eq!(own.violations(), 7);
    assert_eq!(control.violations() + other.violations(), 0);
}

#[tokio::test]
async fn control_cannot_pose_as_a_node() {
    let server = Server::start().await;
    let control = server.control().await;
    let mut up = control.subscribe(bus::all_up_subjects(CLUSTER)).await.unwrap();
    control.publish(bus::up_subject(CLUSTER, node(1)), Bytes::from_static(b"x")).await.unwrap();
    let own = server.node(1).await;
    own.publish(bus::up_subject(CLUSTER, node(1)), Bytes::from_static(b"genuine")).await.unwrap();
    assert_eq!(next(&mut up).await, "genuine");
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_and_stays_out() {
    let mut server = Server::start().await;
    let (victim, bystander) = (server.node(1).await, server.node(2).await);
    let mut states = victim.connected();
    let revoked = Revocations::from([(bus_key(1).public(), now())]);
    server.update(&revoked).await.unwrap();

    timeout(PATIENCE, states.wait_for(|connected| !connected)).await.unwrap().unwrap();
    let subject = bus::up_subject(CLUSTER, node(1));
    assert_eq!(victim.publish(subject, Bytes::new()).await, Err(BusError::Disconnected));
    assert!(*bystander.connected().borrow());
    assert!(server.try_node(1, now() - HOUR, now() + HOUR).await.is_err());

    // The server's own folder keeps the revocation, even under an older configuration.
    server.nats.restart().await.unwrap();
    bystander.wait_connected(PATIENCE).await.unwrap();
    assert!(server.try_node(1, now() - HOUR, now() + HOUR).await.is_err());
}

#[tokio::test]
async fn account_updates_are_for_the_system_user_alone() {
    let server = Server::start().await;
    let options = server.options(server.authority.system_credentials(now()));
    let refused = update_account(options, "rubbish".to_owned()).await;
    assert!(matches!(refused, Err(AccountUpdateError::Refused(_))), "{refused:?}");

    let foreign = NatsAuthority::derive(CLUSTER, &[1; 32]);
    let jwt = server.authority.account_jwt(&Revocations::new(), now());
    let options = server.options(foreign.system_credentials(now()));
    let unreachable = update_account(options, jwt.clone()).await;
    assert!(matches!(unreachable, Err(AccountUpdateError::Unreachable)), "{unreachable:?}");
    let options = server.options(server.authority.control_credentials(now()));
    let unreachable = update_account(options, jwt).await;
    assert!(matches!(unreachable, Err(AccountUpdateError::Unreachable)), "{unreachable:?}");
}

#[tokio::test]
async fn only_a_current_token_with_its_own_key_connects() {
    let server = Server::start().await;
    let jwt = |authority: &NatsAuthority, expires_at| {
        authority.node_jwt(node(1), &bus_key(1).public(), now() - HOUR, expires_at).unwrap()
    };
    let foreign = NatsAuthority::derive(CLUSTER, &[1; 32]);
    for (jwt, key) in [
        (jwt(&server.authority, now() + HOUR), bus_key(2)),
        (jwt(&server.authority, now() - Duration::from_secs(10)), bus_key(1)),
        (jwt(&foreign, now() + HOUR), bus_key(1)),
        ("rubbish".to_owned(), bus_key(1)),
    ] {
        let inbox_prefix = node_inbox_prefix(node(1));
        let bus = server.connect(NatsCredentials { jwt, key, inbox_prefix }).await;
        let refused = bus.wait_connected(Duration::from_millis(300)).await;
        assert_eq!(refused, Err(BusError::TimedOut));
    }
    assert!(server.try_node(1, now(), now() + HOUR).await.is_ok());
}

#[tokio::test]
async fn an_expired_token_is_replaced_without_a_new_bus() {
    let server = Server::start().await;
    let bus = server.try_node(1, now(), now() + Duration::from_secs(1)).await.unwrap();
    let mut states = bus.connected();
    let jwt = server.authority.node_jwt(node(1), &bus_key(1).public(), now(), now() + HOUR);
    let mut down = bus.subscribe(bus::down_subject(CLUSTER, node(1))).await.unwrap();
    bus.set_token(jwt.unwrap());
    timeout(PATIENCE, states.wait_for(|connected| !connected)).await.unwrap().unwrap();
    bus.wait_connected(PATIENCE).await.unwrap();
    let control = server.control().await;
    ring_until_heard(&control, &mut down).await;
}

#[tokio::test]
async fn it_lives_through_the_servers_death() {
    let mut server = Server::start().await;
    let (control, own) = (server.control().await, server.node(1).await);
    let mut down = own.subscribe(bus::down_subject(CLUSTER, node(1))).await.unwrap();
    let subject = bus::up_subject(CLUSTER, node(1));

    server.nats.kill().await;
    for bus in [&own, &control] {
        let mut states = bus.connected();
        timeout(PATIENCE, states.wait_for(|connected| !connected)).await.unwrap().unwrap();
    }
    let begun = Instant::now();
    for _ in 0..5000 {
        assert_eq!(own.publish(subject.clone(), Bytes::new()).await, Err(BusError::Disconnected));
    }
    assert!(begun.elapsed() < PATIENCE);
    let mut while_down =
        control.subscribe(bus::all_up_subjects(CLUSTER)).await.expect("kept for later");

    server.nats.restart().await.unwrap();
    control.wait_connected(PATIENCE).await.unwrap();
    own.wait_connected(PATIENCE).await.unwrap();
    ring_until_heard(&control, &mut down).await;
    own.publish(subject, Bytes::from_static(b"back")).await.unwrap();
    assert_eq!(next(&mut while_down).await, "back");
}

#[tokio::test]
async fn it_starts_before_its_server() {
    let mut server = Server::start().await;
    server.nats.kill().await;
    let jwt = server.authority.node_jwt(node(1), &bus_key(1).public(), now(), now() + HOUR);
    let credentials = NatsCredentials {
        jwt: jwt.unwrap(),
        key: bus_key(1),
        inbox_prefix: node_inbox_prefix(node(1)),
    };
    let bus = server.connect(credentials).await;
    let refused = bus.publish(bus::up_subject(CLUSTER, node(1)), Bytes::new()).await;
    assert_eq!(refused, Err(BusError::Disconnected));
    server.nats.restart().await.unwrap();
    bus.wait_connected(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn tls_is_verified_against_the_clusters_authority() {
    let dir = TempDir::new().unwrap();
    let (authority, key) = (NatsAuthority::derive(CLUSTER, &[9; 32]), local_key(5));
    let ca = ClusterAuthority::create(CLUSTER, &local_key(1), [1; 16], now());
    let names = ["127.0.0.1".to_owned()];
    let leaf = ca.issue_server(&names, &key.public_key(), [2; 16], now(), HOUR).unwrap();
    let (certificates, key_file) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&certificates, pem::encode([&*leaf, ca.certificate_der()])).unwrap();
    std::fs::write(&key_file, &*key.to_pem()).unwrap();
    let options = ServerOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        accounts: dir.path().join("accounts"),
        tls: Some(TlsFiles { certificates, key: key_file }),
    };
    let nats =
        PrivateNats::start_with(dir.path(), &authority, &options, &Revocations::new(), now())
            .await
            .unwrap();
    let connect = async |authorities: &ClusterAuthority| {
        let roots = tls::roots(&[authorities.certificate_der()]).unwrap();
        let options = NatsOptions {
            servers: vec![nats.url()],
            credentials: authority.control_credentials(now()),
            tls: Some(tls::client(roots, None, &[]).unwrap()),
        };
        let bus = NatsBus::connect(options).await.unwrap();
        bus.wait_connected(Duration::from_millis(500)).await
    };
    assert!(nats.url().starts_with("tls://"));
    connect(&ca).await.unwrap();
    let stranger = ClusterAuthority::create(CLUSTER, &local_key(2), [1; 16], now());
    assert_eq!(connect(&stranger).await, Err(BusError::TimedOut));
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let credentials = NatsAuthority::derive(CLUSTER, &[9; 32]).control_credentials(now());
    let options = NatsOptions { servers: vec!["nats://[::bad".to_owned()], credentials, tls: None };
    assert!(NatsBus::connect(options).await.is_err());
}

struct Server {
    authority: NatsAuthority,
    nats: PrivateNats,
    _dir: TempDir,
}

impl Server {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let authority = NatsAuthority::derive(CLUSTER, &[9; 32]);
        let made = now() - HOUR * 2;
        let nats =
            PrivateNats::start(dir.path(), &authority, &Revocations::new(), made).await.unwrap();
        Self { authority, nats, _dir: dir }
    }

    async fn update(&mut self, revoked: &Revocations) -> Result<(), AccountUpdateError> {
        let jwt = self.authority.account_jwt(revoked, now());
        update_account(self.options(self.authority.system_credentials(now())), jwt).await
    }

    fn options(&self, credentials: NatsCredentials) -> NatsOptions {
        NatsOptions { servers: vec![self.nats.url()], credentials, tls: None }
    }

    async fn connect(&self, credentials: NatsCredentials) -> Arc<NatsBus> {
        Arc::new(NatsBus::connect(self.options(credentials)).await.unwrap())
    }

    async fn control(&self) -> Arc<NatsBus> {
        let bus = self.connect(self.authority.control_credentials(now())).await;
        bus.wait_connected(PATIENCE).await.unwrap();
        bus
    }

    async fn node(&self, number: u8) -> Arc<NatsBus> {
        self.try_node(number, now(), now() + HOUR).await.unwrap()
    }

    async fn try_node(
        &self,
        number: u8,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Result<Arc<NatsBus>, BusError> {
        let (node, key) = (node(number.into()), bus_key(number));
        let jwt = self.authority.node_jwt(node, &key.public(), issued, expires).unwrap();
        let inbox_prefix = node_inbox_prefix(node);
        let bus = self.connect(NatsCredentials { jwt, key, inbox_prefix }).await;
        bus.wait_connected(Duration::from_secs(1)).await?;
        Ok(bus)
    }
}

/// Rings node 1 until it hears: a reconnected client subscribes again a moment after it says
/// that it is back.
async fn ring_until_heard(control: &NatsBus, down: &mut rap_bus::Subscription) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        control
            .publish(bus::down_subject(CLUSTER, node(1)), Bytes::from_static(b"ring"))
            .await
            .unwrap();
        if timeout(Duration::from_millis(20), down.next()).await.is_ok() {
            return;
        }
    }
    panic!("not heard in time");
}

async fn next(subscription: &mut rap_bus::Subscription) -> Bytes {
    timeout(PATIENCE, subscription.next()).await.unwrap().unwrap().payload
}

fn bus_key(number: u8) -> BusKey {
    BusKey::from_random([number; 32])
}

fn local_key(number: u8) -> LocalKey {
    LocalKey::from_random(&[number; 32]).unwrap()
}
