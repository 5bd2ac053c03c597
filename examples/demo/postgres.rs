//! A run on Postgres: in a schema of its own.
//!
//! | module | its part |
//! |---|---|
//! | `projection` | the program of a user of the library: all that one writes to share such work |
//! | `books`, `schema` | the tables, and the schema that they are in |

mod books;
mod projection;
mod schema;

pub(crate) use projection::Desk;
pub(crate) use schema::Schema;
