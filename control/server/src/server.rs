//! Starts and stops everything: the thread, the actors, the listener.

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, RwLock},
    thread,
    time::Duration,
};

use actix::Actor as _;
use actix_web::{App as WebApp, HttpServer, dev::Service as _};
use rap_bus::{Bus, NatsBus, NatsOptions};
use rap_events::{BeatTable, Heads, LeaseTable, Log, SubjectKeys};
use rap_log_postgres::PostgresLog;
use rap_pki::{
    InvalidServerName, pem,
    tls::{self, ClientAuth, Identity, TlsError},
};
use rap_proto::{
    ClusterId, Digest, IncarnationId, ReplicaId, Signer as _,
    secret::{Secret, SetupCode},
};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::{Mutex, oneshot, watch};

use crate::{
    actors::{
        beats::BeatKeeper,
        doorbell::Doorbell,
        feeder::Feeder,
        fold_keeper::{self, FoldKeeper},
        grantor::GrantorActor,
        guardian::{Guardian, Ward},
        guesses::GuessRecorder,
        keeper::LeadershipKeeper,
        observer::Observer,
        processes::Processes,
        projection::Projection,
        rebuilder::Rebuilder,
        revocations::RevocationKeeper,
        sealer::Sealer,
    },
    app::{App, Foundations},
    beat::{BeatSender, authority_beat},
    bootstrap, clock, connection,
    custody::{Custody, CustodyError},
    fold_cache::{Folded, Shelf},
    http,
    leadership::{Desk, leadership},
    lease_desk::{News, lease_desk},
    living::Living,
    node_api,
    node_api::bus_credentials::{BusIssuer, BusTrust},
    options::{BusChoice, ControlOptions, LogChoice},
    scrape::Scraping,
};

/// The life of the server's own certificate, and how often it is replaced.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);
const CERTIFICATE_RENEWAL: Duration = Duration::from_secs(10 * 24 * 3_600);
/// The most connections of one worker thread, beside those of event streams, which may all be its.
const MAX_REQUEST_CONNECTIONS: usize = 10_000;
/// The most connections that one agent keeps: for snapshots, for beats and for leases.
const MAX_AGENT_CONNECTIONS: usize = 3;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may go on after a stop was asked for.
const DRAIN_SECONDS: u64 = 2;
/// How long a start waits to learn who leads, and a stop to give the lead back.
const LEADERSHIP_WAIT: Duration = Duration::from_secs(2);
/// How long a stop waits for the last events to be folded.
const FOLD_WAIT: Duration = Duration::from_secs(1);
/// How long a start waits for a beat of the replicas.
const BEAT_WAIT: Duration = Duration::from_secs(2);

