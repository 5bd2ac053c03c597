//! What a server answers, read from a stream (RESP2).

use std::io::{self, BufRead, ErrorKind};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// There is nothing.
    Nil,
    /// A word of the protocol's own, such as `OK`.
    Status(String),
    /// A refusal.
    Error(String),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several answers.
    List(Vec<Reply>),
}

impl Reply {
    /// Reads one, whole.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Some(rest) = line.strip_suffix("\r\n") else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        let (kind, rest) = rest.split_at_checked(1).ok_or_else(garbled)?;
        match kind {
            "+" => Ok(Self::Status(rest.to_owned())),
            "-" => Ok(Self::Error(rest.to_owned())),
            ":" => rest.parse().map(Self::Number).map_err(|_| garbled()),
            "$" => match length(rest)? {
                None => Ok(Self::Nil),
                Some(length) => {
                    let mut bytes = vec![0; length + 2];
                    from.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Ok(Self::Bytes(bytes))
                }
            },
            "*" => match length(rest)? {
                None => Ok(Self::Nil),
                Some(length) => (0..length)
                    .map(|_| Self::read(from))
                    .collect::<io::Result<_>>()
                    .map(Self::List),
            },
            _ => Err(garbled()),
        }
    }

    /// Its text, or nothing where it has none.
    pub fn text(&self) -> String {
        match self {
            Self::Nil | Self::List(_) => String::new(),
            Self::Status(text) | Self::Error(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// What it lists; nothing where it is no list.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(replies) => replies,
            _ => &[],
        }
    }
}

fn length(text: &str) -> io::Result<Option<usize>> {
    match text {
        "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_| garbled()),
    }
}

fn garbled() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "that is no answer of a Redis")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut text: &[u8]) -> io::Result<Reply> {
        Reply::read(&mut text)
    }

    #[test]
    fn every_kind_of_answer_is_read() {
        let list = read(b"*4\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*0\r\n").unwrap();
        let expected = [
            Reply::Number(-7),
            Reply::Bytes(b"a\r\n".to_vec()),
            Reply::Nil,
            Reply::List(Vec::new()),
        ];
        assert_eq!(list.list(), expected);
        assert_eq!(read(b"+OK\r\n").unwrap(), Reply::Status("OK".to_owned()));
        let refused = read(b"-ERR no\r\n").unwrap();
        assert_eq!(refused, Reply::Error("ERR no".to_owned()));
    }

    #[test]
    fn what_is_cut_off_or_no_answer_is_an_error() {
        assert!(read(b"").is_err());
        assert!(read(b"$3\r\na").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
