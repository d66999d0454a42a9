//! Why a lane that looked for a direct path through NATs found none.

use crate::term::terms;

terms! {
    /// Why a round came to nothing.
    Failure, "failure of a hole":
    /// No relay saw this node's socket.
    Unseen = "unseen",
    /// None saw the egress' port, or none where this node would knock.
    FarUnseen = "far_unseen",
    /// The egress did not answer.
    Unanswered = "unanswered",
    /// It does not know of holes.
    Unsupported = "unsupported",
    /// Both sides have a NAT that gives each destination another port.
    BothSymmetric = "both_symmetric",
    /// No knock came through.
    Silent = "silent",
    /// One did, but the lane did not move there.
    Unproven = "unproven",
    /// It was in use, and works no more.
    Lost = "lost",
    /// A direct path works, and takes longer than the one in use.
    NotBetter = "not_better",
}

impl Failure {
    /// For people. `who` looked: an entry is `this node` where it speaks of itself.
    pub fn in_words(self, who: &str) -> String {
        match self {
            Self::Unseen => format!("no relay says where it sees {who}"),
            Self::FarUnseen => "no relay says where it sees the egress".to_owned(),
            Self::Unanswered => "the egress did not answer".to_owned(),
            Self::Unsupported => "the egress is of a release that makes none".to_owned(),
            Self::BothSymmetric => "the NATs on both sides are symmetric".to_owned(),
            Self::Silent => "no knock came through".to_owned(),
            Self::Unproven => "a knock came through, and the lane did not".to_owned(),
            Self::Lost => "the last one was lost".to_owned(),
            Self::NotBetter => "a direct path is not better".to_owned(),
        }
    }
}

/// The same of a word that a node said. One of a later release stays as it is.
pub fn failure_in_words(word: &str, who: &str) -> String {
    word.parse::<Failure>().map_or_else(|_| word.to_owned(), |failure| failure.in_words(who))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_failure_has_words_of_its_own_and_a_later_one_stays_as_it_is() {
        let said: BTreeSet<_> = Failure::ALL.iter().map(|one| one.in_words("the entry")).collect();
        assert_eq!(said.len(), Failure::ALL.len());
        assert_eq!(
            failure_in_words("unseen", "this node"),
            "no relay says where it sees this node"
        );
        assert_eq!(failure_in_words("of_a_later_release", "this node"), "of_a_later_release");
    }
}
