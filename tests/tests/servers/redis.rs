//! Redis servers: stopped, crashed, suspended, promoted, watched by Sentinels, and in a cluster.

mod many;
mod single;
mod spaces;
