//! What a server's answer is, and what its errors mean.

use bytes::Bytes;
use fred::types::Resp3Frame as Frame;

use crate::client::Value;
use crate::client::words::known;
use crate::trouble::Trouble;

/// The text of an answer that is an error.
pub(super) fn error_of(frame: &Frame) -> Option<String> {
    match frame {
        Frame::SimpleError { data, .. } => Some(data.to_string()),
        Frame::BlobError { data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
        _ => None,
    }
}

/// What a server means by this, and whether its connection is to be given up.
pub(super) fn said(text: &str) -> (Trouble, bool) {
    let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
    let known = known(code, detail, &text);
    known.unwrap_or_else(|| (Trouble::rejected(text.to_owned()), false))
}

/// What an error means that comes from the library: of a typed command it may be what the server said.
pub(super) fn failed(error: fred::error::Error) -> (Trouble, bool) {
    let code = code_of(error.details());
    // The library breaks the connection off for this one, and tells everybody else's call the same.
    if code.is_empty() || code == "CLUSTERDOWN" {
        return (Trouble::Indeterminate(error.into()), true);
    }
    said(error.details())
}

/// The first word, if a server says such words: in capitals.
pub(super) fn code_of(text: &str) -> &str {
    let code = text.split(' ').next().unwrap_or_default();
    let is_code = code.len() > 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { code } else { "" }
}

/// An answer, whichever protocol it came by.
pub(super) fn read(frame: Frame) -> Result<Value, Trouble> {
    if let Some(error) = error_of(&frame) {
        return Err(said(&error).0);
    }
    Ok(match frame {
        Frame::Null => Value::Nil,
        Frame::Number { data, .. } => Value::Int(data),
        Frame::Boolean { data, .. } => Value::Int(data.into()),
        Frame::BlobString { data, .. }
        | Frame::VerbatimString { data, .. }
        | Frame::BigNumber { data, .. } => Value::Bytes(data),
        Frame::Double { data, .. } => Value::Bytes(Bytes::from(data.to_string())),
        Frame::SimpleString { data, .. } => {
            Value::Status(String::from_utf8_lossy(&data).into_owned())
        }
        Frame::Array { data, .. } => list(data)?,
        Frame::Set { data, .. } => list(data)?,
        Frame::Map { data, .. } => list(data.into_iter().flat_map(|(key, value)| [key, value]))?,
        other => return Err(Trouble::unreadable(&format!("{other:?}"))),
    })
}

fn list(frames: impl IntoIterator<Item = Frame>) -> Result<Value, Trouble> {
    let list: Result<_, _> = frames.into_iter().map(read).collect();
    list.map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_from_what_the_library_says() {
        assert_eq!(code_of("NOPERM this user"), "NOPERM");
        assert_eq!(code_of("ERR no"), "ERR");
        for library in ["Connection closed.", "Request timed out.", "IO", ""] {
            assert_eq!(code_of(library), "");
        }
    }

    #[test]
    fn errors_are_of_the_class_that_callers_may_act_by() {
        use fred::error::{Error, ErrorKind};

        let (trouble, is_broken) = said("READONLY You can't write");
        assert!(matches!(trouble, Trouble::Unavailable(_)) && is_broken);
        let (trouble, is_broken) = said("OTHERTTL 30000");
        assert!(matches!(trouble, Trouble::OtherMaxTtl { stored } if stored == "30000"));
        assert!(!is_broken);
        let (trouble, is_broken) = said("WRONGTYPE Operation");
        assert!(matches!(trouble, Trouble::Rejected(_)) && !is_broken);
        for cut in ["Connection closed.", "CLUSTERDOWN The cluster is down"] {
            let (trouble, is_broken) = failed(Error::new(ErrorKind::IO, cut));
            assert!(matches!(trouble, Trouble::Indeterminate(_)) && is_broken);
        }
    }
}
