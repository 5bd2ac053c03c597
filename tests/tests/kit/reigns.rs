//! Who trusted to hold what, and when: the measure of overlap.

use std::time::Duration;

use super::Member;

/// From when until when a member trusted to hold something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reign {
    pub(crate) member: String,
    pub(crate) token: u64,
    pub(crate) from: Duration,
    /// The end of its trust, or of the process, whichever came first. Suspension ends neither.
    pub(crate) to: Duration,
    /// How it was lost, if it was.
    pub(crate) lost: Option<String>,
}

/// All reigns over one name, by their begin.
pub(crate) async fn reigns(
    members: impl IntoIterator<Item = &mut Member>,
    name: &str,
) -> Vec<Reign> {
    let mut all = Vec::new();
    for member in members {
        let (who, killed) = (member.name.clone(), member.killed);
        let mut mine = Vec::new();
        for event in member.said().await {
            note(&mut mine, &who, name, event.at, &event.text);
        }
        let cut = |mut reign: Reign| {
            reign.to = killed.map_or(reign.to, |killed| reign.to.min(killed));
            reign
        };
        all.extend(mine.into_iter().map(cut));
    }
    all.sort_by_key(|reign| reign.from);
    all
}

fn note(reigns: &mut Vec<Reign>, member: &str, name: &str, at: Duration, text: &str) {
    let mut words = text.split(' ');
    let (verb, what) = (words.next(), words.next());
    let token = words.next().and_then(|word| word.parse().ok());
    let (Some(verb), Some(token), true) = (verb, token, what == Some(name)) else {
        return;
    };
    let rest = words.next();
    let left = || Duration::from_nanos(rest.and_then(|word| word.parse().ok()).unwrap_or(0));
    if verb == "elected" {
        reigns.push(Reign {
            member: member.to_owned(),
            token,
            from: at,
            to: at + left(),
            lost: None,
        });
        return;
    }
    let Some(reign) = reigns.iter_mut().rfind(|reign| reign.token == token) else {
        return;
    };
    match verb {
        "acts" => reign.to = at + left(),
        "lost" => {
            reign.to = reign.to.min(at);
            reign.lost = rest.map(str::to_owned);
        }
        "stopped" => reign.to = reign.to.min(at),
        _ => {}
    }
}

/// How long two members trusted at once, at worst.
pub(crate) fn longest_overlap(reigns: &[Reign]) -> Duration {
    let pairs = reigns.iter().enumerate().flat_map(|(place, one)| {
        let later = reigns[place + 1..].iter();
        later.map(move |other| {
            one.to
                .min(other.to)
                .saturating_sub(one.from.max(other.from))
        })
    });
    pairs.max().unwrap_or_default()
}

/// Asserts that no two overlap and that tokens rise, of at least so many.
pub(crate) fn one_at_a_time(reigns: &[Reign], at_least: usize) {
    assert!(reigns.len() >= at_least, "only {reigns:?}");
    let overlap = longest_overlap(reigns);
    assert!(overlap.is_zero(), "two for {overlap:?}: {reigns:#?}");
    let rise = reigns.windows(2).all(|pair| pair[0].token < pair[1].token);
    assert!(rise, "tokens do not rise: {reigns:#?}");
}

#[test]
fn reigns_are_read_from_what_was_said() {
    let second = Duration::from_secs(1);
    let read = |member: &str, lines: &[(u32, &str)]| {
        let mut reigns = Vec::new();
        for (at, text) in lines {
            note(&mut reigns, member, "x", second * *at, text);
        }
        reigns
    };
    let mut all = read(
        "a",
        &[
            (1, "elected x 7 2000000000"),
            (2, "acts x 7 2000000000"),
            (2, "acts y 7 9000000000"),
            (3, "lost x 7 expired"),
        ],
    );
    all.extend(read(
        "b",
        &[(4, "elected x 8 1000000000"), (4, "stopped x 8")],
    ));
    assert_eq!((all[0].to, all[1].to), (second * 3, second * 4));
    assert_eq!(all[0].lost.as_deref(), Some("expired"));
    one_at_a_time(&all, 2);
    all[0].to = second * 5;
    all[1].to = second * 9;
    assert_eq!(longest_overlap(&all), second);
}