/// A server that answers. It stops when its `shutdown` resolves.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its metrics can be read.
    pub metrics: Option<SocketAddr>,
    pub cluster: ClusterId,
    /// Which of the cluster's control servers it is; another one after each start.
    pub replica: ReplicaId,
    /// The SHA-256 of the CA certificate (DER), for join lines and pinned clients.
    pub ca_fingerprint: Digest,
    /// The CA certificate (DER).
    pub ca_certificate: Vec<u8>,
    /// Opens the set-up, once. `None` when the installation has its first owner.
    pub setup_code: Option<Secret<SetupCode>>,
    stopped: oneshot::Receiver<Result<(), ServeError>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Custody(#[from] CustodyError),
    #[error("the log: {0}")]
    Log(String),
    #[error("the bus: {0}")]
    Bus(String),
    #[error("the log belongs to another cluster than the state directory")]
    OtherCluster,
    #[error("the cluster does not know the control key in the state directory")]
    OtherKeys,
    #[error("the cluster cannot be started: {0}")]
    Bootstrap(String),
    #[error(transparent)]
    Name(#[from] InvalidServerName),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("the server's thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("the server failed: {0}")]
    Failed(std::io::Error),
    #[error("the server's thread ended without a word")]
    Vanished,
}

/// What the thread tells once it answers.
struct Ready {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    cluster: ClusterId,
    replica: ReplicaId,
    ca_certificate: Vec<u8>,
    setup_code: Option<Secret<SetupCode>>,
}

/// Starts a server and returns when it answers.
pub async fn serve(
    options: ControlOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, ServeError> {
    let (ready_sender, ready) = oneshot::channel();
    let (stopped_sender, mut stopped) = oneshot::channel();
    thread::Builder::new()
        .name("rap-control".to_owned())
        .spawn(move || {
            let outcome = actix_rt::System::new().block_on(run(options, shutdown, ready_sender));
            // Nobody may wait for it any more.
            let _ = stopped_sender.send(outcome);
        })
        .map_err(ServeError::Thread)?;
    let Ok(ready) = ready.await else {
        return Err(match (&mut stopped).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => ServeError::Vanished,
        });
    };
    let Ready { address, metrics, cluster, replica, ca_certificate, setup_code } = ready;
    let ca_fingerprint = Digest::of(&ca_certificate);
    Ok(Running {
        address,
        metrics,
        cluster,
        replica,
        ca_fingerprint,
        ca_certificate,
        setup_code,
        stopped,
    })
}

impl Running {
    /// Waits until the server has stopped.
    pub async fn stopped(self) -> Result<(), ServeError> {
        self.stopped.await.unwrap_or(Err(ServeError::Vanished))
    }
}

async fn run(
    options: ControlOptions,
    shutdown: impl Future<Output = ()>,
    ready: oneshot::Sender<Ready>,
) -> Result<(), ServeError> {
    let custody = Custody::open(&options.state_dir, clock::now())?;
    let Opened { log, leases, beats, heads, subjects } = open_log(&options.log).await?;
    let (Folded { state, source }, setup_code) =
        bootstrap::bootstrap(Arc::clone(&log), &custody, &options.state_dir).await?;
    let (bus, bus_issuer) = open_bus(&options.bus, &custody).await?;

    let certificate = Arc::new(Certificate::issue(&custody, &options.names)?);
    let tls = tls_config(&custody, &options.names, Arc::clone(&certificate))?;
    let (listener, address) = listen(options.listen)?;

    let (cluster, ca_certificate) = (custody.cluster, custody.authority.certificate_der().to_vec());
    let (states_sender, states) = watch::channel(Arc::new(state));
    let (healthy_sender, healthy) = watch::channel(true);
    let replica = ReplicaId::new(clock::now(), clock::random());
    let (leadership, desk) = leadership();
    let (beat, beat_sender) = authority_beat();
    let (lease_desk, news) = lease_desk();
    let app = Arc::new(App::new(Foundations {
        custody,
        log,
        leases,
        beats,
        heads,
        subjects,
        replica,
        leadership,
        beat,
        lease_desk,
        bus,
        bus_issuer,
        servers: options.servers.clone(),
        incarnation: IncarnationId::new(clock::now(), clock::random()),
        healthy,
        states,
        leaf: source.leaf(),
        limits: options.limits,
    }));
    let scraping = Scraping::start(options.metrics, &app)?;
    let desks = Desks {
        leadership: Arc::new(Mutex::new(desk)),
        beat: Arc::new(Mutex::new(beat_sender)),
        news: Arc::new(Mutex::new(news)),
    };
    let shelf = Arc::new(Shelf::new(&options.state_dir, cluster));
    let living = Arc::new(Living::new(states_sender, source));
    let wards = wards(&app, &living, desks, &shelf);
    let _guardian = Guardian::new(wards, healthy_sender).start();
    settle(&app).await;
    let renewal = actix_rt::spawn(renew(Arc::clone(&app), options.names.clone(), certificate));

    let feed = Arc::clone(&app.feed);
    let server = http_server(&options, &app, listener, tls)
        .map_err(|error| ServeError::Listen { address, error })?;
    let handle = server.handle();
    let mut server = actix_rt::spawn(server);
    // The starter may have lost interest; then `shutdown` says so too.
    let metrics = scraping.address();
    let _ = ready.send(Ready { address, metrics, cluster, replica, ca_certificate, setup_code });
    let outcome = tokio::select! {
        biased;
        ended = &mut server => ended,
        () = shutdown => {
            // Streams would outlast the drain; whoever follows goes on at another replica.
            feed.close();
            handle.stop(true).await;
            server.await
        }
    };
    renewal.abort();
    scraping.stop().await;
    resign(&app).await;
    keep_fold(&app, &living, &shelf).await;
    outcome.map_err(|_| ServeError::Vanished)?.map_err(ServeError::Failed)
}

/// So that what follows from a start is in the log before anybody is served.
async fn settle(app: &App) {
    // A server that does not learn it in time serves all the same, and leads later.
    let _ = tokio::time::timeout(LEADERSHIP_WAIT, app.leadership.settled()).await;
    // Without a beat in time it serves all the same, and grants nothing.
    let _ = tokio::time::timeout(BEAT_WAIT, app.beat.heard()).await;
}

pub(crate) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listener =
        TcpListener::bind(address).map_err(|error| ServeError::Listen { address, error })?;
    let bound = listener.local_addr().map_err(ServeError::Failed)?;
    Ok((listener, bound))
}

