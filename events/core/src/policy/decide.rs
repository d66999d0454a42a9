use rap_proto::{OrganizationId, Timestamp};

use super::{
    MAX_DOCUMENT_BYTES, MAX_DOCUMENT_TESTS, MAX_POLICY_ENTRIES, MAX_TEST_NAME_BYTES, Policy,
    PolicyChanged, PolicyCommand, PolicyCreated, PolicyDocument, PolicyEvent, PolicyRejection,
    PolicyRemoved, PolicyRewritten, PolicySpec, PolicyWritten,
};
use crate::{Aggregate, aggregate::is_plain_text};

impl Aggregate for Policy {
    const CATEGORY: &'static str = "policy";
    type Command = PolicyCommand;
    type Event = PolicyEvent;
    type Rejection = PolicyRejection;

    fn decide(
        &self,
        command: PolicyCommand,
        _: Timestamp,
    ) -> Result<Vec<PolicyEvent>, PolicyRejection> {
        match (command, self.organization) {
            (PolicyCommand::Create { organization, name, spec }, None) => {
                check_spec(&spec)?;
                Ok(vec![PolicyCreated { organization, name, spec }.into()])
            }
            (PolicyCommand::Write { organization, name, document }, None) => {
                check_document(&document)?;
                Ok(vec![PolicyWritten { organization, name, document }.into()])
            }
            (PolicyCommand::Create { .. } | PolicyCommand::Write { .. }, Some(_)) => {
                Err(PolicyRejection::AlreadyExists)
            }
            (_, None) => Err(PolicyRejection::NotFound),
            (PolicyCommand::Change { .. } | PolicyCommand::Rewrite { .. }, Some(_))
                if self.removed =>
            {
                Err(PolicyRejection::NotFound)
            }
            (PolicyCommand::Change { spec }, Some(_)) => {
                check_spec(&spec)?;
                if self.document.is_none() && spec == self.spec {
                    return Ok(Vec::new());
                }
                Ok(vec![PolicyChanged { spec }.into()])
            }
            (PolicyCommand::Rewrite { document }, Some(_)) => {
                check_document(&document)?;
                if self.document.as_ref() == Some(&document) {
                    return Ok(Vec::new());
                }
                Ok(vec![PolicyRewritten { document }.into()])
            }
            (PolicyCommand::Remove, Some(_)) if self.removed => Ok(Vec::new()),
            (PolicyCommand::Remove, Some(_)) => Ok(vec![PolicyRemoved {}.into()]),
        }
    }

    fn evolve(&mut self, event: &PolicyEvent) {
        match event {
            PolicyEvent::Created(created) => {
                self.organization = Some(created.organization);
                self.name = Some(created.name.clone());
                self.spec = created.spec.clone();
            }
            PolicyEvent::Changed(changed) => {
                self.spec = changed.spec.clone();
                self.document = None;
            }
            PolicyEvent::Written(written) => {
                self.organization = Some(written.organization);
                self.name = Some(written.name.clone());
                self.document = Some(written.document.clone());
            }
            PolicyEvent::Rewritten(rewritten) => {
                self.spec = PolicySpec::default();
                self.document = Some(rewritten.document.clone());
            }
            PolicyEvent::Removed(_) => self.removed = true,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }
}

fn check_spec(spec: &PolicySpec) -> Result<(), PolicyRejection> {
    if spec.users.is_empty() && spec.roles.is_empty() {
        return Err(PolicyRejection::MatchesNobody);
    }
    if spec.resources.is_empty() && spec.kinds.is_empty() {
        return Err(PolicyRejection::MatchesNothing);
    }
    if spec.users.len() > MAX_POLICY_ENTRIES || spec.resources.len() > MAX_POLICY_ENTRIES {
        return Err(PolicyRejection::TooManyEntries);
    }
    Ok(())
}

/// Whether the rules make sense is for whoever knows the language; here only their form counts.
fn check_document(document: &PolicyDocument) -> Result<(), PolicyRejection> {
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    let length = 1..=MAX_DOCUMENT_BYTES;
    if !length.contains(&document.text.len()) || !document.text.chars().all(plain) {
        return Err(PolicyRejection::DocumentInvalid);
    }
    let described = |name: &str| name.len() <= MAX_TEST_NAME_BYTES && is_plain_text(name);
    let tests = &document.tests;
    let sound = tests.iter().all(|test| described(&test.name) && described(&test.action));
    if tests.len() > MAX_DOCUMENT_TESTS || !sound {
        return Err(PolicyRejection::TestsInvalid);
    }
    Ok(())
}
