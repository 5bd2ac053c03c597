//! Orders: words, and settings.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use coordinator_node::BoxError;

/// One order, such as `lead scheduler ttl=1000`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Order {
    words: Vec<String>,
    settings: BTreeMap<String, String>,
}

impl Order {
    pub(crate) fn parse(line: &str) -> Self {
        let mut order = Self::default();
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => {
                    order.settings.insert(name.to_owned(), value.to_owned());
                }
                None => order.words.push(word.to_owned()),
            }
        }
        order
    }

    /// What to do.
    pub(crate) fn verb(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// To what.
    pub(crate) fn subject(&self) -> Result<&str, BoxError> {
        let subject = self.words.get(1).map(String::as_str);
        subject.ok_or_else(|| format!("`{}` of what?", self.verb()).into())
    }

    /// The number behind the subject.
    pub(crate) fn count<T: FromStr>(&self) -> Result<T, BoxError> {
        let count = self.words.get(2).and_then(|word| word.parse().ok());
        count.ok_or_else(|| format!("`{}` how many?", self.verb()).into())
    }

    /// A setting.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// A setting that is a number.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, BoxError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text
            .parse()
            .map_err(|_| format!("{name} cannot be `{text}`"))?;
        Ok(Some(number))
    }

    /// A setting that is a number of milliseconds.
    pub(crate) fn span(&self, name: &str) -> Result<Option<Duration>, BoxError> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_words_and_settings() {
        let order = Order::parse("publish news 12 size=3");
        assert_eq!(
            (order.verb(), order.subject().ok()),
            ("publish", Some("news"))
        );
        assert_eq!(order.count::<u64>().ok(), Some(12));
        assert_eq!(order.number::<u64>("size").ok(), Some(Some(3)));
        assert_eq!(order.span("every").ok(), Some(None));
        assert!(order.count::<u8>().is_ok() && order.number::<u8>("size").is_ok());
        let bad = Order::parse("lead x ttl=long").span("ttl");
        assert_eq!(
            bad.expect_err("no number").to_string(),
            "ttl cannot be `long`"
        );
    }
}