/// The most connections of one worker; workers share nothing.
const fn worker_connections(streams: usize) -> usize {
    MAX_REQUEST_CONNECTIONS + streams
}

/// Whether there are more agents than this replica alone could serve, while others are down.
const fn lacks_workers(nodes: usize, workers: usize, streams: usize) -> bool {
    nodes * MAX_AGENT_CONNECTIONS > workers * worker_connections(streams)
}

fn http_server(
    options: &ControlOptions,
    app: &Arc<App>,
    listener: TcpListener,
    tls: rustls::ServerConfig,
) -> std::io::Result<actix_web::dev::Server> {
    let (workers, streams) = (options.workers.max(1), options.limits.streams.open);
    let nodes = app.state().nodes().approved().count();
    if lacks_workers(nodes, workers, streams) {
        tracing::warn!(
            nodes,
            workers,
            "this replica alone cannot serve every agent: raise `workers`"
        );
    }
    let (served, unread) = (Arc::clone(app), options.limits.unread);
    let server = HttpServer::new(move || {
        let app = Arc::clone(&served);
        let site = WebApp::new().wrap_fn(|request, service| {
            let answered = service.call(request);
            async move { answered.await.map(connection::close_behind_strangers) }
        });
        site.configure(move |config| {
            node_api::register(config, &app);
            http::register(config, &app);
        })
    })
    .workers(workers)
    .max_connections(worker_connections(streams))
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(options.limits.kept_idle)
    .shutdown_timeout(DRAIN_SECONDS)
    .disable_signals()
    .h1_write_buffer_size(connection::MAX_WRITE_BUFFER_BYTES)
    .on_connect(move |connection, extensions| connection::remember(connection, extensions, unread))
    .listen_rustls_0_23(listener, tls)?;
    Ok(server.run())
}

/// Leaves the state for the next start, when nobody writes to the log at this moment.
async fn keep_fold(app: &App, living: &Living, shelf: &Arc<Shelf>) {
    if let Ok(head) = app.log.head().await
        && app.may_keep()
        && app.wait_for(head, FOLD_WAIT).await.is_some()
    {
        fold_keeper::keep(app, living, shelf).await;
    }
    // A rebuild that was cut short stores nothing any more.
    shelf.give_up();
}

async fn resign(app: &App) {
    if app.halted().is_some() {
        // It did so when it halted.
        return;
    }
    if tokio::time::timeout(LEADERSHIP_WAIT, app.leadership.resign()).await.is_err() {
        tracing::warn!("the duties were not given back in time; they move when the lease ends");
    }
}

