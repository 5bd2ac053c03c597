//! Tests across crates, and of the documents.
