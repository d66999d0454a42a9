//! Log lines, and traces over OTLP when the standard variables ask for them.
//!
//! `RAP_LOG` filters like `RUST_LOG`; `RAP_LOG_FORMAT=json` writes JSON lines. Traces go out when
//! `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` form) is set. Both name the cluster: each line in
//! its field `cluster`, each trace in the attribute `rap.cluster.id` of its resource.

mod lines;

#[cfg(test)]
mod tests;

use std::env;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource, runtime,
    trace::{SdkTracerProvider, span_processor_with_async_runtime::BatchSpanProcessor},
};
use rap_proto::ClusterId;
use tokio::runtime::{Builder, Runtime};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use lines::{Form, OfCluster};

/// The semantic conventions of OpenTelemetry have no word for it.
const CLUSTER_ATTRIBUTE: &str = "rap.cluster.id";

/// Flushes what was not sent yet when dropped.
#[derive(Debug, Default)]
pub struct Telemetry {
    export: Option<(SdkTracerProvider, Runtime)>,
}

/// Takes effect for the whole process; only programs call this.
pub fn start(service: &'static str, cluster: ClusterId) -> Telemetry {
    let filter = EnvFilter::try_from_env("RAP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = env::var("RAP_LOG_FORMAT").is_ok_and(|format| format == "json");
    let form = if json { Form::Json } else { Form::Text };
    let lines = lines_of(cluster, form, std::io::stderr);
    let export = traces(service, cluster);
    let traced = export
        .as_ref()
        .map(|(provider, _)| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(traced).try_init();
    Telemetry { export }
}

fn lines_of<S, W>(cluster: ClusterId, form: Form, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match form {
        Form::Text => {
            let format = OfCluster { format: fmt::format(), form, cluster };
            layer.event_format(format).boxed()
        }
        Form::Json => {
            let format = OfCluster { format: fmt::format().json(), form, cluster };
            layer.json().event_format(format).boxed()
        }
    }
}

/// The provider, and the runtime that its exporter sends on.
fn traces(service: &'static str, cluster: ClusterId) -> Option<(SdkTracerProvider, Runtime)> {
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
        .with_resource(resource(service, cluster))
        .build();
    Some((provider, runtime))
}

fn resource(service: &'static str, cluster: ClusterId) -> Resource {
    let cluster = KeyValue::new(CLUSTER_ATTRIBUTE, cluster.to_string());
    Resource::builder().with_service_name(service).with_attribute(cluster).build()
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
