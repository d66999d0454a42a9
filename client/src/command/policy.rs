//! `rap policy`.

use std::{fs, path::Path};

use rap_proto::api::{
    ChangePolicy, Changed, MAX_API_BODY_BYTES, NewPolicy, Policy, PolicyDocument, PolicyRules,
};
use reqwest::Method;

use super::Context;
use crate::{
    args::{PolicyCommand, Rules},
    failure::{Exit, Failure},
    output::Row,
};

impl Row for Policy {
    const COLUMNS: &'static [&'static str] = &["NAME", "WHO", "WHAT"];

    fn cells(&self) -> Vec<String> {
        let named = |name: Option<String>, id: String| name.unwrap_or(id);
        let users = self
            .users
            .iter()
            .map(|user| named(user.name.as_ref().map(ToString::to_string), user.id.to_string()));
        let roles = self.roles.iter().map(|role| format!("every {role}"));
        let resources = self.resources.iter().map(|resource| {
            named(resource.name.as_ref().map(ToString::to_string), resource.id.to_string())
        });
        let kinds = self.kinds.iter().map(|kind| format!("every {kind}"));
        if let Some(document) = &self.document {
            let tests = format!("a document with {} tests", document.tests.len());
            return vec![self.name.to_string(), "as rules say".to_owned(), tests];
        }
        vec![
            self.name.to_string(),
            users.chain(roles).collect::<Vec<_>>().join(", "),
            resources.chain(kinds).collect::<Vec<_>>().join(", "),
        ]
    }
}

pub(super) async fn run(context: &Context, command: PolicyCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let base = format!("{}/policies", context.organization_path(&api).await?);
    match command {
        PolicyCommand::Ls => context.list(&api.list::<Policy>(&base, &[]).await?),
        PolicyCommand::Get { policy } => {
            context.one(&api.get::<Policy>(&format!("{base}/{policy}")).await?)
        }
        PolicyCommand::Create { name, rules } => {
            let body = NewPolicy { name, rules: Some(policy_rules(rules)), document: None };
            context.one(&api.post::<_, Policy>(&base, &body).await?)
        }
        PolicyCommand::Set { policy, rules } => {
            let path = format!("{base}/{policy}");
            let found: Policy = api.get(&path).await?;
            let body = ChangePolicy { rules: Some(policy_rules(rules)), document: None };
            let _: Changed =
                api.change(Method::PUT, &path, Some(found.revision), Some(&body)).await?;
            context.one(&api.get::<Policy>(&path).await?)
        }
        PolicyCommand::Write { name, file } => {
            let document = Some(read(&file)?);
            let path = format!("{base}/{name}");
            match api.get::<Policy>(&path).await {
                Ok(found) => {
                    let body = ChangePolicy { rules: None, document };
                    let revision = Some(found.revision);
                    let _: Changed = api.change(Method::PUT, &path, revision, Some(&body)).await?;
                }
                Err(failure) if failure.exit == Exit::NotFound => {
                    let body = NewPolicy { name, rules: None, document };
                    let _: Policy = api.post(&base, &body).await?;
                }
                Err(failure) => return Err(failure),
            }
            context.one(&api.get::<Policy>(&path).await?)
        }
        PolicyCommand::Rm { policy } => {
            let path = format!("{base}/{policy}");
            let found: Policy = api.get(&path).await?;
            api.delete(&path, Some(found.revision)).await?;
            context.did(&format!("{policy} is removed"))
        }
    }
}

fn policy_rules(rules: Rules) -> PolicyRules {
    let Rules { users, roles, resources, kinds } = rules;
    PolicyRules { users, roles, resources, kinds }
}

/// A document from a file: rules alone, or rules and tests.
fn read(file: &Path) -> Result<PolicyDocument, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::io(format!("{shown} cannot be read"), &error))?;
    if text.len() > MAX_API_BODY_BYTES {
        return Err(Failure::usage(format!("{shown} has more than {MAX_API_BODY_BYTES} bytes")));
    }
    if file.extension().is_some_and(|extension| extension == "cedar") {
        return Ok(PolicyDocument { text, tests: Vec::new() });
    }
    serde_yaml_ng::from_str(&text).map_err(|error| {
        Failure::usage(format!("{shown} is no policy document: {error}"))
            .hint("rap policy write --help shows one")
    })
}
