//! Log lines, and traces over OTLP when the standard variables ask for them.
//!
//! `RAP_LOG` filters like `RUST_LOG`; `RAP_LOG_FORMAT=json` writes JSON lines. Traces go out when
//! `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` form) is set.

use std::env;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource, runtime,
    trace::{SdkTracerProvider, span_processor_with_async_runtime::BatchSpanProcessor},
};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Flushes what was not sent yet when dropped.
#[derive(Debug, Default)]
pub struct Telemetry {
    export: Option<(SdkTracerProvider, Runtime)>,
}

/// Takes effect for the whole process; only programs call this.
pub fn start(service: &'static str) -> Telemetry {
    let filter = EnvFilter::try_from_env("RAP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = if env::var("RAP_LOG_FORMAT").is_ok_and(|format| format == "json") {
        fmt::layer().json().with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().with_writer(std::io::stderr).boxed()
    };
    let export = traces(service);
    let traced = export
        .as_ref()
        .map(|(provider, _)| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(traced).try_init();
    Telemetry { export }
}

/// The provider, and the runtime that its exporter sends on.
fn traces(service: &'static str) -> Option<(SdkTracerProvider, Runtime)> {
    let asked = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .iter()
        .any(|name| env::var_os(name).is_some());
    if !asked {
        return None;
    }
    // The exporter's HTTP client takes the process' provider. There is one already when a program
    // made it; that one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime =
        runtime.inspect_err(|error| eprintln!("traces are not exported: {error}")).ok()?;
    let entered = runtime.enter();
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.inspect_err(|error| eprintln!("traces are not exported: {error}"));
    let processor = BatchSpanProcessor::builder(exporter.ok()?, runtime::Tokio).build();
    drop(entered);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    Some((provider, runtime))
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some((provider, runtime)) = self.export.take() {
            if let Err(error) = provider.shutdown() {
                eprintln!("some traces were not exported: {error}");
            }
            // Everything was sent by now, and this may be dropped where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}
