//! Names that nobody else uses, for what a test has in a shared server.

use std::env;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

/// So much of a test's name is in those.
const NAME_LETTERS: usize = 20;

/// Begins with the test's name, for whoever looks into the server meanwhile.
pub(crate) fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let thread = thread::current();
    let test = thread.name().and_then(|name| name.rsplit("::").next());
    let test = test.map_or_else(program_name, str::to_owned);
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let born = age.map_or(0, |age| age.as_millis() % 0x1000_0000);
    let (process, count) = (process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{}_{process}_{born:x}_{count}", plain(&test))
}

fn program_name() -> String {
    let program = env::current_exe().ok();
    let name = program.as_deref().and_then(|program| program.file_stem());
    name.map_or_else(
        || "test".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The beginning of a name, of letters that need no quotes.
fn plain(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        'a'..='z' | '0'..='9' => letter,
        'A'..='Z' => letter.to_ascii_lowercase(),
        _ => '_',
    });
    let mut plain = String::from("t_");
    plain.extend(letters.take(NAME_LETTERS));
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_need_no_quotes() {
        let (one, other) = (fresh_name(), fresh_name());
        assert_ne!(one, other);
        assert!(one.len() <= 48, "{one}");
        let plain = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_');
        assert!(one.chars().all(plain), "{one}");
        assert!(one.starts_with("t_names_differ_and_nee"), "{one}");
    }
}
