//! The slot of a key.

/// So many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key, or of a channel: that of its hash tag, if it has one.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// What is between the first `{` and the next `}`, unless that is nothing.
fn tag(key: &[u8]) -> &[u8] {
    let mut parts = key.splitn(2, |byte| *byte == b'{');
    let behind = parts.nth(1).unwrap_or_default();
    match behind.iter().position(|byte| *byte == b'}') {
        Some(end) if end > 0 => behind.get(..end).unwrap_or(key),
        _ => key,
    }
}

/// CRC-16 with the polynomial 0x1021, from 0.
fn crc16(text: &[u8]) -> u16 {
    text.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As servers say with `CLUSTER KEYSLOT`.
    #[test]
    fn keys_have_the_slots_that_servers_say() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"somekey"), 11_058);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn a_hash_tag_decides_alone() {
        assert_eq!(slot(b"foo{hash_tag}"), slot(b"bar{hash_tag}"));
        assert_eq!(tag(b"a{b}c}"), b"b");
        assert_eq!(tag(b"{a{b}c}"), b"a{b");
        for whole in [&b"a{}b{c}"[..], b"a{b", b"}a{b", b"ab"] {
            assert_eq!(tag(whole), whole);
        }
    }
}
