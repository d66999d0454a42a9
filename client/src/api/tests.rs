//! The limits, against a control plane in this process.
#![allow(clippy::unwrap_used)]

use std::{net::Ipv4Addr, sync::Arc};

use rap_bus::LocalBus;
use rap_control::{BusChoice, ControlOptions, LogChoice, Running};
use rap_events::MemoryLog;
use rap_proto::api::{LoggedIn, NewOrganization, Organization, Setup};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;

const ORGANIZATIONS: usize = 3;

/// A control plane with [`ORGANIZATIONS`], and its owner.
struct World {
    owner: Api,
    running: Running,
    stop: CancellationToken,
    _state_dir: TempDir,
}

impl World {
    async fn start() -> Self {
        let state_dir = tempfile::tempdir().unwrap();
        let options = ControlOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            metrics: None,
            state_dir: state_dir.path().join("control"),
            log: LogChoice::Local(Arc::new(MemoryLog::default())),
            bus: BusChoice::Local(Arc::new(LocalBus::new())),
            names: vec!["localhost".to_owned()],
            servers: Vec::new(),
            workers: 1,
            limits: rap_control::Limits::default(),
        };
        let stop = CancellationToken::new();
        let running = rap_control::serve(options, stop.clone().cancelled_owned()).await.unwrap();
        let url: ControlUrl =
            format!("https://localhost:{}", running.address.port()).parse().unwrap();
        let ca = CaFingerprint(running.ca_fingerprint);
        let setup = Setup {
            setup_code: SecretText::new(running.setup_code.as_ref().unwrap().reveal()),
            name: "root".parse().unwrap(),
            password: SecretText::new("correct horse battery staple"),
        };
        let anonymous = Api::new(KnownServers::one(url.clone()), ca, None).unwrap();
        let LoggedIn { secret, .. } = anonymous.post("/setup", &setup).await.unwrap();
        let owner = Api::new(KnownServers::one(url), ca, Some(secret)).unwrap();
        for number in 0..ORGANIZATIONS {
            let name = format!("org-{number}").parse().unwrap();
            let body = NewOrganization { name, owner: None };
            let _: Organization = owner.post("/organizations", &body).await.unwrap();
        }
        Self { owner, running, stop, _state_dir: state_dir }
    }

    async fn list(&mut self, limits: Limits) -> Result<Vec<Organization>, Failure> {
        self.owner.limits = limits;
        self.owner.list("/organizations", &[]).await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.stopped().await.unwrap();
    }
}

#[tokio::test]
async fn a_list_is_followed_through_so_many_pages_and_no_more() {
    let mut world = World::start().await;
    let limits = |pages, page_size| Limits { pages, page_size, ..LIMITS };
    for enough in [limits(ORGANIZATIONS, 1), limits(2, 2), limits(1, ORGANIZATIONS)] {
        assert_eq!(world.list(enough).await.unwrap().len(), ORGANIZATIONS, "{enough:?}");
    }
    for too_few in [limits(ORGANIZATIONS - 1, 1), limits(1, 2)] {
        let failure = world.list(too_few).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Limit, "{failure}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_reply_has_so_many_bytes_and_no_more() {
    let mut world = World::start().await;
    let build = |turn: &Turn| world.owner.request(turn, Method::GET, "/organizations");
    let bytes = world.owner.send(build).await.unwrap().len();
    let limits = |reply_bytes| Limits { reply_bytes, ..LIMITS };
    assert_eq!(world.list(limits(bytes)).await.unwrap().len(), ORGANIZATIONS);
    let failure = world.list(limits(bytes - 1)).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Limit, "{failure}");
    // The connection that was given up disturbs nothing after it.
    assert_eq!(world.list(LIMITS).await.unwrap().len(), ORGANIZATIONS);
    world.stop().await;
}
