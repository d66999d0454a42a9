//! Access tokens in the hands of somebody who does not use them as `rap` does.

use std::{fs, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rap_e2e::{Fabric, Space};
use rap_mesh::client::{
    self, ClientSession, ConnectError, ConnectOptions, EntryAddress, OpenChannel, OpenError,
};
use rap_pki::pem;
use rap_proto::{
    ChannelKind, Lane, RefusalCode, SessionId, Signer as _,
    api::Access,
    key::LocalKey,
    signed::{self, Trusted},
    token::AccessClaims,
};

/// What control gave for one session, with the key that it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    token: Vec<u8>,
    key: LocalKey,
    entries: Vec<EntryAddress>,
    authorities: Vec<Vec<u8>>,
}

/// What became of a ticket that was shown to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A channel to the resource was opened.
    Opened,
    RefusedByEntry(RefusalCode),
    RefusedChannel(RefusalCode),
    Other(String),
}

pub(crate) fn key(seed: u8) -> LocalKey {
    LocalKey::from_random(&[seed; 32]).unwrap()
}

/// The key by which control signs.
pub(crate) fn control_key(fabric: &Fabric) -> LocalKey {
    let pem = fs::read_to_string(fabric.control_state().join("control.key")).unwrap();
    LocalKey::from_pem(&pem).unwrap()
}

impl Ticket {
    /// Asks for access to a resource over the REST API, with an API token.
    pub(crate) async fn request(fabric: &Fabric, bearer: &str, resource: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key = key(number);
        let client_key = serde_json::to_value(key.public_key()).unwrap();
        let body = serde_json::json!({ "resource": resource, "clientKey": client_key });
        let authority = fabric.control_state().join("ca.pem");
        let headers = [
            format!("authorization: Bearer {bearer}"),
            format!("idempotency-key: ticket-{number}"),
            "content-type: application/json".to_owned(),
        ];
        let mut words = vec!["-sS", "--fail-with-body", "--cacert"];
        let (authority, body) = (authority.to_string_lossy(), body.to_string());
        let url = format!("{}/api/v1/sessions", fabric.control_url());
        words.extend([&*authority, "-d", &body, &url]);
        words.extend(headers.iter().flat_map(|header| ["-H", header]));
        let access = fabric.alice.run("curl", &words).await.ok();
        let access: Access = serde_json::from_str(&access).unwrap();
        let entry = |entry: rap_proto::api::EntryPoint| EntryAddress {
            server_name: entry.server_name,
            addresses: entry.addresses,
        };
        Self {
            token: URL_SAFE_NO_PAD.decode(access.token.reveal()).unwrap(),
            key,
            entries: access.entries.into_iter().map(entry).collect(),
            authorities: pem::decode(&access.authorities).unwrap(),
        }
    }

    /// The same ticket in the hands of somebody with another key.
    pub(crate) fn with_key(&self, key: LocalKey) -> Self {
        Self { key, ..self.clone() }
    }

    pub(crate) fn session(&self, fabric: &Fabric) -> SessionId {
        let trusted = Trusted::one(control_key(fabric).public_key());
        signed::open::<AccessClaims>(&self.token, &trusted).unwrap().into_inner().session
    }

    /// The same ticket with other claims, signed by `signer`.
    pub(crate) fn forged(
        &self,
        fabric: &Fabric,
        signer: &LocalKey,
        change: impl FnOnce(&mut AccessClaims),
    ) -> Self {
        let trusted = Trusted::one(control_key(fabric).public_key());
        let mut claims = signed::open::<AccessClaims>(&self.token, &trusted).unwrap().into_inner();
        change(&mut claims);
        Self { token: signed::seal(&claims, &[signer]), ..self.clone() }
    }

    /// Shows the ticket to the entry, from the client host, and opens a channel if it may.
    pub(crate) async fn show(&self, fabric: &Fabric) -> Shown {
        let options = ConnectOptions {
            entries: self.entries.clone(),
            authorities: self.authorities.clone(),
            token: self.token.clone(),
            key: Arc::new(self.key.clone()),
            carrier: None,
            through: false,
        };
        let thread = fabric.lab().inside(Space::Client, move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                match client::connect(options).await {
                    Ok(session) => open(&session).await,
                    Err(ConnectError::Refused(refusal)) => Shown::RefusedByEntry(refusal.code),
                    Err(error) => Shown::Other(error.to_string()),
                }
            })
        });
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
    }
}

async fn open(session: &ClientSession) -> Shown {
    let channel = OpenChannel {
        channel: ChannelKind::Stream,
        lane: Lane::Bulk,
        traceparent: None,
        resume: None,
    };
    let shown = match session.open(channel).await {
        Ok(_) => Shown::Opened,
        Err(OpenError::Refused(refusal)) => Shown::RefusedChannel(refusal.code),
        Err(error) => Shown::Other(error.to_string()),
    };
    session.close().await;
    shown
}
