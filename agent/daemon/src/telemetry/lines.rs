//! Log lines that name their cluster. Control's are alike.

use std::fmt;

use rap_proto::ClusterId;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatFields,
        format::{FormatEvent, Writer},
    },
    registry::LookupSpan,
};

use super::LogFormat;

/// Lines of another format, each with the field `cluster` where that is known.
pub(crate) struct OfCluster<F> {
    pub(crate) format: F,
    pub(crate) form: LogFormat,
    pub(crate) cluster: Option<ClusterId>,
}

impl<S, N, F> FormatEvent<S, N> for OfCluster<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(cluster) = self.cluster else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match (self.form, line.strip_prefix('{')) {
            // The object has a timestamp at least.
            (LogFormat::Json, Some(rest)) => writeln!(writer, "{{\"cluster\":\"{cluster}\",{rest}"),
            (LogFormat::Json, None) | (LogFormat::Text, _) => {
                writeln!(writer, "{line} cluster={cluster}")
            }
        }
    }
}
