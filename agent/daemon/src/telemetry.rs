//! Logs and traces of the process. The program sets them up once; the library only writes to
//! whatever its caller set up.
//!
//! Once the host has joined, both name the cluster: each line in its field `cluster`, each trace in
//! the attribute `rap.cluster.id` of its resource.

mod lines;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, env, io, time::Duration};

use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator as _,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    runtime,
    trace::{SdkTracerProvider, span_processor_with_async_runtime::BatchSpanProcessor},
};
use rap_proto::ClusterId;
use serde::Deserialize;
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use lines::OfCluster;

/// Where spans are sent, as OpenTelemetry's specification names it.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The semantic conventions of OpenTelemetry have no word for it.
const CLUSTER_ATTRIBUTE: &str = "rap.cluster.id";
/// The longest trace context that is looked at (W3C Trace Context, version 00).
const MAX_TRACEPARENT: usize = 55;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("spans cannot be exported: {0}")]
    Exporter(#[from] ExporterBuildError),
    #[error("spans cannot be exported: {0}")]
    Runtime(#[from] io::Error),
    #[error("logging was set up before")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends what is left when it is dropped.
#[derive(Default)]
pub struct TelemetryGuard {
    export: Option<(SdkTracerProvider, Runtime)>,
}

/// Sets up logs on standard error and, when `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector,
/// traces over OTLP/HTTP. Once per process, by its program. The cluster is `None` before the host
/// has joined one.
pub fn init(
    format: LogFormat,
    filter: &str,
    cluster: Option<ClusterId>,
) -> Result<TelemetryGuard, TelemetryError> {
    let filter = EnvFilter::try_new(filter)?;
    let logs = lines_of(cluster, format, io::stderr);
    let export = env::var(ENDPOINT).ok().filter(|endpoint| !endpoint.is_empty());
    let export = export.map(|endpoint| exporter(&endpoint, cluster)).transpose()?;
    let traces = export.as_ref().map(|(provider, _)| {
        tracing_opentelemetry::layer::<_>().with_tracer(provider.tracer("rap-node-agent"))
    });
    Registry::default()
        .with(traces.with_filter(filter.clone()))
        .with(logs.with_filter(filter))
        .try_init()?;
    Ok(TelemetryGuard { export })
}

fn lines_of<S, W>(
    cluster: Option<ClusterId>,
    form: LogFormat,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    match form {
        LogFormat::Text => {
            layer.event_format(OfCluster { format: fmt::format(), form, cluster }).boxed()
        }
        LogFormat::Json => {
            let format = OfCluster { format: fmt::format().json(), form, cluster };
            layer.json().event_format(format).boxed()
        }
    }
}

fn exporter(
    endpoint: &str,
    cluster: Option<ClusterId>,
) -> Result<(SdkTracerProvider, Runtime), TelemetryError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("otlp")
        .enable_all()
        .build()?;
    // The exporter's HTTP client takes the process' provider. There is one already when a program
    // made it; that one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let entered = runtime.enter();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let processor = BatchSpanProcessor::builder(exporter, runtime::Tokio).build();
    drop(entered);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(resource(cluster))
        .build();
    Ok((provider, runtime))
}

fn resource(cluster: Option<ClusterId>) -> Resource {
    let cluster = cluster.map(|cluster| KeyValue::new(CLUSTER_ATTRIBUTE, cluster.to_string()));
    Resource::builder().with_service_name("rap-node-agent").with_attributes(cluster).build()
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some((provider, runtime)) = self.export.take() {
            if let Err(error) = provider.shutdown() {
                tracing::debug!(%error, "the last spans were not sent");
            }
            runtime.shutdown_timeout(EXPORT_TIMEOUT);
        }
    }
}

/// Makes `span` a child of the trace context that came with a request, and returns the context to
/// pass on: the span's own, or the given one where nobody traces here.
pub(crate) fn continue_trace(span: &tracing::Span, traceparent: Option<&str>) -> Option<String> {
    let traceparent = traceparent.filter(|text| text.len() <= MAX_TRACEPARENT)?;
    let propagator = TraceContextPropagator::new();
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let parent = propagator.extract(&carrier);
    if !parent.span().span_context().is_valid() {
        return None;
    }
    if span.set_parent(parent).is_err() {
        return Some(traceparent.to_owned());
    }
    let mut carrier = HashMap::new();
    propagator.inject_context(&span.context(), &mut carrier);
    carrier.remove("traceparent").or_else(|| Some(traceparent.to_owned()))
}
