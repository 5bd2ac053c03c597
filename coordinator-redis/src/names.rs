//! Keys and channels as the server takes them: legible, and different for different names.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::ConnectError;

/// The longest namespace, in bytes.
const MAX_NAMESPACE_BYTES: usize = 64;

/// What all keys of one namespace begin with.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    namespace: Arc<str>,
}

impl Names {
    /// A namespace of 1 to 64 letters, digits, `-`, `_` and `.`.
    pub(crate) fn new(namespace: &str) -> Result<Self, ConnectError> {
        let letters = namespace
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if letters && (1..=MAX_NAMESPACE_BYTES).contains(&namespace.len()) {
            return Ok(Self {
                namespace: namespace.into(),
            });
        }
        Err(ConnectError::BadSetting {
            setting: "namespace",
            given: namespace.to_owned(),
            wanted: format!("1 to {MAX_NAMESPACE_BYTES} of a-z, A-Z, 0-9, `-`, `_` and `.`"),
        })
    }

    /// The hash tag of a group: all that belongs to it lies on one node of a cluster.
    pub(crate) fn tag(&self, group: &str) -> Tag {
        // A brace would end the tag.
        let group = group.replace('%', "%25").replace('}', "%7D");
        Tag(format!("{{{}:{group}}}", self.namespace).into())
    }

    /// The hash tag of what belongs to no group.
    pub(crate) fn own_tag(&self) -> Tag {
        self.tag("")
    }

    /// The sorted set of all hash tags in use, by when each was cleaned.
    pub(crate) fn tags_key(&self) -> Bytes {
        self.own_tag().key("tags", "")
    }

    /// The command that gives a user all rights which are needed in the namespace. What fenced writes of the application write to comes
    /// on top of it.
    pub(crate) fn rights(&self, user: &str) -> String {
        let namespace = &self.namespace;
        format!(
            "ACL SETUSER {user} ~{{{namespace}:* &{{{namespace}:* &{namespace}:wake:* +@all -@dangerous +info \
             +config|get +cluster +role"
        )
    }

    /// A channel that one process listens on.
    pub(crate) fn own_channel(&self, random: u128) -> Bytes {
        format!("{}:wake:{random:032x}", self.namespace).into()
    }

    /// What the echo channels of one process end with.
    pub(crate) fn echo(random: u128) -> String {
        format!(":echo:{random:032x}")
    }

    /// The channel that has the hash tag of another, and this end.
    pub(crate) fn beside(channel: &Bytes, end: &str) -> Bytes {
        let tag = channel.split_inclusive(|byte| *byte == b'}').next();
        [tag.unwrap_or_default(), end.as_bytes()].concat().into()
    }
}

/// A hash tag, braces included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(Arc<str>);

impl Tag {
    /// The tag that was written so.
    pub(crate) fn read(text: &str) -> Self {
        Self(text.into())
    }

    /// The key of one thing of a kind. Kinds have no colon, so no two pairs give the same key.
    pub(crate) fn key(&self, kind: &str, rest: &str) -> Bytes {
        format!("{}:{kind}:{rest}", self.0).into()
    }

    /// What the store remembers.
    pub(crate) fn identity(&self) -> Bytes {
        self.key("identity", "")
    }

    /// The channel on which changes of the group are told.
    pub(crate) fn channel(&self) -> Bytes {
        format!("{}:bell", self.0).into()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_groups_differ_and_a_brace_ends_no_tag() {
        let names = Names::new("ns").unwrap();
        let tags: Vec<String> = ["a", "a}", "a%7D", "a:b", ""]
            .iter()
            .map(|group| names.tag(group).to_string())
            .collect();
        assert_eq!(
            tags,
            ["{ns:a}", "{ns:a%7D}", "{ns:a%257D}", "{ns:a:b}", "{ns:}"]
        );
        assert_eq!(
            names.tag("a").key("lock", "a/lock/x"),
            "{ns:a}:lock:a/lock/x"
        );
    }

    #[test]
    fn rights_are_a_command_for_a_user() {
        let rights = Names::new("ns").unwrap().rights("guest");
        assert!(
            rights.starts_with("ACL SETUSER guest ~{ns:* &{ns:* &ns:wake:* "),
            "{rights}"
        );
    }

    #[test]
    fn a_namespace_needs_no_care() {
        for bad in ["", "a b", "a{b", "a:b", "é", &"x".repeat(65)] {
            assert!(Names::new(bad).is_err(), "{bad}");
        }
    }
}
