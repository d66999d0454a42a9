//! Log lines that name their cluster.

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

/// What a line of the inner format is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    /// One object.
    Json,
}

/// Lines of another format, each with the field `cluster`.
pub(crate) struct OfCluster<F> {
    pub(crate) format: F,
    pub(crate) form: Form,
    pub(crate) cluster: ClusterId,
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
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let (line, cluster) = (line.trim_end_matches('\n'), self.cluster);
        match (self.form, line.strip_prefix('{')) {
            // The object has a timestamp at least.
            (Form::Json, Some(rest)) => writeln!(writer, "{{\"cluster\":\"{cluster}\",{rest}"),
            (Form::Json, None) | (Form::Text, _) => writeln!(writer, "{line} cluster={cluster}"),
        }
    }
}
