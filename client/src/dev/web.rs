//! The demo web application: a private target with a page and a stream of events.

use std::{
    net::SocketAddr,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use actix_web::{
    App, HttpResponse, HttpServer, Responder,
    dev::ServerHandle,
    web::{self, Bytes},
};
use futures_util::stream;

use crate::failure::Failure;

/// The page at `/`.
pub(super) const PAGE: &str = "\
<!doctype html>
<html lang=\"en\">
<title>demo-web</title>
<h1>It works</h1>
<p>This page listens on loopback only. You see it because a policy lets you: your request went
from the client to the entry, through the mesh to the egress node, and its adapter worker
dialled this address.</p>
<p>A stream of events is at <a href=\"/events\">/events</a>.</p>
</html>
";

/// How many events one stream sends before it ends.
const MAX_TICKS: u32 = 3_600;
const TICK: Duration = Duration::from_secs(1);

/// The application on a thread of its own; it ends when this is stopped.
pub(super) struct DemoWeb {
    server: ServerHandle,
    thread: JoinHandle<()>,
}

impl DemoWeb {
    pub(super) fn start(address: SocketAddr) -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("demo-web".to_owned())
            .spawn(move || {
                actix_rt::System::new().block_on(async move {
                    match listen(address) {
                        Ok(server) => {
                            // The other end waits for exactly this.
                            let _ = sender.send(Ok(server.handle()));
                            let _ = server.await;
                        }
                        Err(error) => {
                            let _ = sender.send(Err(error));
                        }
                    }
                });
            })
            .map_err(|error| Failure::io("the demo web application cannot start", &error))?;
        let started =
            receiver.recv().map_err(|_| Failure::unavailable("demo-web did not start"))?;
        let server = started.map_err(|error| {
            Failure::io(format!("the demo web application cannot listen on {address}"), &error)
        })?;
        Ok(Self { server, thread })
    }

    pub(super) async fn stop(self) {
        self.server.stop(false).await;
        // It ended by itself or it panicked; there is nobody left to tell.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

fn listen(address: SocketAddr) -> std::io::Result<actix_web::dev::Server> {
    let server = HttpServer::new(|| {
        App::new().route("/", web::get().to(page)).route("/events", web::get().to(events))
    });
    Ok(server.workers(1).disable_signals().shutdown_timeout(1).bind(address)?.run())
}

async fn page() -> impl Responder {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(PAGE)
}

/// Server-sent events, one a second.
async fn events() -> impl Responder {
    let ticks = stream::unfold(1_u32, |number| async move {
        if number > MAX_TICKS {
            return None;
        }
        if number > 1 {
            tokio::time::sleep(TICK).await;
        }
        let event = Bytes::from(format!("data: tick {number}\n\n"));
        Some((Ok::<_, actix_web::Error>(event), number + 1))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(ticks)
}
