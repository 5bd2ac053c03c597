//! Scripts that run on the server: one for each operation, all or nothing, judged by the server's clock.
//!
//! A script's answer says what the *primary* has done. Replicas hear of it afterwards, so a fail-over may lose any answered script
//! of the last moments: a grant, a release, a swap, a position, a message. The scripts do not hide that; they make it harmless where it can be:
//!
//! - Those that grant or conclude look first whether the server remembers (`identity.lua`), and do neither for as long as a lost
//!   lease may be trusted (I2).
//! - Numbers come from the clock and never fall below it, so they rise although the last one is lost (K1).
//! - What cannot be made harmless is what the lost lease *guarded*. A lock says who may act, and is wrong for as long as its
//!   holder is mistaken; a token that is compared where the data is written (`fence_write.lua`) is never mistaken there.

use std::sync::OnceLock;

/// The clock, and helpers: before every script.
const PREAMBLE: &str = include_str!("../lua/preamble.lua");
/// What the store remembers, for those that ask.
const IDENTITY: &str = include_str!("../lua/identity.lua");

/// One script. Its first key is the identity of its hash tag.
#[derive(Debug)]
pub(crate) struct Script {
    name: &'static str,
    body: &'static str,
    remembers: bool,
    sha: OnceLock<String>,
}

impl Script {
    /// A script that grants something, or draws conclusions: it looks at what the store remembers.
    pub(crate) const fn new(name: &'static str, body: &'static str) -> Self {
        Self::of(name, body, true)
    }

    /// A script that is right whatever the store has forgotten.
    pub(crate) const fn plain(name: &'static str, body: &'static str) -> Self {
        Self::of(name, body, false)
    }

    const fn of(name: &'static str, body: &'static str, remembers: bool) -> Self {
        Self {
            name,
            body,
            remembers,
            sha: OnceLock::new(),
        }
    }

    /// For people.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it takes the constants of the namespace as its last arguments.
    pub(crate) fn remembers(&self) -> bool {
        self.remembers
    }

    /// Its text.
    pub(crate) fn text(&self) -> String {
        let identity = if self.remembers { IDENTITY } else { "" };
        [PREAMBLE, identity, self.body].concat()
    }

    /// The hash that the server knows it by.
    pub(crate) fn sha(&self) -> &str {
        let sha = || sha1_smol::Sha1::from(self.text()).digest().to_string();
        self.sha.get_or_init(sha)
    }
}
