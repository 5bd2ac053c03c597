//! What a member says of messages.

use std::collections::BTreeMap;

use super::Member;

/// The numbers that a member got on a topic, in the order in which it got them.
pub(crate) async fn got(member: &mut Member, topic: &str) -> Vec<u64> {
    let beginning = format!("got {topic} ");
    let said = member.said().await;
    let texts = said
        .iter()
        .filter_map(|event| event.text.strip_prefix(&beginning));
    // `ORIGIN NUMBER CURSOR`
    let numbers = texts.filter_map(|text| text.split(' ').nth(1)?.parse().ok());
    numbers.collect()
}

/// The gaps that a member was told of on a topic, by cause: how many, and the sum of those whose size
/// is known.
pub(crate) async fn gaps(member: &mut Member, topic: &str) -> BTreeMap<String, (u64, u64)> {
    let beginning = format!("gap {topic} ");
    let mut gaps = BTreeMap::new();
    for event in member.said().await {
        let Some(text) = event.text.strip_prefix(&beginning) else {
            continue;
        };
        // `ORIGIN MISSING CAUSE`
        let mut words = text.split(' ').skip(1);
        let missing: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let (count, sum) = gaps
            .entry(words.next().unwrap_or("").to_owned())
            .or_insert((0, 0));
        *count += 1;
        *sum += missing;
    }
    gaps
}

/// Asserts that they rise: nothing came twice, nothing out of order.
pub(crate) fn rise(numbers: &[u64]) {
    let wrong: Vec<_> = numbers
        .windows(2)
        .filter(|pair| pair[0] >= pair[1])
        .collect();
    assert!(wrong.is_empty(), "twice, or out of order: {wrong:?}");
}
