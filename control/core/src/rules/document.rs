use std::fmt;

use cedar_policy::{
    Effect, EntityUid, Policy as Rule, PolicyId as RuleId, PolicySet, ValidationMode,
};
use miette::Diagnostic;
use rap_proto::{Lane, Name, OrganizationId, OrganizationRole, PolicyId, token::STREAM_LANES};

use super::schema::{KINDS, VALIDATOR};
use crate::state::State;

/// The most rules of one document.
pub const MAX_DOCUMENT_RULES: usize = 32;
/// What a flaw quotes of the language's own words, in bytes.
const MAX_EXPLANATION_BYTES: usize = 400;
/// The annotation that names a rule.
const NAME: &str = "id";
/// The annotation that gives a lane.
const LANE: &str = "lane";

/// One rule of a document, ready to be asked.
#[derive(Debug, Clone)]
pub struct CompiledRule {
    /// Called `<policy>/<name>`.
    pub(super) rule: Rule,
    /// Its name within the document.
    pub name: String,
    /// Whether it asks what time it is.
    pub timed: bool,
    /// What whoever it permits to reach something may run streams on beside the usual lanes.
    pub lane: Option<Lane>,
    /// Where it begins: the first line is 1.
    line: usize,
}

/// Why a document is not accepted, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Flaw {
    /// The first line is 1.
    pub line: usize,
    /// The rule's name, where it is in one.
    pub rule: Option<String>,
    pub explanation: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(rule) = &self.rule {
            write!(f, ", rule {rule}")?;
        }
        write!(f, ": {}", self.explanation)
    }
}

/// Reads a document and checks it against the schema. A rule is called by its annotation
/// `@id("name")`, or `rule-1` by its place.
pub fn compile_document(policy: PolicyId, text: &str) -> Result<Vec<CompiledRule>, Flaw> {
    let parsed: PolicySet = text.parse().map_err(|error| flaw(text, &error, None))?;
    if let Some(template) = parsed.templates().next() {
        let line = line_of_statement(text, place(template.id()));
        return Err(Flaw::at(line, None, "a rule has no slots"));
    }
    let mut rules: Vec<CompiledRule> = Vec::new();
    let mut parts: Vec<&Rule> = parsed.policies().collect();
    parts.sort_by_key(|rule| place(rule.id()));
    if parts.is_empty() {
        return Err(Flaw::at(1, None, "there is no rule in the document"));
    }
    for (at, rule) in parts.into_iter().enumerate() {
        let line = line_of_statement(text, at);
        let name = name_of(rule, at).map_err(|why| Flaw::at(line, None, why))?;
        if rules.iter().any(|other| other.name == name) {
            return Err(Flaw::at(line, Some(name), "another rule has that name"));
        }
        if rules.len() == MAX_DOCUMENT_RULES {
            let why = format!("a document has at most {MAX_DOCUMENT_RULES} rules");
            return Err(Flaw::at(line, Some(name), &why));
        }
        let timed = rule.to_json().is_ok_and(|json| asks_context(&json));
        let lane = rule.annotation(LANE).and_then(|lane| lane_given(rule, lane));
        let rule = rule.new_id(RuleId::new(format!("{policy}/{name}")));
        rules.push(CompiledRule { rule, name, timed, lane, line });
    }
    validate(text, &rules)?;
    Ok(rules)
}

/// What a document names must be the organization's own: the first name that is not.
pub fn unknown_literal(
    state: &State,
    organization: OrganizationId,
    rules: &[CompiledRule],
) -> Option<Flaw> {
    rules.iter().find_map(|rule| {
        let unknown = |entity: &EntityUid| Literal::of(entity).is_unknown(state, organization);
        let entity = rule.rule.entity_literals().into_iter().find(unknown)?;
        let why = format!("{entity} is nothing of this organization's");
        Some(Flaw::at(rule.line, Some(rule.name.clone()), &why))
    })
}

/// The first rule that gives a lane which no rule can give. To those that ask, it gives none.
pub fn unknown_lane(rules: &[CompiledRule]) -> Option<Flaw> {
    let unknown =
        |rule: &&CompiledRule| rule.lane.is_none() && rule.rule.annotation(LANE).is_some();
    let why = "the lane that a rule can give is media, and one that forbids gives none";
    rules.iter().find(unknown).map(|rule| Flaw::at(rule.line, Some(rule.name.clone()), why))
}

/// Something that a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Literal {
    User(Option<Name>),
    Resource(Option<Name>),
    Role(Option<OrganizationRole>),
    Action,
    /// Organizations are not spoken of: every rule is about its own.
    Other,
}

impl Literal {
    fn of(entity: &EntityUid) -> Self {
        let id: &str = entity.id().as_ref();
        if KINDS.user.is_of(entity) {
            return Self::User(id.parse().ok());
        }
        if KINDS.resource.is_of(entity) {
            return Self::Resource(id.parse().ok());
        }
        if KINDS.role.is_of(entity) {
            return Self::Role(id.parse().ok());
        }
        // The schema knows the actions.
        if KINDS.action.is_of(entity) { Self::Action } else { Self::Other }
    }

