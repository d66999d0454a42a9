//! `rap can`.

use rap_proto::{Verdict, api::Decided};

use super::Context;
use crate::{
    args::{Can, Question},
    failure::{Exit, Failure},
};

pub(super) async fn run(context: &Context, arguments: Can) -> Result<(), Failure> {
    let api = context.api()?;
    let Can { user, question } = arguments;
    let member = format!("{}/members/{user}", context.organization_path(&api).await?);
    let mut query = Vec::new();
    let (path, what) = match question {
        Question::Reach { resource, at, as_of } => {
            query.extend(at.map(|at| ("at", at.to_string())));
            query.extend(as_of.map(|position| ("as_of", position.to_string())));
            (format!("{member}/reach/{resource}"), format!("reach {resource}"))
        }
        Question::Do { action, on, as_of } => {
            if !is_action(&action) {
                let what = "an action is written as in resource.create";
                return Err(Failure::usage(what).hint("the OpenAPI document lists them"));
            }
            query.extend(on.map(|resource| ("resource", resource.to_string())));
            query.extend(as_of.map(|position| ("as_of", position.to_string())));
            (format!("{member}/may/{action}"), format!("do {action}"))
        }
    };
    let decided: Decided = api.get_with(&path, &query).await?;
    context.one(&decided)?;
    match decided.verdict {
        Verdict::Permit => Ok(()),
        Verdict::Forbid => Err(Failure::new(Exit::Denied, format!("{user} may not {what}"))),
    }
}

/// Words with points between them: nothing that means anything to a path.
fn is_action(text: &str) -> bool {
    let letters = |word: &str| word.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    text.split('.').all(|word| !word.is_empty() && letters(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_cannot_lead_to_another_path() {
        assert!(is_action("resource.create") && is_action("vpn_connection.drain"));
        for wrong in ["", ".", "..", "a/b", "../users", "a?b", "A.b", "a..b"] {
            assert!(!is_action(wrong), "{wrong}");
        }
    }
}
