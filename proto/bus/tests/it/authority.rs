use std::{net::SocketAddr, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rap_bus::{
    BusKey, NatsAuthority,
    nats_authority::{Revocations, ServerOptions, TlsFiles},
};
use rap_proto::Timestamp;
use serde_json::{Value, json};

use super::{CLUSTER, node};

const NOW: Timestamp = Timestamp::from_unix_millis(1_790_000_000_500);

#[test]
fn a_nodes_token_allows_its_own_subjects_and_nothing_else() {
    let key = BusKey::from_random([3; 32]);
    let later = Timestamp::from_unix_millis(1_790_000_060_500);
    let jwt = authority().node_jwt(node(1), &key.public(), NOW, later).unwrap();
    let claims = claims(&jwt);
    let own = |what: &str| format!("rap.{CLUSTER}.node.{}.{what}", node(1));
    let inbox = format!("_INBOX_{}.>", node(1));
    assert_eq!(claims["nats"]["pub"], json!({ "allow": [own("up"), inbox] }));
    assert_eq!(claims["nats"]["sub"], json!({ "allow": [own("down"), inbox] }));
    assert_eq!(claims["sub"], key.public());
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_790_000_000), &json!(1_790_000_061)));
}

#[test]
fn an_account_denies_by_default_and_names_the_revoked() {
    let revoked = Revocations::from([("UABC".to_owned(), NOW)]);
    let claims = claims(&authority().account_jwt(&revoked, NOW));
    assert_eq!(claims["nats"]["revocations"], json!({ "UABC": 1_790_000_000 }));
    let denied = json!({ "pub": { "deny": [">"] }, "sub": { "deny": [">"] } });
    assert_eq!(claims["nats"]["default_permissions"], denied);
    assert_eq!(claims["nats"]["limits"]["conn"], -1, "an absent limit would be zero");
}

#[test]
fn only_a_users_key_gets_a_node_token() {
    let account = nkeys::KeyPair::new_account().public_key();
    for key in ["", "U", "UABC", &account, &BusKey::from_random([1; 32]).seed()] {
        assert!(authority().node_jwt(node(1), key, NOW, NOW).is_err(), "{key}");
    }
    assert!(BusKey::from_seed(&nkeys::KeyPair::new_account().seed().unwrap()).is_err());
}

#[test]
fn a_secret_yields_its_keys_again_and_shows_in_no_debug_text() {
    let key = BusKey::from_random([3; 32]);
    assert_eq!(BusKey::from_seed(&key.seed()).unwrap().public(), key.public());
    let (one, other) = (authority(), authority());
    assert_eq!(
        one.account_jwt(&Revocations::new(), NOW),
        other.account_jwt(&Revocations::new(), NOW)
    );
    let credentials = one.control_credentials(NOW);
    let shown = format!("{one:?} {key:?} {credentials:?}");
    assert!(!shown.contains(&*credentials.key.seed()), "{shown}");
    assert!(!shown.contains(&*key.seed()));
}

#[test]
fn paths_that_could_change_the_configuration_are_refused() {
    let config = |path: &str, tls| {
        let listen = SocketAddr::from(([127, 0, 0, 1], 4222));
        let options = ServerOptions { listen, accounts: PathBuf::from(path), tls };
        authority().server_config(&options, &Revocations::new(), NOW)
    };
    let text = config("/var/lib/nats/accounts", None).unwrap();
    assert!(text.contains("port: 4222") && !text.contains("tls"));
    for path in ["/a\"b", "/a\nport: 1", "/a\\b", "/a$HOME", "/a{b"] {
        assert!(config(path, None).is_err(), "{path}");
        let tls = TlsFiles { certificates: path.into(), key: "/k".into() };
        assert!(config("/a", Some(tls)).is_err(), "{path}");
    }
}

fn authority() -> NatsAuthority {
    NatsAuthority::derive(CLUSTER, &[9; 32])
}

fn claims(jwt: &str) -> Value {
    let body = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}
