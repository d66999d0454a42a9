//! Resolving a target and dialling it, within the address rules.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rap_adapter_contract::{check_address, check_host, limit};
use rap_proto::{RefusalCode, refusal::Refusal};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

/// How many names are resolved at once. A resolver that hangs holds its thread, so this is what
/// bounds them.
pub const MAX_RESOLUTIONS: usize = 64;
/// After how long without a byte the target is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

pub(crate) struct Dialler {
    resolutions: Arc<Semaphore>,
    dial_timeout: Duration,
}

impl Dialler {
    pub(crate) fn new(dial_timeout: Duration) -> Self {
        Self { resolutions: Arc::new(Semaphore::new(MAX_RESOLUTIONS)), dial_timeout }
    }

    /// Resolves `host`, checks every address, and dials exactly those, in order, until one
    /// answers.
    pub(crate) async fn dial(
        &self,
        host: &str,
        port: u16,
        allow_local: bool,
    ) -> Result<TcpStream, Refusal> {
        check_host(host)
            .and(if port == 0 { Err(RefusalCode::Malformed) } else { Ok(()) })
            .map_err(|code| Refusal::new(code, "the resource's address is not well-formed"))?;
        let addresses = self.resolve(host, port).await?;
        for address in &addresses {
            check_address(address.ip(), allow_local).map_err(|code| {
                Refusal::new(code, "the resource's address is one that must not be dialled")
            })?;
        }
        let stream = self.connect(&addresses).await?;
        if let Err(error) = tune(&stream) {
            tracing::warn!(%error, "the target's socket keeps its defaults");
        }
        Ok(stream)
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address.to_canonical(), port)]);
        }
        let permit = Arc::clone(&self.resolutions).try_acquire_owned().map_err(|_| {
            let message = format!("{MAX_RESOLUTIONS} names are being resolved already");
            Refusal::new(RefusalCode::LimitReached, message)
        })?;
        let question = (host.to_owned(), port);
        let resolving = tokio::task::spawn_blocking(move || {
            let found = question.to_socket_addrs().map(|all| {
                let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
                all.take(limit::MAX_ADDRESSES).map(canonical).collect::<Vec<_>>()
            });
            drop(permit);
            found
        });
        let patience = Duration::from_millis(limit::RESOLVE_TIMEOUT_MS);
        match timeout(patience, resolving).await {
            Ok(Ok(Ok(found))) if !found.is_empty() => Ok(found),
            Ok(_) => Err(unreachable("the resource's name does not resolve")),
            Err(_) => Err(unreachable("the resource's name did not resolve in time")),
        }
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Refusal> {
        let deadline = Instant::now() + self.dial_timeout;
        let mut refusal = unreachable("the resource has no address");
        for address in addresses {
            match timeout_at(deadline, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let message = "the resource refused the connection";
                    refusal = Refusal::new(RefusalCode::TargetRefused, message);
                }
                Ok(Err(_)) => refusal = unreachable("the resource cannot be reached"),
                Err(_) => return Err(unreachable("the resource did not answer in time")),
            }
        }
        Err(refusal)
    }
}

fn unreachable(message: &str) -> Refusal {
    Refusal::new(RefusalCode::TargetUnreachable, message)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}