    fn is_unknown(&self, state: &State, organization: OrganizationId) -> bool {
        let known = match self {
            Self::User(name) => name.as_ref().is_some_and(|name| {
                let user = state.users().named(name);
                user.is_some_and(|user| state.users().role(organization, user.id).is_some())
            }),
            Self::Resource(name) => name
                .as_ref()
                .is_some_and(|name| state.resources().named(organization, name).is_some()),
            Self::Role(role) => role.is_some(),
            Self::Action => true,
            Self::Other => false,
        };
        !known
    }
}

impl Flaw {
    fn at(line: usize, rule: Option<String>, explanation: &str) -> Self {
        Self { line, rule, explanation: explanation.to_owned() }
    }
}

fn validate(text: &str, rules: &[CompiledRule]) -> Result<(), Flaw> {
    let named = rules.iter().map(|rule| rule.rule.clone());
    let set = PolicySet::from_policies(named);
    let set = set.map_err(|error| Flaw::at(1, None, &error.to_string()))?;
    let result = VALIDATOR.validate(&set, ValidationMode::Strict);
    // The first in the text, so that the answer is the same each time.
    let flaws = result.validation_errors().map(|error| flaw(text, error, Some(rules)));
    flaws.min_by_key(|flaw| (flaw.line, flaw.explanation.clone())).map_or(Ok(()), Err)
}

fn flaw(
    text: &str,
    error: &(impl Diagnostic + fmt::Display),
    rules: Option<&[CompiledRule]>,
) -> Flaw {
    let offset = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let offset = offset.unwrap_or(0).min(text.len());
    let line = line_at(text, offset);
    let at = statement_at(text, offset);
    let rule = match rules {
        Some(rules) => rules.get(at).map(|rule| rule.name.clone()),
        None => Some(default_name(at)),
    };
    let mut explanation: String = error.to_string().replace(char::is_control, " ");
    if let Some(help) = error.help() {
        explanation = format!("{explanation} ({help})").replace(char::is_control, " ");
    }
    let end = (0..=MAX_EXPLANATION_BYTES.min(explanation.len()))
        .rev()
        .find(|end| explanation.is_char_boundary(*end));
    explanation.truncate(end.unwrap_or(0));
    Flaw { line, rule, explanation }
}

/// The place of a statement, which the parser calls `policy0`, `policy1` and so on.
fn place(id: &RuleId) -> usize {
    let text: &str = id.as_ref();
    text.trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

fn name_of(rule: &Rule, at: usize) -> Result<String, &'static str> {
    match rule.annotation(NAME) {
        None => Ok(default_name(at)),
        Some(name) => name
            .parse::<Name>()
            .map(|name| name.to_string())
            .map_err(|_| "a rule's name has the characters a to z, 0 to 9 and hyphens, 63 at most"),
    }
}

fn lane_given(rule: &Rule, lane: &str) -> Option<Lane> {
    let lane = lane.parse().ok()?;
    (rule.effect() == Effect::Permit && !STREAM_LANES.contains(&lane)).then_some(lane)
}

fn default_name(at: usize) -> String {
    format!("rule-{}", at + 1)
}

fn asks_context(json: &serde_json::Value) -> bool {
    match json {
        serde_json::Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| (key == "Var" && value == "context") || asks_context(value)),
        serde_json::Value::Array(items) => items.iter().any(asks_context),
        _ => false,
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Which statement an offset is in, counted from 0.
fn statement_at(text: &str, offset: usize) -> usize {
    ends(text).take_while(|end| *end < offset).count()
}

/// The line on which a statement begins.
fn line_of_statement(text: &str, at: usize) -> usize {
    let start =
        at.checked_sub(1).and_then(|before| ends(text).nth(before)).map_or(0, |end| end + 1);
    let blank = text.get(start..).map_or(0, |rest| rest.len() - rest.trim_start().len());
    line_at(text, start + blank)
}

/// Where statements end: at semicolons that are in no string and no comment.
fn ends(text: &str) -> impl Iterator<Item = usize> + '_ {
    let mut within = Within::Code;
    let mut last = '\0';
    text.char_indices().filter_map(move |(at, c)| {
        let before = std::mem::replace(&mut last, c);
        within = match (within, before, c) {
            (Within::Code, _, '"') => Within::Text,
            (Within::Code, '/', '/') => Within::Comment,
            (Within::Text, '\\', _) => {
                // What is escaped, a backslash too, means nothing to what follows.
                last = '\0';
                Within::Text
            }
            (Within::Text, _, '"') | (Within::Comment, _, '\n') => Within::Code,
            (same, ..) => same,
        };
        (matches!(within, Within::Code) && c == ';').then_some(at)
    })
}

#[derive(Clone, Copy)]
enum Within {
    Code,
    Text,
    Comment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_a_semicolon_of_the_code() {
        let text = "a // ; no\n \";\\\";\" ;\n\n  b\n;c";
        let lines = |at| line_of_statement(text, at);
        assert_eq!(ends(text).count(), 2);
        assert_eq!((lines(0), lines(1), lines(2)), (1, 4, 5));
        assert_eq!(statement_at(text, text.find('b').unwrap_or(0)), 1);
    }
}
