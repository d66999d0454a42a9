//! `rap dev`: a whole fabric in this process.
//!
//! Nothing here is a shortcut: the control plane serves HTTPS, the nodes enroll with join tokens
//! and fetch signed snapshots, QUIC runs over loopback, and this program sets everything up
//! through the same API that an administrator uses.

mod banner;
mod control;
mod nodes;
mod people;
mod place;
mod sshd;
mod targets;
mod web;

use std::{
    env,
    ffi::OsStr,
    future::Future,
    path::Path,
    process::{ExitCode, exit},
    time::Instant,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{args::Dev, command::Context, failure::Failure};

use banner::Ready;
use control::Control;
use nodes::Nodes;
use people::People;
use place::Place;
use targets::Targets;

/// The name under which this program is an adapter worker.
const WORKER_NAME: &str = "rap-stream-worker";
/// What a worker of a development fabric logs, unless RAP_LOG says otherwise.
const WORKER_LOG: &str = "error";
/// The exit code of a program that a second Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Whether this process was started as an adapter worker, by an agent of `rap dev`.
pub(crate) fn is_worker_process() -> bool {
    let name = env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name() == Some(OsStr::new(WORKER_NAME)))
}

pub(crate) fn work() -> ExitCode {
    rap_stream_worker::program::main(WORKER_LOG)
}

pub(crate) fn run(context: &Context, arguments: &Dev) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the program cannot start its threads", &error))?;
    runtime.block_on(serve(context, arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(context: &Context, arguments: &Dev) -> Result<(), Failure> {
    let mut progress = Progress { started: Instant::now() };
    let stopping = asked_to_stop()?;
    tokio::pin!(stopping);
    let place = Place::prepare(arguments.data_dir.as_deref())?;
    banner::start(&place);
    let mut fabric = Fabric::default();
    let started = tokio::select! {
        started = fabric.start(&place, arguments, &mut progress) => started.map(Some),
        () = &mut stopping => Ok(None),
    };
    let result = match started {
        Ok(Some(ready)) => {
            let shown = ready.show(context.format());
            if shown.is_ok() {
                stopping.await;
            }
            shown
        }
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    eprintln!("stopping");
    fabric.stop().await;
    result
}

/// Everything that runs, as far as it was started.
#[derive(Default)]
struct Fabric {
    targets: Option<Targets>,
    control: Option<Control>,
    nodes: Nodes,
}

impl Fabric {
    async fn start(
        &mut self,
        place: &Place,
        arguments: &Dev,
        progress: &mut Progress,
    ) -> Result<Ready, Failure> {
        let remembered = place.remembered()?;
        let ports = &remembered.ports;
        let targets = self.targets.insert(Targets::start(place, ports).await?);
        progress.step(&targets.describe());
        let control = self.control.insert(Control::start(place, arguments, ports).await?);
        progress.step(&format!("the control plane answers at {}", control.url));
        let people = People::set_up(control, &remembered).await?;
        progress.step("there are the organization demo and the user alice");
        let joined = self.nodes.join(place, control, &people, ports).await?;
        progress.step(&format!("three nodes are enrolled, {joined} of them now"));
        self.nodes.start(place, control, ports).await?;
        progress.step("entry, relay and egress run on their signed snapshots");
        people.create_resources(targets).await?;
        people.keep_logins(place, control, targets)?;
        progress.step("there are resources, and a policy that lets alice reach them");
        people.try_out(control).await?;
        progress.step("a request went through the fabric and came back");
        Ok(Ready::new(place, control, targets, &remembered))
    }

    /// Stops in the order in which nothing misses what it needs.
    async fn stop(&mut self) {
        self.nodes.stop().await;
        if let Some(control) = self.control.take() {
            control.stop().await;
        }
        if let Some(targets) = self.targets.take() {
            targets.stop().await;
        }
    }
}

/// Says how far the start is, and how long it took.
struct Progress {
    started: Instant,
}

impl Progress {
    fn step(&mut self, what: &str) {
        eprintln!("[{:5.1} s] {what}", self.started.elapsed().as_secs_f64());
    }
}

/// Resolves when the person, or whoever started this, wants it to end. From then on, being asked
/// again ends the process at once.
fn asked_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error: std::io::Error| Failure::io("signals cannot be awaited", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            exit(INTERRUPTED);
        });
    })
}
