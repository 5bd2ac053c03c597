//! What a script answers, read.

use std::time::Duration;

use bytes::Bytes;
use coordinator_core::{FencingToken, Instance, NUMBER_LIMIT};

use crate::client::Value;
use crate::trouble::Trouble;

/// Reads a part of an answer as what it must be.
pub(crate) trait Read {
    fn list(&self) -> Result<&[Value], Trouble>;
    fn bytes(&self) -> Result<&Bytes, Trouble>;

    fn text(&self) -> Result<&str, Trouble> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Trouble::unreadable("no text"))
    }

    /// A number, as such or in decimal.
    fn number(&self) -> Result<u64, Trouble>;

    /// A number that may be missing: an empty text.
    fn maybe_number(&self) -> Result<Option<u64>, Trouble> {
        match self.bytes() {
            Ok(text) if text.is_empty() => Ok(None),
            Ok(_) | Err(_) => self.number().map(Some),
        }
    }

    fn token(&self) -> Result<FencingToken, Trouble> {
        self.number().map(FencingToken::new)
    }

    /// A span in microseconds.
    fn span(&self) -> Result<Duration, Trouble> {
        self.number().map(Duration::from_micros)
    }

    /// An instance in hexadecimal digits; an empty text is none.
    fn instance(&self) -> Result<Instance, Trouble> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(Instance::from_bytes([0; 16]));
        }
        text.parse().map_err(|_| Trouble::unreadable(text))
    }
}

impl Read for Value {
    fn list(&self) -> Result<&[Value], Trouble> {
        match self {
            Self::Array(list) => Ok(list),
            other => Err(unlike("a list", other)),
        }
    }

    fn bytes(&self) -> Result<&Bytes, Trouble> {
        match self {
            Self::Bytes(text) => Ok(text),
            other => Err(unlike("a text", other)),
        }
    }

    fn number(&self) -> Result<u64, Trouble> {
        match self {
            Self::Int(number) => u64::try_from(*number).map_err(|_| unlike("a number", self)),
            other => {
                let text = other.text()?;
                text.parse().map_err(|_| Trouble::unreadable(text))
            }
        }
    }
}

fn unlike(wanted: &str, found: &Value) -> Trouble {
    let found: String = format!("{found:?}").chars().take(120).collect();
    Trouble::unreadable(&format!("{found}, where {wanted} was expected"))
}

/// A verdict and what comes with it. A bare text is a verdict alone.
pub(crate) fn verdict(answer: &Value) -> Result<(&str, &[Value]), Trouble> {
    match answer {
        Value::Array(list) => match list.split_first() {
            Some((verdict, rest)) => Ok((verdict.text()?, rest)),
            None => Err(Trouble::unreadable("nothing")),
        },
        other => Ok((other.text()?, &[])),
    }
}

/// The part of an answer at one place.
pub(crate) fn part(parts: &[Value], place: usize) -> Result<&Value, Trouble> {
    parts
        .get(place)
        .ok_or_else(|| Trouble::unreadable("an answer that is cut off"))
}

/// How long a quarantine lasts: the verdict's one part, in milliseconds.
pub(crate) fn quarantined(parts: &[Value]) -> Trouble {
    match part(parts, 0).and_then(Read::number) {
        Ok(milliseconds) => Trouble::Quarantined(Duration::from_millis(milliseconds)),
        Err(trouble) => trouble,
    }
}

/// Numbers end before JSON and Lua lose them (K2).
pub(crate) fn numbers_ended() -> Trouble {
    Trouble::rejected(format!("the next number would reach {NUMBER_LIMIT}"))
}

/// An instance as scripts take it.
pub(crate) fn hex(instance: Instance) -> String {
    format!("{:032x}", u128::from_be_bytes(instance.to_bytes()))
}

/// A span as scripts take it: whole microseconds, never less than asked for.
pub(crate) fn microseconds(span: Duration) -> String {
    span.as_nanos().div_ceil(1_000).to_string()
}

/// A number that may be missing, as scripts take it.
pub(crate) fn or_empty(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_as_such_or_in_decimal() {
        assert_eq!(Value::Int(7).number().unwrap(), 7);
        let text = Value::Bytes(Bytes::from_static(b"9007199254740991"));
        assert_eq!(text.number().unwrap(), NUMBER_LIMIT - 1);
        let none = Value::Bytes(Bytes::new());
        assert_eq!(none.maybe_number().unwrap(), None);
        assert!(none.number().is_err());
        assert!(Value::Int(-1).number().is_err());
        assert!(Value::Nil.maybe_number().is_err());
    }

    #[test]
    fn an_instance_is_32_digits() {
        let instance = Instance::from_bytes([0xab; 16]);
        let text = Value::Bytes(hex(instance).into());
        assert_eq!(hex(instance).len(), 32);
        assert_eq!(text.instance().unwrap(), instance);
    }
}
