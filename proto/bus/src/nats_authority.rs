//! Who may do what on NATS, by its decentralised authentication ([operator JWTs]).
//!
//! One secret of the control plane yields an operator, a system account, and the one account in
//! which the cluster's messages flow. A node's user token allows its own two subjects and its own
//! inbox and nothing else; every rule is an allow-list, and a token that names none is denied
//! everything. The server knows only public keys and signed tokens, so that it holds no secret.
//!
//! [operator JWTs]: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt

mod claims;
mod config;

use std::{collections::BTreeMap, fmt};

use nkeys::{KeyPair, KeyPairType};
use rap_proto::{ClusterId, Digest, NodeId, Timestamp, bus};
use zeroize::Zeroizing;

pub use config::{InvalidServerConfig, ServerOptions, TlsFiles};

/// The most revoked keys that one account token can name.
pub const MAX_REVOCATIONS: usize = 4096;

/// The issuer of every NATS token of one cluster, derived from one secret.
pub struct NatsAuthority {
    cluster: ClusterId,
    operator: KeyPair,
    system: KeyPair,
    account: KeyPair,
    control: BusKey,
    system_user: BusKey,
}

/// The key pair by which a program proves itself to NATS (Ed25519, as an NKey).
pub struct BusKey(KeyPair);

/// What it takes to connect: a user token, its key, and where replies may go.
#[derive(Debug, Clone)]
pub struct NatsCredentials {
    pub jwt: String,
    pub key: BusKey,
    pub inbox_prefix: String,
}

/// Bus keys (`U…`) whose tokens are void if issued at or before the given time.
pub type Revocations = BTreeMap<String, Timestamp>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a NATS user's key")]
pub struct InvalidBusKey;

impl NatsAuthority {
    /// The same secret always yields the same keys.
    pub fn derive(cluster: ClusterId, secret: &[u8; 32]) -> Self {
        let pair = |kind: KeyPairType, purpose: &str| {
            let digest = Digest::of_parts(&[b"rap nats", purpose.as_bytes(), secret]);
            KeyPair::new_from_raw(kind, *digest.as_bytes()).expect("any 32 bytes are a seed")
        };
        Self {
            cluster,
            operator: pair(KeyPairType::Operator, "operator"),
            system: pair(KeyPairType::Account, "system"),
            account: pair(KeyPairType::Account, "account"),
            control: BusKey(pair(KeyPairType::User, "control")),
            system_user: BusKey(pair(KeyPairType::User, "system user")),
        }
    }

