//! The textual names of the vocabulary, and the one rule that all of them obey.

use std::fmt;
use std::sync::Arc;

/// The longest name a user may give, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 512;

/// The longest name a backend must accept, in bytes: a user's name behind its group, escaped.
pub const MAX_SCOPED_BYTES: usize = 3 * 1024 + 64;

/// A name that no store will take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadName {
    /// The name has no characters.
    #[error("the {what} name is empty: give it 1 to {MAX_NAME_BYTES} bytes")]
    Empty {
        /// What the name was meant for: "group", "member", …
        what: &'static str,
    },
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("the {what} name has {given} bytes, allowed are 1 to {MAX_NAME_BYTES}: `{start}…`")]
    TooLong {
        /// What the name was meant for.
        what: &'static str,
        /// Its length in bytes.
        given: usize,
        /// Its first characters.
        start: String,
    },
}

/// Checks a user's name: any text of 1 to [`MAX_NAME_BYTES`] bytes is one.
pub fn check_name(what: &'static str, name: &str) -> Result<(), BadName> {
    match name.len() {
        0 => Err(BadName::Empty { what }),
        1..=MAX_NAME_BYTES => Ok(()),
        given => Err(BadName::TooLong {
            what,
            given,
            start: name.chars().take(24).collect(),
        }),
    }
}

macro_rules! text_names {
    ($($(#[$doc:meta])* $name:ident = $what:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// Any text of 1 to 512 bytes; cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name with this text. The text is checked at first use, by [`Self::check`].
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether a store will take this name: 1 to [`MAX_NAME_BYTES`] bytes.
            pub fn check(&self) -> Result<(), BadName> {
                check_name($what, &self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&Self> for $name {
            fn from(name: &Self) -> Self {
                name.clone()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }
    )*};
}

text_names! {
    /// The fleet: the members that see each other. Everything else is named within a group.
    Group = "group";
    /// What a lease is taken on. Made by [`Key::scoped`] from a group, a kind and a user's name.
    Key = "key";
    /// The name of a member. Given by the user it is *static*: at most one live process has it.
    MemberId = "member";
    /// What a group splits into shards: `orders`, `sessions`, ….
    Keyspace = "keyspace";
    /// Names one store and its namespace, so that a token is never compared with another store's.
    StoreId = "store";
    /// Names what a store remembers. Another memory identity means: the store may have forgotten
    /// grants (rule I1), so old holders may still trust leases that it no longer knows.
    MemoryId = "memory";
}

impl Key {
    /// The key of `name` among the leases of one `kind` in `group`: `group/kind/name`.
    ///
    /// The group's own `/` and `%` are escaped, so that no two triples give the same key.
    pub fn scoped(group: &Group, kind: &str, name: &str) -> Self {
        Self::new(scoped(group, kind, name))
    }
}

/// `group/kind/name`, unambiguous for any texts as long as `kind` holds no `/`.
pub fn scoped(group: &Group, kind: &str, name: &str) -> String {
    let group = group.as_str().replace('%', "%25").replace('/', "%2F");
    format!("{group}/{kind}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_to_512_bytes() {
        assert_eq!(
            Group::from("").check(),
            Err(BadName::Empty { what: "group" })
        );
        assert_eq!(Group::from("x".repeat(512)).check(), Ok(()));
        let error = MemberId::from("é".repeat(257)).check().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("has 514 bytes, allowed are 1 to 512"),
            "{error}"
        );
    }

    #[test]
    fn scoped_keys_of_different_triples_differ() {
        let a = Key::scoped(&Group::from("a/lock"), "lock", "x");
        let b = Key::scoped(&Group::from("a"), "lock", "lock/x");
        let c = Key::scoped(&Group::from("a%2Flock"), "lock", "x");
        assert_eq!(b.as_str(), "a/lock/lock/x");
        assert!(a != b && a != c && b != c);
    }
}
