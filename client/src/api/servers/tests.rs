//! Which server is asked, against servers of one cluster that answer as the test says.
#![allow(clippy::unwrap_used)]

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http, web};
use rap_agent_core::servers::MAX_TURNS;
use rap_pki::{ClusterAuthority, tls};
use rap_proto::{
    ClusterId, ControlUrl, Signer as _,
    api::{EventId, IDEMPOTENCY_KEY_HEADER, Problem, ProblemCode},
    key::LocalKey,
};

use super::KnownServers;
use crate::{
    api::{
        Api, MAX_ATTEMPTS,
        transport::{CONNECT_TIMEOUT, CONNECT_TURN},
    },
    args::CaFingerprint,
    failure::{Exit, Failure},
};

const CLUSTER: ClusterId = ClusterId::from_u128(3);
/// Less than a server that keeps silent may take.
const AT_ONCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Manner {
    Answers,
    Says(ProblemCode),
    /// As a gateway whose server is gone.
    Gateway,
}

struct Fleet {
    authority: ClusterAuthority,
    servers: Vec<Server>,
}

struct Server {
    url: ControlUrl,
    asked: Asked,
    handle: ServerHandle,
}

/// The idempotency keys of what it was asked.
type Asked = Arc<Mutex<Vec<String>>>;

impl Fleet {
    fn of(manners: &[Manner]) -> Self {
        Self::of_authority(7, manners)
    }

    fn of_authority(seed: u8, manners: &[Manner]) -> Self {
        let key = LocalKey::from_random(&[seed; 32]).unwrap();
        let authority = ClusterAuthority::create(CLUSTER, &key, [1; 16], rap_control::now());
        let servers = manners.iter().map(|manner| serve(&authority, *manner)).collect();
        Self { authority, servers }
    }

    /// Begins at `first`, where there is one before those of the fleet.
    fn api(&self, first: Option<ControlUrl>) -> Api {
        let mut urls = first.into_iter().chain(self.servers.iter().map(|it| it.url.clone()));
        let servers = KnownServers::new(urls.next().unwrap(), urls.collect());
        Api::new(servers, CaFingerprint(self.authority.fingerprint()), None).unwrap()
    }

    /// How often each one was asked.
    fn asked(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.asked.lock().unwrap().len()).collect()
    }

    async fn stop(self) {
        for server in self.servers {
            server.handle.stop(false).await;
        }
    }
}

fn serve(authority: &ClusterAuthority, manner: Manner) -> Server {
    let key = LocalKey::from_random(&[8; 32]).unwrap();
    let (now, hour) = (rap_control::now(), Duration::from_secs(3_600));
    let names = ["localhost".to_owned()];
    let leaf = authority.issue_server(&names, &key.public_key(), [2; 16], now, hour).unwrap();
    let chain = vec![leaf, authority.certificate_der().to_vec()];
    let identity = tls::Identity { chain, key };
    let tls = tls::server(&identity, tls::ClientAuth::None, &[b"http/1.1"]).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = url(&listener);
    let asked = Asked::default();
    let shared = Arc::clone(&asked);
    let server = HttpServer::new(move || {
        let shared = Arc::clone(&shared);
        let answer = move |request: HttpRequest| answer(&shared, manner, &request);
        App::new().default_service(web::to(move |request| std::future::ready(answer(request))))
    });
    let server = server.workers(1).disable_signals();
    let server = server.listen_rustls_0_23(listener, tls).unwrap().run();
    let handle = server.handle();
    tokio::spawn(server);
    Server { url, asked, handle }
}

fn answer(asked: &Asked, manner: Manner, request: &HttpRequest) -> HttpResponse {
    let key = request.headers().get(IDEMPOTENCY_KEY_HEADER);
    let key = key.map_or("", |key| key.to_str().unwrap()).to_owned();
    asked.lock().unwrap().push(key);
    match manner {
        Manner::Answers => HttpResponse::Ok().json(1),
        Manner::Says(code) => {
            let status = http::StatusCode::from_u16(code.status()).unwrap();
            HttpResponse::build(status).json(Problem::new(code, "as the test says"))
        }
        Manner::Gateway => HttpResponse::BadGateway().body("no upstream"),
    }
}

fn url(listener: &TcpListener) -> ControlUrl {
    format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap()
}