    /// The token of the node that holds `bus_key`: it publishes to its up subject and listens to
    /// its down subject until `expires_at`.
    pub fn node_jwt(
        &self,
        node: NodeId,
        bus_key: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<String, InvalidBusKey> {
        check_user_key(bus_key)?;
        let inbox = format!("{}.>", inbox_prefix(&node.to_string()));
        let publish = vec![bus::up_subject(self.cluster, node), inbox.clone()];
        let subscribe = vec![bus::down_subject(self.cluster, node), inbox];
        let user = claims::user(&format!("node {node}"), bus_key, publish, subscribe);
        Ok(claims::sign(user, now, Some(expires_at), &self.account))
    }

    /// For the control plane: it listens to every node's up subject and publishes to every
    /// node's down subject.
    pub fn control_credentials(&self, now: Timestamp) -> NatsCredentials {
        let inbox_prefix = inbox_prefix("control");
        let inbox = format!("{inbox_prefix}.>");
        let publish = vec![format!("rap.{}.node.*.down", self.cluster), inbox.clone()];
        let subscribe = vec![bus::all_up_subjects(self.cluster), inbox];
        let user = claims::user("control", &self.control.public(), publish, subscribe);
        let jwt = claims::sign(user, now, None, &self.account);
        NatsCredentials { jwt, key: self.control.clone(), inbox_prefix }
    }

    /// For [`crate::update_account`] and nothing else.
    pub fn system_credentials(&self, now: Timestamp) -> NatsCredentials {
        let inbox_prefix = inbox_prefix("system");
        let inbox = format!("{inbox_prefix}.>");
        let publish = vec![crate::nats::ACCOUNT_UPDATE_SUBJECT.to_owned()];
        let user = claims::user("control system", &self.system_user.public(), publish, vec![inbox]);
        let jwt = claims::sign(user, now, None, &self.system);
        NatsCredentials { jwt, key: self.system_user.clone(), inbox_prefix }
    }

    /// The token of the cluster's account. A server that takes a newer one cuts off every
    /// connection that it revokes.
    ///
    /// # Panics
    /// With more than [`MAX_REVOCATIONS`]: the caller forgets those whose tokens have expired.
    pub fn account_jwt(&self, revoked: &Revocations, now: Timestamp) -> String {
        assert!(revoked.len() <= MAX_REVOCATIONS, "expired tokens need no revocation");
        let name = format!("cluster {}", self.cluster);
        let account = claims::account(&name, &self.account.public_key(), revoked);
        claims::sign(account, now, None, &self.operator)
    }

    /// The configuration of a `nats-server` (2.9 or later) for this cluster, which keeps account
    /// tokens in a folder of its own (the full resolver).
    pub fn server_config(
        &self,
        options: &ServerOptions,
        revoked: &Revocations,
        now: Timestamp,
    ) -> Result<String, InvalidServerConfig> {
        let operator_name = format!("cluster {}", self.cluster);
        let (operator, system) = (self.operator.public_key(), self.system.public_key());
        let operator_jwt = claims::sign(
            claims::operator(&operator_name, &operator, &system),
            now,
            None,
            &self.operator,
        );
        let system_jwt = claims::sign(
            claims::account("system", &system, &Revocations::new()),
            now,
            None,
            &self.operator,
        );
        config::render(
            &config::Tokens {
                operator: operator_jwt,
                system_account: system.clone(),
                accounts: vec![
                    (system, system_jwt),
                    (self.account.public_key(), self.account_jwt(revoked, now)),
                ],
            },
            options,
        )
    }
}

impl fmt::Debug for NatsAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsAuthority({})", self.operator.public_key())
    }
}

impl BusKey {
    pub fn from_random(bytes: [u8; 32]) -> Self {
        let pair = KeyPair::new_from_raw(KeyPairType::User, bytes);
        Self(pair.expect("any 32 bytes are a seed"))
    }

    /// From the text of [`BusKey::seed`].
    pub fn from_seed(seed: &str) -> Result<Self, InvalidBusKey> {
        let pair = KeyPair::from_seed(seed).map_err(|_| InvalidBusKey)?;
        check_user_key(&pair.public_key())?;
        Ok(Self(pair))
    }

    /// The public half in NATS' text form (`U…`).
    pub fn public(&self) -> String {
        self.0.public_key()
    }

    /// The secret half in NATS' text form (`SU…`).
    pub fn seed(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.seed().expect("a pair made from a seed has one"))
    }

    pub(crate) fn sign(&self, nonce: &[u8]) -> Vec<u8> {
        self.0.sign(nonce).expect("a pair made from a seed signs")
    }
}

impl Clone for BusKey {
    fn clone(&self) -> Self {
        Self(KeyPair::from_seed(&self.seed()).expect("a seed that was just written"))
    }
}

impl fmt::Debug for BusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusKey({})", self.public())
    }
}

/// The inbox prefix that a node's token allows.
pub fn node_inbox_prefix(node: NodeId) -> String {
    inbox_prefix(&node.to_string())
}

/// Whether `text` is a user's public key (`U…`).
pub fn check_user_key(text: &str) -> Result<(), InvalidBusKey> {
    let pair = KeyPair::from_public_key(text).map_err(|_| InvalidBusKey)?;
    if pair.key_pair_type() == KeyPairType::User { Ok(()) } else { Err(InvalidBusKey) }
}

fn inbox_prefix(owner: &str) -> String {
    format!("_INBOX_{owner}")
}
