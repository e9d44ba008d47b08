//! One hash of names for all that outlives a process: the state, and the parts of the schedulers. It
//! depends on nothing but the name, so every version and every process agrees, which std's does not
//! promise.

/// FNV-1a, 64 bits: <https://www.rfc-editor.org/rfc/rfc9923>.
pub(crate) fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Enough of a name to tell it from a few dozen others; the whole would take up the document.
pub(crate) fn short_hash(name: &str) -> u32 {
    // The lower half.
    hash(name) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // The test vectors of its authors.
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(short_hash("foobar"), 0xf739_67e8);
    }
}