/// Nobody listens there.
fn down() -> ControlUrl {
    url(&TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
}

async fn get(api: &Api) -> Result<u32, Failure> {
    api.get("/me").await
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over_and_not_asked_again() {
    let fleet = Fleet::of(&[Manner::Answers]);
    let api = fleet.api(Some(down()));
    let began = Instant::now();
    assert_eq!(get(&api).await, Ok(1));
    assert!(began.elapsed() < AT_ONCE);
    assert_eq!((api.servers().present(), api.servers().count()), (fleet.servers[0].url.clone(), 2));
    assert_eq!(get(&api).await, Ok(1));
    fleet.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_a_connection_and_keeps_silent_has_its_turn_and_no_more() {
    let fleet = Fleet::of(&[Manner::Answers]);
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let api = fleet.api(Some(url(&silent)));
    let began = Instant::now();
    assert_eq!(get(&api).await, Ok(1));
    assert!(began.elapsed() < CONNECT_TIMEOUT);
    let began = Instant::now();
    assert_eq!(get(&api).await, Ok(1));
    assert!(began.elapsed() < AT_ONCE, "the rest of the command asks the other one");
    fleet.stop().await;
}

#[tokio::test]
async fn a_command_is_repeated_elsewhere_under_its_own_key() {
    for manner in [Manner::Says(ProblemCode::Unavailable), Manner::Gateway] {
        let fleet = Fleet::of(&[manner, Manner::Answers]);
        let api = fleet.api(None);
        assert_eq!(api.post("/things", &()).await, Ok(1), "{manner:?}");
        let [first, second] = [0, 1].map(|at| fleet.servers[at].asked.lock().unwrap().clone());
        assert!(
            first.len() == 1 && first == second && !first[0].is_empty(),
            "{first:?} {second:?}"
        );
        assert_eq!(api.servers().present(), fleet.servers[1].url);
        fleet.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_may_change_nothing_sends_nobody_away_where_others_may() {
    let frozen = Manner::Says(ProblemCode::AuthorityFrozen);
    let fleet = Fleet::of(&[frozen, Manner::Answers]);
    assert_eq!(fleet.api(None).post("/things", &()).await, Ok(1));
    fleet.stop().await;
    let fleet = Fleet::of(&[frozen, frozen]);
    let failure = fleet.api(None).post::<_, u32>("/things", &()).await.unwrap_err();
    assert_eq!((failure.exit, fleet.asked()), (Exit::Unavailable, vec![1, 1]));
    fleet.stop().await;
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    for code in [ProblemCode::NotFound, ProblemCode::Unauthenticated, ProblemCode::Internal] {
        let fleet = Fleet::of(&[Manner::Says(code), Manner::Answers]);
        get(&fleet.api(None)).await.unwrap_err();
        assert_eq!(fleet.asked(), [1, 0], "{code}");
        fleet.stop().await;
    }
}

#[tokio::test]
async fn a_server_of_another_cluster_is_told_nothing_and_passed_over() {
    let answers = [Manner::Answers];
    let (fleet, strange) = (Fleet::of(&answers), Fleet::of_authority(9, &answers));
    let stranger = strange.servers[0].url.clone();
    assert_eq!(get(&fleet.api(Some(stranger))).await, Ok(1));
    assert_eq!((fleet.asked(), strange.asked()), (vec![1], vec![0]));
    fleet.stop().await;
    strange.stop().await;
}

#[tokio::test]
async fn what_nobody_answers_is_asked_so_often_and_no_more() {
    let fleet = Fleet::of(&[Manner::Gateway; 6]);
    get(&fleet.api(None)).await.unwrap_err();
    assert_eq!(fleet.asked().iter().sum::<usize>(), usize::try_from(MAX_ATTEMPTS).unwrap());
    assert!(fleet.asked().iter().filter(|asked| **asked > 0).count() >= MAX_TURNS);
    fleet.stop().await;
    let fleet = Fleet::of(&[]);
    let first = down();
    let api = fleet.api(Some(first.clone()));
    let failure = get(&api).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.to_string().contains(&first.to_string()), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn the_last_try_has_the_time_of_a_slow_network_and_all_that_were_asked_are_named() {
    let silent = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let [first, second] = silent.each_ref().map(url);
    let servers = KnownServers::new(first.clone(), vec![second.clone()]);
    let authority = Fleet::of(&[]).authority;
    let api = Api::new(servers, CaFingerprint(authority.fingerprint()), None).unwrap();
    let began = tokio::time::Instant::now();
    let failure = get(&api).await.unwrap_err();
    let turns = CONNECT_TURN * (2 * MAX_ATTEMPTS - 1);
    let took = began.elapsed();
    assert!(took >= turns + CONNECT_TIMEOUT && took < turns + 2 * CONNECT_TIMEOUT, "{took:?}");
    for server in [first, second] {
        assert!(failure.to_string().contains(&server.to_string()), "{failure}");
    }
}

#[tokio::test]
async fn a_stream_of_events_begins_at_a_server_that_serves_it() {
    for manner in [Manner::Says(ProblemCode::Unavailable), Manner::Gateway] {
        let expired = Manner::Says(ProblemCode::PositionTooOld);
        let fleet = Fleet::of(&[manner, expired]);
        let api = fleet.api(Some(down()));
        let failure = api.events(&EventId::at(CLUSTER, 1), Vec::new()).next().await;
        // Whatever the other one says is said to the caller.
        assert_eq!(failure.unwrap_err().exit, Exit::Failed);
        assert_eq!(fleet.asked()[1], 1);
        fleet.stop().await;
    }
}
