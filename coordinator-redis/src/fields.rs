//! A list of texts as one: `length:text` each, whatever the texts hold. Scripts and clients both read it.

use bytes::Bytes;

/// Writes a list.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        self.0.extend_from_slice(text.len().to_string().as_bytes());
        self.0.push(b':');
        self.0.extend_from_slice(text);
        self
    }

    pub(crate) fn done(self) -> Bytes {
        self.0.into()
    }
}

/// Reads a list. `None`: it is none.
pub(crate) fn split(mut text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut list = Vec::new();
    while !text.is_empty() {
        let colon = text.iter().position(|byte| *byte == b':')?;
        let length = std::str::from_utf8(text.get(..colon)?).ok()?;
        let (field, rest) = text
            .get(colon + 1..)?
            .split_at_checked(length.parse().ok()?)?;
        list.push(field);
        text = rest;
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_whatever_it_holds() {
        let texts: [&[u8]; 5] = [b"a", b"", b"3:abc", b"\0\xff:", "é".as_bytes()];
        let mut fields = Fields::new();
        for text in texts {
            fields.push(text);
        }
        let written = fields.done();
        assert_eq!(split(&written).as_deref(), Some(&texts[..]));
        assert_eq!(split(b""), Some(vec![]));
    }

    #[test]
    fn what_was_cut_off_is_no_list() {
        for text in ["1", "2:a", "x:a", "1:ab", "-1:a"] {
            assert_eq!(split(text.as_bytes()), None, "{text}");
        }
    }
}
