//! A checksum over a row: SQLite writes none into the file, and a flipped bit in a key would free an assertion.

/// FNV-1a, 64 bits. Every step is a bijection, so one wrong byte always shows. No protection against intent: whoever
/// can write the file holds the private keys as well.
pub(super) fn of(parts: &[&[u8]]) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a_and_sees_every_flipped_bit() {
        assert_eq!(of(&[b"foo", b"bar"]).cast_unsigned(), 0x8594_4171_f739_67e8);
        let row = *b"some row";
        for bit in 0..row.len() * 8 {
            let mut spoilt = row;
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(of(&[&row]), of(&[&spoilt]));
        }
    }
}
