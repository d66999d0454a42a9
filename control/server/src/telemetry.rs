//! Log lines, and traces over OTLP when the standard variables ask for them.
//!
//! `RAP_LOG` filters like `RUST_LOG`; `RAP_LOG_FORMAT=json` writes JSON lines. Traces go out when
//! `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` form) is set.

use std::env;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Flushes what was not sent yet when dropped.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Takes effect for the whole process; only programs call this.
pub fn start(service: &'static str) -> Telemetry {
    let filter = EnvFilter::try_from_env("RAP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = if env::var("RAP_LOG_FORMAT").is_ok_and(|format| format == "json") {
        fmt::layer().json().with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().with_writer(std::io::stderr).boxed()
    };
    let provider = traces(service);
    let traced = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(traced).try_init();
    Telemetry { provider }
}

fn traces(service: &'static str) -> Option<SdkTracerProvider> {
    let asked = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .iter()
        .any(|name| env::var_os(name).is_some());
    if !asked {
        return None;
    }
    match SpanExporter::builder().with_http().build() {
        Ok(exporter) => Some(
            SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(Resource::builder().with_service_name(service).build())
                .build(),
        ),
        Err(error) => {
            eprintln!("traces are not exported: {error}");
            None
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            eprintln!("some traces were not exported: {error}");
        }
    }
}
