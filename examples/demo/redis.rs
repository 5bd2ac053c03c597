//! A run on Redis: in a namespace of its own.
//!
//! | module | its part |
//! |---|---|
//! | `projection` | the program of a user of the library: all that one writes to share such work |
//! | `books` | the keys that it writes to |
//! | `namespace` | what they are under |

mod books;
mod namespace;
mod projection;

pub(crate) use namespace::Namespace;
pub(crate) use projection::Desk;
