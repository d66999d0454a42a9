//! Answers whoever reads metrics: HTTP, one request for each connection, few at a time.

use std::{
    convert::Infallible,
    fs,
    io::{self, ErrorKind},
    net,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as BlockingUnixStream,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::render;
use crate::{MetricsAt, board::Board, clock::Clock};

/// The most requests that are answered at once; further ones wait in the kernel.
pub(crate) const MAX_SCRAPES: usize = 4;
/// How long one request may take, its answer included.
pub(crate) const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest head of a request; hyper takes no smaller limit.
pub(crate) const MAX_HEAD_BYTES: usize = 8 * 1024;
/// How long to wait after the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Opens the place. A socket file that nobody listens on is replaced; whatever else has that name
/// stays.
pub(crate) fn bind(at: &MetricsAt) -> io::Result<Listener> {
    match at {
        MetricsAt::Tcp(address) => {
            let listener = net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Listener::Tcp(TcpListener::from_std(listener)?))
        }
        MetricsAt::Unix(path) => {
            make_room(path)?;
            let listener = UnixListener::bind(path)?;
            // The group may read, as it may not read the status: nobody is named here.
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
            Ok(Listener::Unix(listener))
        }
    }
}

fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(ErrorKind::AlreadyExists.into()),
        Ok(_) if BlockingUnixStream::connect(path).is_ok() => Err(ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}

/// Answers for as long as this is polled; what is being answered ends with it.
pub(crate) async fn serve(listener: Listener, board: Board, clock: Clock) {
    let places = Arc::new(Semaphore::new(MAX_SCRAPES));
    let mut answers = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while answers.try_join_next().is_some() {}
        let board = board.clone();
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                answers.spawn(async move {
                    answer(stream, board, clock).await;
                    drop(place);
                })
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                answers.spawn(async move {
                    answer(stream, board, clock).await;
                    drop(place);
                })
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a request for metrics was not accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

pub(super) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    board: Board,
    clock: Clock,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, &board, clock);
        async { Ok::<_, Infallible>(response) }
    });
    let answering = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(SCRAPE_TIMEOUT, answering).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for metrics failed"),
        Err(_) => tracing::debug!("a request for metrics took too long"),
    }
}

fn respond(request: &Request<Incoming>, board: &Board, clock: Clock) -> Response<Full<Bytes>> {
    let plain = |status, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are read by GET\n");
        response.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("two methods are a value"));
        return response;
    }
    let text = render(&board.read(), clock.now());
    let mut response = Response::new(Full::from(text));
    let kind = "text/plain; version=0.0.4".parse().expect("a type of media is a value");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
