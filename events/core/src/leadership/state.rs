use rap_proto::Duty;

use crate::lease::Tenure;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// `None` before it was granted for the first time.
    pub duty: Option<Duty>,
    pub tenure: Tenure,
}
