//! Settings that go to another thread.

pub(crate) struct Settings(Vec<(String, String)>);

impl From<&[(&str, &str)]> for Settings {
    fn from(settings: &[(&str, &str)]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self(settings.iter().map(owned).collect())
    }
}

impl Settings {
    pub(crate) fn borrowed(&self) -> Vec<(&str, &str)> {
        let settings = self.0.iter();
        settings
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}