/// What the actors that look after something hand to it; each is taken again after a crash.
struct Desks {
    leadership: Arc<Mutex<Desk>>,
    beat: Arc<Mutex<BeatSender>>,
    news: Arc<Mutex<News>>,
}

fn wards(
    app: &Arc<App>,
    living: &Arc<Living>,
    Desks { leadership, beat, news }: Desks,
    shelf: &Arc<Shelf>,
) -> Vec<Ward> {
    let [
        projection,
        feeder,
        doorbell,
        processes,
        observer,
        revocations,
        keeper,
        guesses,
        beats,
        sealer,
        leases,
        folds,
        rebuilder,
    ] = std::array::from_fn(|_| Arc::clone(app));
    let [folded, rebuilt, fed, kept] = std::array::from_fn(|_| Arc::clone(living));
    let (shelf, rebuilt_shelf) = (Arc::clone(shelf), Arc::clone(shelf));
    vec![
        Ward::start("projection", move || {
            Projection::new(Arc::clone(&projection), Arc::clone(&folded))
        }),
        Ward::start("rebuilder", move || {
            let (app, living) = (Arc::clone(&rebuilder), Arc::clone(&rebuilt));
            Rebuilder::new(app, living, Arc::clone(&rebuilt_shelf))
        }),
        Ward::start("feeder", move || Feeder::new(Arc::clone(&feeder), Arc::clone(&fed))),
        Ward::start("leadership", move || {
            LeadershipKeeper::new(Arc::clone(&keeper), Arc::clone(&leadership))
        }),
        Ward::start("beats", move || BeatKeeper::new(Arc::clone(&beats), Arc::clone(&beat))),
        Ward::start("leases", move || GrantorActor::new(Arc::clone(&leases), Arc::clone(&news))),
        Ward::start("doorbell", move || Doorbell::new(Arc::clone(&doorbell))),
        Ward::start("processes", move || Processes::new(Arc::clone(&processes))),
        Ward::start("observer", move || Observer::new(Arc::clone(&observer))),
        Ward::start("revocations", move || RevocationKeeper::new(Arc::clone(&revocations))),
        Ward::start("guesses", move || GuessRecorder::new(Arc::clone(&guesses))),
        Ward::start("sealer", move || Sealer::new(Arc::clone(&sealer))),
        Ward::start("fold keeper", move || {
            FoldKeeper::new(Arc::clone(&folds), Arc::clone(&kept), Arc::clone(&shelf))
        }),
    ]
}

/// The log, and what stands beside it.
pub(crate) struct Opened {
    pub(crate) log: Arc<dyn Log>,
    leases: Arc<dyn LeaseTable>,
    beats: Arc<dyn BeatTable>,
    heads: Arc<dyn Heads>,
    subjects: Arc<dyn SubjectKeys>,
}

pub(crate) async fn open_log(choice: &LogChoice) -> Result<Opened, ServeError> {
    match choice {
        LogChoice::Local(log) => {
            let (leases, beats, heads) = (log.clone(), log.clone(), log.clone());
            Ok(Opened { log: log.clone(), leases, beats, heads, subjects: log.clone() })
        }
        LogChoice::Postgres(url) => {
            let log = PostgresLog::connect(url).await;
            let log = Arc::new(log.map_err(|error| ServeError::Log(error.to_string()))?);
            let (leases, beats, heads) = (log.clone(), log.clone(), log.clone());
            Ok(Opened { log: log.clone(), leases, beats, heads, subjects: log })
        }
    }
}

