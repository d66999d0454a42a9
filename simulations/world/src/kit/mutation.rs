//! What every scenario's planted bugs have in common.

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A mistake that the world makes on purpose, in place of a shell that would make it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$doc])* $name,)*
        }

        impl Mutation {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        impl ::std::fmt::Display for Mutation {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for Mutation {
            type Err = $crate::kit::mutation::UnknownMutation;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut known = Self::ALL.iter().copied();
                known.find(|one| one.as_str() == text).ok_or($crate::kit::mutation::UnknownMutation)
            }
        }
    };
}
pub(crate) use mutations;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such planted bug")]
pub struct UnknownMutation;
