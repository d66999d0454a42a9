//! The control plane of a development fabric, with its log and its bus.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use rap_bus::{LocalBus, private::PrivateNats};
use rap_control::{BusChoice, ControlOptions, Limits, LogChoice, Running};
use rap_events::MemoryLog;
use rap_log_postgres::private::{Durability, PrivatePostgres};
use rap_proto::{ControlUrl, ParseControlUrlError, api::SecretText};
use tokio_util::sync::CancellationToken;

use super::place::{Place, Ports};
use crate::{
    args::{CaFingerprint, Dev},
    command,
    failure::Failure,
    home,
};

/// Threads that answer requests: a person and three nodes ask.
const WORKERS: usize = 1;
const DATABASE: &str = "rap";

pub(super) struct Control {
    pub(super) url: ControlUrl,
    pub(super) ca: CaFingerprint,
    /// Present until there is a first owner.
    pub(super) setup_code: Option<SecretText>,
    pub(super) agent_bus: rap_node_agent::BusChoice,
    running: Running,
    stop: CancellationToken,
    servers: Option<Servers>,
}

/// The children that keep what is to be kept.
struct Servers {
    postgres: PrivatePostgres,
    nats: PrivateNats,
}

struct Backing {
    log: LogChoice,
    bus: BusChoice,
    agent_bus: rap_node_agent::BusChoice,
    servers: Option<Servers>,
}

impl Control {
    pub(super) async fn start(
        place: &Place,
        arguments: &Dev,
        ports: &Ports,
    ) -> Result<Self, Failure> {
        let Backing { log, bus, agent_bus, servers } = match place.is_kept() {
            true => kept(place).await?,
            false => in_memory(),
        };
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.control));
        let listen = arguments.listen.unwrap_or(usual);
        let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        if !listen.ip().is_unspecified() && !listen.ip().is_loopback() {
            names.push(listen.ip().to_string());
        }
        let stop = CancellationToken::new();
        let state_dir = place.folder("control");
        let limits = Limits::default();
        let workers = WORKERS;
        let metrics = None;
        let options = ControlOptions {
            listen,
            metrics,
            state_dir,
            log,
            bus,
            names,
            servers: Vec::new(),
            workers,
            limits,
        };
        let running =
            rap_control::serve(options, stop.clone().cancelled_owned()).await.map_err(|error| {
                Failure::unavailable(format!("the control plane does not start: {error}"))
                    .hint("another program may have its port: rap dev --listen 127.0.0.1:0")
            })?;
        let url = url(running.address)?;
        let ca = CaFingerprint(running.ca_fingerprint);
        let setup_code = running.setup_code.as_ref().map(|code| SecretText::new(code.reveal()));
        Ok(Self { url, ca, setup_code, agent_bus, running, stop, servers })
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.running.stopped().await {
            tracing::warn!(%error, "the control plane did not stop in order");
        }
        if let Some(Servers { postgres, mut nats }) = self.servers {
            nats.kill().await;
            postgres.stop().await;
        }
    }
}

fn in_memory() -> Backing {
    let bus: Arc<dyn rap_bus::Bus> = Arc::new(LocalBus::new());
    Backing {
        log: LogChoice::Local(Arc::new(MemoryLog::with_clock(command::now))),
        bus: BusChoice::Local(Arc::clone(&bus)),
        agent_bus: rap_node_agent::BusChoice::Local(bus),
        servers: None,
    }
}

async fn kept(place: &Place) -> Result<Backing, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::unavailable(format!("{what} does not start: {error}"))
            .hint("install what is missing, or leave --data-dir away: then nothing is needed")
    };
    let postgres = PrivatePostgres::start(&place.folder("postgres"), Durability::Safe)
        .await
        .map_err(|error| failed("PostgreSQL", &error))?;
    let database =
        postgres.create_log(DATABASE).await.map_err(|error| failed("PostgreSQL", &error))?;
    let authority = rap_control::nats_authority(&place.folder("control"))
        .map_err(|error| failed("the control plane", &error))?;
    let folder = place.folder("nats");
    home::make_private(&folder)?;
    let nats = PrivateNats::start(&folder, &authority, &Default::default(), command::now())
        .await
        .map_err(|error| failed("nats-server", &error))?;
    Ok(Backing {
        log: LogChoice::Postgres(database),
        bus: BusChoice::Nats { servers: vec![nats.url()], advertised: Vec::new(), ca: None },
        agent_bus: rap_node_agent::BusChoice::Credentials,
        servers: Some(Servers { postgres, nats }),
    })
}

/// How clients on this machine reach the address.
fn url(address: SocketAddr) -> Result<ControlUrl, Failure> {
    let reached = if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    };
    format!("https://{reached}")
        .parse()
        .map_err(|error: ParseControlUrlError| Failure::usage(error.to_string()))
}
