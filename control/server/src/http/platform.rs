//! What load balancers ask for: no login, and nothing about anybody.

use std::sync::Arc;

use actix_web::HttpResponse;
use rap_proto::api::AuthorityState;

use crate::app::App;

/// How far the projections may be behind the log while the server is ready.
const MAX_LAG: u64 = 10_000;

/// The process answers.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// The log can be read, the projections are near its end, and every actor lives. The text says
/// whether there is a quorum, and what keeps tree heads from being sealed.
pub(super) async fn readyz(app: Arc<App>) -> HttpResponse {
    let position = app.state().position();
    let unready = |reason: &str| {
        let mut response = HttpResponse::ServiceUnavailable();
        response.content_type("text/plain").body(format!("{reason}\n"))
    };
    if let Some(corrupt) = app.halted() {
        return unready(corrupt.explanation());
    }
    match app.log.head().await {
        Err(_) => unready("the log cannot be read"),
        Ok(head) if head > position + MAX_LAG => unready("the projections are behind"),
        Ok(_) if app.refuted().is_some() => unready("the log is not the one that nodes saw"),
        Ok(_) if !*app.healthy.borrow() => unready("an actor is down"),
        Ok(_) => HttpResponse::Ok().content_type("text/plain").body(ready_text(&app)),
    }
}

fn ready_text(app: &App) -> String {
    let mut text = String::from(match app.beat.state() {
        AuthorityState::Quorum => "ready\n",
        AuthorityState::NoQuorum => "ready; one replica, no quorum\n",
        // It still answers, and takes authority away: send it what nobody else answers.
        AuthorityState::Frozen => "ready; frozen: too few replicas see the database\n",
    });
    if let Some(obstacle) = app.sealing.obstacle() {
        text.push_str(&format!("no tree head is sealed: {}\n", obstacle.explanation()));
    }
    text
}
