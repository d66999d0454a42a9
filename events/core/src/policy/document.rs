use rap_proto::{Name, Verdict, WeekHour};
use serde::{Deserialize, Serialize};

/// The longest text of a document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1_024;
/// The most tests of one document.
pub const MAX_DOCUMENT_TESTS: usize = 64;
/// The longest description of a test, in bytes.
pub const MAX_TEST_NAME_BYTES: usize = 128;

/// Rules in the Cedar language, and what they must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    pub text: String,
    pub tests: Vec<PolicyTest>,
}

/// One question to the organization's policies and the answer that they must give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTest {
    /// What it is about, in the author's words.
    pub name: String,
    /// The member who asks.
    pub user: Name,
    /// `reach`, or an action that rules can speak of.
    pub action: String,
    /// The resource that it is about.
    pub resource: Name,
    /// When; at every hour when absent.
    pub at: Option<WeekHour>,
    pub expect: Verdict,
}
