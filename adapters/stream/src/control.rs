//! The control connection: the agent's hold on this worker.

use std::{io, time::Duration};

use rap_adapter_contract::{ControlEvent, ControlRequest, limit};
use rap_proto::{RefusalCode, ResourceKind, refusal::Refusal};
use tokio::net::{UnixStream, unix::OwnedWriteHalf};

use crate::{frames, worker::Shared};

/// How long the agent may take to read an event before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the control connection to its end, which is the worker's end too.
pub(crate) async fn serve(shared: &Shared, mut stream: UnixStream, format: u16) {
    if let Err(refusal) = admit(shared, format) {
        tracing::warn!(code = %refusal.code, "a control connection was refused");
        let _ = frames::write(&mut stream, &ControlEvent::Refused(refusal)).await;
        return;
    }
    shared.attached.cancel();
    tokio::select! {
        result = attend(shared, stream) => match result {
            Ok(()) => tracing::info!("the control connection closed"),
            Err(error) => tracing::warn!(%error, "the control connection failed"),
        },
        () = shared.stop.now() => {}
    }
    shared.stop.ask(Duration::ZERO);
}

fn admit(shared: &Shared, format: u16) -> Result<(), Refusal> {
    if format != limit::FORMAT {
        let message = format!("this worker speaks format {} of the contract", limit::FORMAT);
        return Err(Refusal::new(RefusalCode::Malformed, message));
    }
    match shared.control.try_acquire() {
        Ok(permit) => {
            permit.forget();
            Ok(())
        }
        Err(_) => {
            Err(Refusal::new(RefusalCode::LimitReached, "there is a control connection already"))
        }
    }
}

async fn attend(shared: &Shared, stream: UnixStream) -> Result<(), frames::ReadError> {
    let (reader, mut writer) = stream.into_split();
    let hello = ControlEvent::Hello {
        format: limit::FORMAT,
        kinds: ResourceKind::ALL.iter().copied().collect(),
        max_channels: u32::try_from(shared.max_channels).unwrap_or(u32::MAX),
    };
    send(&mut writer, &hello).await?;
    let mut reader = tokio::io::BufReader::new(reader);
    let mut told = false;
    loop {
        // Reading is not cancel-safe, so one read stays under way while a stop is announced.
        let mut reading = std::pin::pin!(frames::read(&mut reader));
        let request = loop {
            tokio::select! {
                request = &mut reading => break request?,
                () = shared.stop.asked(), if !told => {
                    told = true;
                    send(&mut writer, &ControlEvent::Stopping).await?;
                }
            }
        };
        match request {
            None => return Ok(()),
            Some(ControlRequest::Ping { number }) => {
                let open_channels = u32::try_from(shared.open_channels()).unwrap_or(u32::MAX);
                send(&mut writer, &ControlEvent::Pong { number, open_channels }).await?;
            }
            Some(ControlRequest::Shutdown { grace_ms }) => {
                shared.stop.ask(Duration::from_millis(grace_ms.min(limit::MAX_SHUTDOWN_GRACE_MS)));
            }
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, event: &ControlEvent) -> io::Result<()> {
    tokio::time::timeout(WRITE_TIMEOUT, frames::write(writer, event))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
