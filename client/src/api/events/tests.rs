//! How a stream is resumed, against a control plane that answers by a script.
#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
    time::Instant,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use rap_pki::{ClusterAuthority, tls};
use rap_proto::{ClusterId, Signer as _, api::SecretText, key::LocalKey};
use serde_json::json;

use super::*;
use crate::{api::KnownServers, args::CaFingerprint};

const CLUSTER: ClusterId = ClusterId::from_u128(3);
const IMPRINT: &str = "001f0203040506ff";

enum Reply {
    /// 410 with this rule.
    Gone(&'static str),
    /// A stream that ends after this.
    Stream(String),
}

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    /// The ids behind which a stream was asked for.
    asked: Vec<String>,
}

struct Server {
    script: Arc<Mutex<Script>>,
    handle: ServerHandle,
    api: Api,
}

impl Server {
    fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies = replies.into_iter().collect();
        let script = Arc::new(Mutex::new(Script { replies, asked: Vec::new() }));
        let key = LocalKey::from_random(&[7; 32]).unwrap();
        let now = rap_control::now();
        let authority = ClusterAuthority::create(CLUSTER, &key, [1; 16], now);
        let names = ["localhost".to_owned()];
        let lifetime = Duration::from_secs(3_600);
        let leaf =
            authority.issue_server(&names, &key.public_key(), [2; 16], now, lifetime).unwrap();
        let chain = vec![leaf, authority.certificate_der().to_vec()];
        let identity = tls::Identity { chain, key };
        let tls = tls::server(&identity, tls::ClientAuth::None, &[b"http/1.1"]).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let shared = Arc::clone(&script);
        let server = HttpServer::new(move || {
            let shared = web::Data::from(Arc::clone(&shared));
            App::new().app_data(shared).default_service(web::to(answer))
        });
        let server = server.workers(1).disable_signals();
        let server = server.listen_rustls_0_23(listener, tls).unwrap().run();
        let handle = server.handle();
        tokio::spawn(server);
        let ca = CaFingerprint(authority.fingerprint());
        let api =
            Api::new(KnownServers::one(url.parse().unwrap()), ca, Some(SecretText::new("any")))
                .unwrap();
        Self { script, handle, api }
    }

    /// Follows behind position 41, with an imprint, up to the next event.
    async fn follow(self) -> (Result<u64, Failure>, Vec<String>) {
        let start: EventId = whole().parse().unwrap();
        let next = self.api.events(&start, Vec::new()).next().await;
        self.handle.stop(false).await;
        let asked = std::mem::take(&mut self.script.lock().unwrap().asked);
        (next.map(|event| event.position), asked)
    }
}

async fn answer(request: HttpRequest, script: web::Data<Mutex<Script>>) -> HttpResponse {
    let mut script = script.lock().unwrap();
    let id = request.headers().get("last-event-id").unwrap();
    script.asked.push(id.to_str().unwrap().to_owned());
    match script.replies.pop_front().unwrap() {
        Reply::Stream(text) => HttpResponse::Ok().content_type("text/event-stream").body(text),
        Reply::Gone(rule) => {
            let problem = Problem::new(ProblemCode::PositionTooOld, "begin anew").rule(rule);
            HttpResponse::Gone().json(problem)
        }
    }
}

fn alone() -> String {
    format!("{CLUSTER}:41")
}

fn whole() -> String {
    format!("{CLUSTER}:41:{IMPRINT}")
}

fn event(position: u64) -> Reply {
    let id = "00000000-0000-0000-0000-000000000001";
    let data = json!({
        "position": position, "category": "organization", "stream": id, "revision": 1,
        "type": "organization.created", "schema": 1, "organization": null,
        "actor": {"kind": "setup"}, "command": id, "at": "2026-01-01T00:00:00Z", "payload": {},
    });
    Reply::Stream(format!(
        "id: {CLUSTER}:{position}\nevent: organization.created\ndata: {data}\n\n"
    ))
}

fn bookmark() -> Reply {
    Reply::Stream(format!("id: {CLUSTER}:50:{IMPRINT}\nevent: bookmark\ndata: {{}}\n\n"))
}

#[tokio::test]
async fn a_replica_that_cannot_read_the_id_is_asked_once_for_what_follows_the_position() {
    let (next, asked) = Server::start([Reply::Gone(UNREADABLE_EVENT_ID), event(42)]).follow().await;
    assert_eq!((next, asked), (Ok(42), vec![whole(), alone()]));

    let gone = [UNREADABLE_EVENT_ID; 2].map(Reply::Gone);
    let (next, asked) = Server::start(gone).follow().await;
    assert!(next.is_err());
    assert_eq!(asked, [whole(), alone()]);
}

#[tokio::test]
async fn what_a_log_lost_is_told_as_a_possibility_and_never_passed_over() {
    let (next, asked) = Server::start([Reply::Gone("last_event_id")]).follow().await;
    let failure = next.unwrap_err().to_string();
    assert!(failure.contains("perhaps the control plane's database lost events"), "{failure}");
    assert_eq!(asked, [whole()]);
}

#[tokio::test]
async fn a_stream_that_ends_without_a_message_is_opened_again_after_a_pause() {
    let begun = Instant::now();
    let silent = || Reply::Stream(": the log from here on\n\n".to_owned());
    let (next, asked) = Server::start([silent(), silent(), event(42)]).follow().await;
    assert_eq!((next, asked.len()), (Ok(42), 3));
    assert!(begun.elapsed() >= RESUME_PAUSE * 2);

    let (next, asked) = Server::start([bookmark(), event(51)]).follow().await;
    assert_eq!((next, asked), (Ok(51), vec![whole(), format!("{CLUSTER}:50:{IMPRINT}")]));
}

#[test]
fn fields_of_the_stream() {
    assert_eq!(field("data: {}", "data"), Some("{}"));
    assert_eq!(field("data:{}", "data"), Some("{}"));
    assert_eq!(field("database: x", "data"), None);
    assert_eq!(field(": keep-alive", "data"), None);
}