async fn open_bus(
    choice: &BusChoice,
    custody: &Custody,
) -> Result<(Arc<dyn Bus>, Option<BusIssuer>), ServeError> {
    match choice {
        BusChoice::Local(bus) => Ok((Arc::clone(bus), None)),
        BusChoice::Nats { servers, advertised, ca } => {
            let authority = Arc::new(custody.nats_authority());
            let trust = bus_trust(ca.as_deref(), custody)?;
            let options = NatsOptions {
                servers: servers.clone(),
                credentials: authority.control_credentials(clock::now()),
                tls: Some(trust.tls.clone()),
            };
            let bus = NatsBus::connect(options)
                .await
                .map_err(|error| ServeError::Bus(error.to_string()))?;
            let advertised = if advertised.is_empty() { servers } else { advertised };
            let issuer = BusIssuer::new(authority, servers.clone(), advertised.clone(), trust);
            Ok((Arc::new(bus), Some(issuer)))
        }
    }
}

fn bus_trust(ca: Option<&Path>, custody: &Custody) -> Result<BusTrust, ServeError> {
    let authorities = match ca {
        None => Vec::new(),
        Some(path) => pem::read(path)
            .map_err(|error| ServeError::Bus(format!("{}: {error}", path.display())))?,
    };
    let roots = match &*authorities {
        [] => tls::roots(&[custody.authority.certificate_der()]),
        named => tls::roots(named),
    };
    Ok(BusTrust { tls: tls::client(roots?, None, &[])?, authorities })
}

/// The server's own certificate of the moment: replaced while connections go on.
#[derive(Debug)]
struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    fn issue(custody: &Custody, names: &[String]) -> Result<Self, ServeError> {
        certified(custody, names).map(|key| Self(RwLock::new(key)))
    }

    fn replace(&self, key: Arc<CertifiedKey>) {
        *self.0.write().expect("no holder of the lock panics") = key;
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().expect("no holder of the lock panics")))
    }
}

fn identity(custody: &Custody, names: &[String]) -> Result<Identity, InvalidServerName> {
    let key = custody.tls.public_key();
    let leaf = custody.authority.issue_server(
        names,
        &key,
        clock::random(),
        clock::now(),
        CERTIFICATE_LIFETIME,
    )?;
    let chain = vec![leaf, custody.authority.certificate_der().to_vec()];
    Ok(Identity { chain, key: custody.tls.clone() })
}

fn certified(custody: &Custody, names: &[String]) -> Result<Arc<CertifiedKey>, ServeError> {
    let identity = identity(custody, names)?;
    let chain = identity.chain.into_iter().map(rustls_pki_types::CertificateDer::from).collect();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(rustls_pki_types::PrivatePkcs8KeyDer::from(
        identity.key.to_der().to_vec(),
    ));
    let certified = CertifiedKey::from_der(chain, key, &tls::provider())
        .map_err(|error| ServeError::Tls(TlsError::Identity(error)))?;
    Ok(Arc::new(certified))
}

/// Nodes present a certificate, people do not; a wrong one ends the handshake.
fn tls_config(
    custody: &Custody,
    names: &[String],
    certificate: Arc<Certificate>,
) -> Result<ServerConfig, ServeError> {
    let roots = tls::roots(&[custody.authority.certificate_der()])?;
    let identity = identity(custody, names)?;
    let mut config = tls::server(&identity, ClientAuth::Optional(roots), &[b"http/1.1"])?;
    config.cert_resolver = certificate;
    Ok(config)
}

async fn renew(app: Arc<App>, names: Vec<String>, certificate: Arc<Certificate>) {
    loop {
        tokio::time::sleep(CERTIFICATE_RENEWAL).await;
        match certified(&app.custody, &names) {
            Ok(key) => certificate.replace(key),
            Err(error) => tracing::error!(%error, "the server's certificate is not renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_agents_take_two_workers() {
        let streams = crate::options::Limits::default().streams.open;
        assert!(lacks_workers(10_000, 1, streams));
        assert!(!lacks_workers(10_000, 2, streams));
        assert!(!lacks_workers(100, 1, 0));
    }
}
